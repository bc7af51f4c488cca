/**
 * Compares two streams: their entries, last id and counters, and their groups with consumers and pending entries. Read
 * in pieces, whatever their size. Which counters there are depends on the release (entries-added and others: 7.0); what
 * one side does not tell is not compared.
 */
import type { Replies, ReplyValue } from '../../resp/reply-batch.ts';
import type { BulkCommand } from './bulk-connection.ts';
import { elementsPerPiece } from './pieces.ts';
import { askBoth, digestOf, type Sides, timeOf } from './side.ts';
import { textOf } from './values.ts';

/** Of XINFO STREAM. Not among them: radix tree sizes, which depend on how the stream came to be. */
const STREAM_FIELDS = ['length', 'last-generated-id', 'max-deleted-entry-id', 'entries-added', 'groups'];
/** Of XINFO GROUPS; `lag` follows from them. */
const GROUP_FIELDS = ['name', 'last-delivered-id', 'pending', 'entries-read'];
const PENDING_AT_ONCE = 1000;
const GROUPS_AT_ONCE = 16;
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
  if (!left.isSame(0, right)) {
    const [here, there] = [wordsOf(left.value(0)), wordsOf(right.value(0))];
    if (!isSameIn(STREAM_FIELDS, here, there)) return stateOf(STREAM_FIELDS, here, there);
  }
  if (!left.isSame(2, right)) return digestOf(left.raw(2), right.raw(2));
  if (left.elements(2) === count) {
    const length = Number(textOf(fieldOf(wordsOf(left.value(0)), 'length')));
    const state = await compareEntries(sides, key, lastId(left, 2), elementsPerPiece(bytes, length));
    if (state !== null) return state;
  }
  const groups = rowsOf(left.value(1));
  const state = left.isSame(1, right) ? null : differsInGroups(groups, rowsOf(right.value(1)));
  return state ?? compareMembers(sides, key, groups.map(nameOf));
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

/** Their names, places and counters. Every release tells of them in the order of their names. */
function differsInGroups(here: readonly Words[], there: readonly Words[]): string | null {
  if (here.length !== there.length) return `${here.length} groups, ${there.length}`;
  for (const [at, group] of here.entries()) {
    const other = wordsOf(there[at] ?? null);
    if (!isSameIn(GROUP_FIELDS, group, other)) return stateOf(GROUP_FIELDS, group, other);
  }
  return null;
}

/** The consumers of groups by their names (when they were last seen each server says for itself), and what they hold. */
async function compareMembers(sides: Sides, key: Buffer, groups: readonly Buffer[]): Promise<string | null> {
  for (let from = 0; from < groups.length; from += GROUPS_AT_ONCE) {
    const some = groups.slice(from, from + GROUPS_AT_ONCE);
    const [left, right] = await askBoth(
      sides,
      ['TIME'],
      ...some.flatMap((group): BulkCommand[] => [
        ['XINFO', 'CONSUMERS', key, group],
        ['XPENDING', key, group, '-', '+', PENDING_AT_ONCE],
      ]),
    );
    for (const [index, group] of some.entries()) {
      const [consumers, pending] = [1 + 2 * index, 2 + 2 * index];
      const [names, others] = [namesOf(left.value(consumers)), namesOf(right.value(consumers))];
      if (names !== others) return digestOf(names, others);
      const state =
        differsInPending(sides, pendingOf(left, pending, 0), pendingOf(right, pending, 0)) ??
        (await comparePendingBehind(sides, key, group, left, pending));
      if (state !== null) return state;
    }
  }
  return null;
}

/** What is pending behind the page that reply `at` is. */
async function comparePendingBehind(
  sides: Sides,
  key: Buffer,
  group: Buffer,
  page: Replies,
  at: number,
): Promise<string | null> {
  for (let [last, place] = [page, at]; last.elements(place) === PENDING_AT_ONCE; place = 1) {
    const from = idBehind(lastId(last, place));
    const [left, right] = await askBoth(
      sides,
      ['TIME'],
      ['XPENDING', key, group, from, '+', PENDING_AT_ONCE],
    );
    const state = differsInPending(sides, pendingOf(left, 1, 0), pendingOf(right, 1, 0));
    if (state !== null) return state;
    last = left;
  }
  return null;
}

