/**
 * Compares two streams: their entries, last id and counters, and their groups with consumers and pending entries. Read
 * in pieces, whatever their size. Which counters there are depends on the release (entries-added and others: 7.0); what
 * one side does not tell is not compared.
 */
import type { ReplyValue } from '../../resp/reply-batch.ts';
import type { BulkCommand } from './bulk-connection.ts';
import { elementsPerPiece } from './pieces.ts';
import { askBoth, digestOf, type Side, type Sides, timeOf } from './side.ts';
import { textOf } from './values.ts';

/** Of XINFO STREAM. Not among them: radix tree sizes, which depend on how the stream came to be. */
const STREAM_FIELDS = ['length', 'last-generated-id', 'max-deleted-entry-id', 'entries-added', 'groups'];
/** Of XINFO GROUPS; `lag` follows from them. */
const GROUP_FIELDS = ['name', 'last-delivered-id', 'pending', 'entries-read'];
const PENDING_AT_ONCE = 1000;

/** Null where both sides hold the same, else what was found, for Difference.state. */
export async function compareStreams(
  sides: Sides,
  key: Buffer,
  bytes: number | null,
): Promise<string | null> {
  const [left, right] = await askBoth(sides, ['XINFO', 'STREAM', key]);
  const [here, there] = [mapOf(left.value(0)), mapOf(right.value(0))];
  if (!isSameIn(STREAM_FIELDS, here, there)) return stateOf(STREAM_FIELDS, here, there);
  return (
    (await compareEntries(sides, key, elementsPerPiece(bytes, Number(textOf(here.get('length')))))) ??
    (Number(textOf(here.get('groups'))) > 0 ? compareGroups(sides, key) : null)
  );
}

async function compareEntries(sides: Sides, key: Buffer, count: number): Promise<string | null> {
  for (let from = '-'; ; ) {
    const [left, right] = await askBoth(sides, ['XRANGE', key, from, '+', 'COUNT', count]);
    if (!left.isSame(0, right)) return digestOf(left.raw(0), right.raw(0));
    const entries = rowsOf(left.value(0));
    if (entries.length < count) return null;
    from = idBehind(textOf(entries.at(-1)?.[0]));
  }
}

async function compareGroups(sides: Sides, key: Buffer): Promise<string | null> {
  const [left, right] = await askBoth(sides, ['XINFO', 'GROUPS', key]);
  const [here, there] = [groupsOf(left.value(0)), groupsOf(right.value(0))];
  if (here.size !== there.size) return `${here.size} groups, ${there.size}`;
  for (const [name, group] of here) {
    const other = there.get(name);
    if (other === undefined) return digestOf('group', name);
    if (!isSameIn(GROUP_FIELDS, group, other)) return stateOf(GROUP_FIELDS, group, other);
    const state =
      (await compareConsumers(sides, key, Buffer.from(name, 'latin1'))) ??
      (await comparePending(sides, key, Buffer.from(name, 'latin1')));
    if (state !== null) return state;
  }
  return null;
}

/** By their names: when they were last seen each server says for itself. */
async function compareConsumers(sides: Sides, key: Buffer, group: Buffer): Promise<string | null> {
  const [here, there] = (await askBoth(sides, ['XINFO', 'CONSUMERS', key, group])).map((replies) =>
    rowsOf(replies.value(0))
      .map((row) => textOf(mapOf(row).get('name')))
      .sort()
      .map((name) => `${name.length}:${name}`)
      .join(),
  );
  return here === there ? null : digestOf(here ?? '', there ?? '');
}

interface Pending {
  readonly id: string;
  /** Consumer and number of deliveries. */
  readonly held: string;
  /** Unix time in ms, true to a few ms: servers tell how long ago it was. */
  readonly deliveredAt: number;
}

async function comparePending(sides: Sides, key: Buffer, group: Buffer): Promise<string | null> {
  for (let from = '-'; ; ) {
    const command = ['XPENDING', key, group, from, '+', PENDING_AT_ONCE] as const;
    const [here, there] = await Promise.all([
      pendingOf(sides.source, command),
      pendingOf(sides.target, command),
    ]);
    const [left, right] = [here, there].map((entries) =>
      entries.map(({ id, held }) => `${id} ${held}`).join(),
    );
    if (left !== right) return digestOf(left ?? '', right ?? '');
    const late = here.find(
      ({ deliveredAt }, at) =>
        Math.abs(deliveredAt - (there[at]?.deliveredAt ?? 0)) > Math.max(sides.ttlToleranceMs, CLOCK_MS),
    );
    if (late !== undefined) return `delivery ${late.id}`;
    if (here.length < PENDING_AT_ONCE) return null;
    from = idBehind(here.at(-1)!.id);
  }
}

/** How far the times of two answers to one question may be off. */
const CLOCK_MS = 1000;

async function pendingOf(side: Side, command: BulkCommand): Promise<Pending[]> {
  const replies = await side.connection.commands(['TIME'], command);
  const nowMs = timeOf(replies, 0);
  return rowsOf(replies.value(1)).map(([id, consumer, idleMs, deliveries]) => ({
    id: textOf(id),
    held: `${textOf(consumer).length}:${textOf(consumer)} ${textOf(deliveries)}`,
    deliveredAt: nowMs - Number(idleMs),
  }));
}

/** The smallest id above this one: `(id` is known from 6.2 on only. */
function idBehind(id: string): string {
  const [ms = '0', sequence = '0'] = id.split('-');
  const next = BigInt(sequence) + 1n;
  return next > 0xffffffffffffffffn ? `${BigInt(ms) + 1n}-0` : `${ms}-${next}`;
}

function rowsOf(reply: ReplyValue): (readonly ReplyValue[])[] {
  return Array.isArray(reply) ? reply.filter((row) => Array.isArray(row)) : [];
}

/** Names and values in turn. */
function mapOf(reply: ReplyValue): Map<string, ReplyValue> {
  const map = new Map<string, ReplyValue>();
  const words = Array.isArray(reply) ? (reply as readonly ReplyValue[]) : [];
  for (let at = 0; at + 1 < words.length; at += 2) map.set(textOf(words[at]), words[at + 1]!);
  return map;
}

function groupsOf(reply: ReplyValue): Map<string, Map<string, ReplyValue>> {
  return new Map(rowsOf(reply).map((row) => [textOf(mapOf(row).get('name')), mapOf(row)]));
}

function isSameIn(
  fields: readonly string[],
  here: ReadonlyMap<string, ReplyValue>,
  there: ReadonlyMap<string, ReplyValue>,
): boolean {
  return fields.every(
    (field) => !here.has(field) || !there.has(field) || textOf(here.get(field)) === textOf(there.get(field)),
  );
}

function stateOf(
  fields: readonly string[],
  here: ReadonlyMap<string, ReplyValue>,
  there: ReadonlyMap<string, ReplyValue>,
): string {
  return digestOf(...[here, there].flatMap((map) => fields.map((field) => textOf(map.get(field)))));
}
