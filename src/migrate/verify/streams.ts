/**
 * Compares two streams: their entries, last id and counters, and their groups with consumers and pending entries. Read
 * in pieces, whatever their size. Which counters there are depends on the release (entries-added and others: 7.0); what
 * one side does not tell is not compared.
 */
import type { Replies, ReplyValue } from '../../resp/reply-batch.ts';
import { elementsPerPiece } from './pieces.ts';
import { askBoth, digestOf, type Sides, timeOf } from './side.ts';
import { textOf } from './values.ts';

/** Of XINFO STREAM. Not among them: radix tree sizes, which depend on how the stream came to be. */
const STREAM_FIELDS = ['length', 'last-generated-id', 'max-deleted-entry-id', 'entries-added', 'groups'];
/** Of XINFO GROUPS; `lag` follows from them. */
const GROUP_FIELDS = ['name', 'last-delivered-id', 'pending', 'entries-read'];
const PENDING_AT_ONCE = 1000;
/** How far the times of two answers to one question may be off. */
const CLOCK_MS = 1000;

/** Entries in the first request, of which the size is known only for all of them together. */
const FIRST_ENTRIES = 1000;

/** Null where both sides hold the same, else what was found, for Difference.state. */
export async function compareStreams(
  sides: Sides,
  key: Buffer,
  bytes: number | null,
): Promise<string | null> {
  const count = elementsPerPiece(bytes, FIRST_ENTRIES);
  const [left, right] = await askBoth(
    sides,
    ['XINFO', 'STREAM', key],
    ['XINFO', 'GROUPS', key],
    ['XRANGE', key, '-', '+', 'COUNT', count],
  );
  const [here, there] = [mapOf(left.value(0)), mapOf(right.value(0))];
  if (!isSameIn(STREAM_FIELDS, here, there)) return stateOf(STREAM_FIELDS, here, there);
  if (!left.isSame(2, right)) return digestOf(left.raw(2), right.raw(2));
  const length = Number(textOf(here.get('length')));
  const state =
    length > count
      ? await compareEntries(sides, key, lastId(left, 2), elementsPerPiece(bytes, length))
      : null;
  return state ?? compareGroups(sides, key, groupsOf(left.value(1)), groupsOf(right.value(1)));
}

/** The entries behind this id. */
async function compareEntries(
  sides: Sides,
  key: Buffer,
  behind: string,
  count: number,
): Promise<string | null> {
  for (let last = behind; ; ) {
    const [left, right] = await askBoth(sides, ['XRANGE', key, idBehind(last), '+', 'COUNT', count]);
    if (!left.isSame(0, right)) return digestOf(left.raw(0), right.raw(0));
    if (left.elements(0) < count) return null;
    last = lastId(left, 0);
  }
}

function lastId(replies: Replies, at: number): string {
  return textOf(rowsOf(replies.value(at)).at(-1)?.[0]);
}

type Group = ReadonlyMap<string, ReplyValue>;

async function compareGroups(
  sides: Sides,
  key: Buffer,
  here: ReadonlyMap<string, Group>,
  there: ReadonlyMap<string, Group>,
): Promise<string | null> {
  if (here.size !== there.size) return `${here.size} groups, ${there.size}`;
  for (const [name, group] of here) {
    const other = there.get(name);
    if (other === undefined) return digestOf('group', name);
    if (!isSameIn(GROUP_FIELDS, group, other)) return stateOf(GROUP_FIELDS, group, other);
    const state = await compareMembers(sides, key, Buffer.from(name, 'latin1'));
    if (state !== null) return state;
  }
  return null;
}

/** The consumers of a group by their names (when they were last seen each server says for itself), and what they hold. */
async function compareMembers(sides: Sides, key: Buffer, group: Buffer): Promise<string | null> {
  for (let from = '-'; ; ) {
    const replies = await askBoth(
      sides,
      ['XINFO', 'CONSUMERS', key, group],
      ['TIME'],
      ['XPENDING', key, group, from, '+', PENDING_AT_ONCE],
    );
    const [consumers, others] = replies.map((each) => namesOf(each.value(0)));
    if (consumers !== others) return digestOf(consumers ?? '', others ?? '');
    const [here, there] = replies.map((each) => pendingOf(each.value(2), timeOf(each, 1)));
    const state = differsInPending(here ?? [], there ?? [], Math.max(sides.ttlToleranceMs, CLOCK_MS));
    if (state !== null) return state;
    const last = here?.at(-1);
    if (last === undefined || replies[0].elements(2) < PENDING_AT_ONCE) return null;
    from = idBehind(last.id);
  }
}

function namesOf(consumers: ReplyValue): string {
  return rowsOf(consumers)
    .map((row) => textOf(mapOf(row).get('name')))
    .sort()
    .map((name) => `${name.length}:${name}`)
    .join();
}

interface Pending {
  readonly id: string;
  /** Consumer and number of deliveries. */
  readonly held: string;
  /** Unix time in ms, true to a few ms: servers tell how long ago it was. */
  readonly deliveredAt: number;
}

function pendingOf(reply: ReplyValue, nowMs: number): Pending[] {
  return rowsOf(reply).map(([id, consumer, idleMs, deliveries]) => ({
    id: textOf(id),
    held: `${textOf(consumer).length}:${textOf(consumer)} ${textOf(deliveries)}`,
    deliveredAt: nowMs - Number(idleMs),
  }));
}

function differsInPending(
  here: readonly Pending[],
  there: readonly Pending[],
  toleranceMs: number,
): string | null {
  const [left, right] = [here, there].map((entries) => entries.map(({ id, held }) => `${id} ${held}`).join());
  if (left !== right) return digestOf(left ?? '', right ?? '');
  const other = here.find(
    ({ deliveredAt }, at) => Math.abs(deliveredAt - (there[at]?.deliveredAt ?? 0)) > toleranceMs,
  );
  return other === undefined ? null : `delivery ${other.id}`;
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