function namesOf(consumers: ReplyValue): string {
  return rowsOf(consumers)
    .map((row) => textOf(nameOf(row)))
    .sort()
    .map((name) => `${name.length}:${name}`)
    .join();
}

/** Rows of XPENDING: id, consumer, for how long it has been held (ms), number of deliveries. */
interface Pending {
  readonly rows: readonly Words[];
  /** Of the server when it was asked: Unix time in ms. */
  readonly nowMs: number;
}

function pendingOf(replies: Replies, at: number, timeAt: number): Pending {
  return { rows: rowsOf(replies.value(at)), nowMs: timeOf(replies, timeAt) };
}

function differsInPending(sides: Sides, here: Pending, there: Pending): string | null {
  const toleranceMs = Math.max(sides.ttlToleranceMs, CLOCK_MS);
  const isSameHold = (row: Words, other: Words | undefined): boolean =>
    other !== undefined && [0, 1, 3].every((word) => isSameWord(row[word], other[word]));
  if (
    here.rows.length !== there.rows.length ||
    !here.rows.every((row, at) => isSameHold(row, there.rows[at]))
  ) {
    const held = ({ rows }: Pending): string[] =>
      rows.flatMap(([id, consumer, , deliveries]) => [textOf(id), textOf(consumer), textOf(deliveries)]);
    return digestOf(...held(here), '', ...held(there));
  }
  const deliveredAt = ({ rows, nowMs }: Pending, at: number): number => nowMs - Number(rows[at]?.[2]);
  const late = here.rows.findIndex(
    (_, at) => !(Math.abs(deliveredAt(here, at) - deliveredAt(there, at)) <= toleranceMs),
  );
  return late < 0 ? null : `delivery ${textOf(here.rows[late]?.[0])}`;
}

/** The smallest id above this one: `(id` is known from 6.2 on only. */
function idBehind(id: string): string {
  const [ms = '0', sequence = '0'] = id.split('-');
  const next = BigInt(sequence) + 1n;
  return next > 0xffffffffffffffffn ? `${BigInt(ms) + 1n}-0` : `${ms}-${next}`;
}

/** The elements of an array; of XINFO, names and values in turn. */
type Words = readonly ReplyValue[];

function wordsOf(reply: ReplyValue): Words {
  return Array.isArray(reply) ? (reply as Words) : [];
}

function rowsOf(reply: ReplyValue): readonly Words[] {
  return wordsOf(reply).filter((row) => Array.isArray(row));
}

/** undefined where the server has no such field. */
function fieldOf(words: Words, field: string): ReplyValue | undefined {
  for (let at = 0; at + 1 < words.length; at += 2) {
    const name = words[at];
    if (Buffer.isBuffer(name) && name.length === field.length && name.toString('latin1') === field) {
      return words[at + 1];
    }
  }
  return undefined;
}

/** Of a group or consumer. */
function nameOf(words: Words): Buffer {
  const name = fieldOf(words, 'name');
  return Buffer.isBuffer(name) ? name : Buffer.alloc(0);
}

function isSameWord(here: ReplyValue | undefined, there: ReplyValue | undefined): boolean {
  return Buffer.isBuffer(here) && Buffer.isBuffer(there) ? here.equals(there) : here === there;
}

function isSameIn(fields: readonly string[], here: Words, there: Words): boolean {
  return fields.every((field) => {
    const [value, other] = [fieldOf(here, field), fieldOf(there, field)];
    return value === undefined || other === undefined || isSameWord(value, other);
  });
}

function stateOf(fields: readonly string[], here: Words, there: Words): string {
  return digestOf(...[here, there].flatMap((words) => fields.map((field) => textOf(fieldOf(words, field)))));
}
