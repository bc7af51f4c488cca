/**
 * Whether two replies hold the same value, whatever the encodings of the servers: sets and hashes have no order, scores
 * are written with other digits by other releases, a HyperLogLog is dense here and sparse there. Pure.
 */
import type { ReplyValue } from '../../resp/reply-batch.ts';
import { registersOf } from './hyperloglog.ts';
import { type KeyCommand, keyCommand } from './key-command.ts';

/** Reads a whole value of this type. Streams are read by streams.ts. */
export function readCommand(type: string): KeyCommand {
  return READS.get(type) ?? DUMP;
}

const READS: ReadonlyMap<string, KeyCommand> = new Map([
  ['string', keyCommand('GET')],
  ['list', keyCommand('LRANGE', '0', '-1')],
  ['set', keyCommand('SMEMBERS')],
  ['zset', keyCommand('ZRANGE', '0', '-1', 'WITHSCORES')],
  ['hash', keyCommand('HGETALL')],
]);
/** For types of modules and of later releases. */
const DUMP = keyCommand('DUMP');

/** For replies to readCommand() that are not the same bytes. */
export function isSameValue(type: string, here: ReplyValue, there: ReplyValue): boolean {
  switch (type) {
    case 'string':
      return isBuffer(here) && isBuffer(there) && isSameString(here, there);
    case 'list':
      return false;
    case 'set':
      return sameTexts(strings(here).sort(), strings(there).sort());
    case 'zset':
      return isSameScored(here, there);
    case 'hash':
      return sameTexts(sortedPairs(strings(here)), sortedPairs(strings(there)));
    default:
      return isBuffer(here) && isBuffer(there) && withoutFooter(here).equals(withoutFooter(there));
  }
}

/** Members and scores in turn, as ZRANGE … WITHSCORES sends them. Their order is that of the scores, on every server. */
export function isSameScored(here: ReplyValue, there: ReplyValue): boolean {
  const [left, right] = [strings(here), strings(there)];
  if (left.length !== right.length) return false;
  return left.every((text, at) => {
    const other = right[at]!;
    return text === other || (at % 2 === 1 && scoreOf(text) === scoreOf(other));
  });
}

/** True also for two HyperLogLogs with the same registers: their form depends on settings (hll-sparse-max-bytes). */
export function isSameString(here: Buffer, there: Buffer): boolean {
  if (here.equals(there)) return true;
  const registers = registersOf(here);
  return registers !== null && registersOf(there)?.equals(registers) === true;
}

/** The strings of an array, as latin1, which keeps every byte; other replies as their text. */
export function strings(reply: ReplyValue): string[] {
  return (Array.isArray(reply) ? (reply as readonly ReplyValue[]) : []).map(textOf);
}

/** One reply as text: every byte of a string is kept. */
export function textOf(reply: ReplyValue | undefined): string {
  return isBuffer(reply) ? reply.toString('latin1') : String(reply);
}

function isBuffer(reply: ReplyValue | undefined): reply is Buffer {
  return Buffer.isBuffer(reply);
}

function sameTexts(here: readonly string[], there: readonly string[]): boolean {
  return here.length === there.length && here.every((text, at) => text === there[at]);
}

/** Fields and values in turn, in the order of the fields. */
function sortedPairs(words: readonly string[]): string[] {
  const values = new Map<string, string>();
  for (let at = 0; at + 1 < words.length; at += 2) values.set(words[at]!, words[at + 1]!);
  return [...values.keys()].sort().flatMap((field) => [field, values.get(field)!]);
}

/** `-0` is `0`: small sorted sets keep no sign of it. */
function scoreOf(text: string): number {
  if (text === 'inf') return Number.POSITIVE_INFINITY;
  return text === '-inf' ? Number.NEGATIVE_INFINITY : Number(text) + 0;
}

/** A payload of DUMP without RDB version and checksum. */
function withoutFooter(payload: Buffer): Buffer {
  return payload.subarray(0, -10);
}
