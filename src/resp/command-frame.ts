/**
 * Finds where the commands of a replication stream begin and end, without touching their arguments. Canonical
 * form is an array of bulk strings; sources up to 2.6 also send inline lines (`select 5`, protocol.md 1.14).
 */
import { SourceError } from '../core/errors.ts';

/** The last command that scanCommand() found. Module-level on purpose: nothing is allocated per command. */
export const frame = {
  /** Number of words; 0 for an empty line. */
  argumentCount: 0,
  nameStart: 0,
  nameEnd: 0,
  inline: false,
  /** After a scan that came to -1: bytes from the command's start that are needed at least. */
  needed: 0,
  /** After scanArgument(): where the argument's bytes begin. */
  bodyStart: 0,
};

const STAR = 0x2a;
const DOLLAR = 0x24;
const CR = 13;
const LF = 10;
const LONGEST_HEADER = 32;
const LONGEST_INLINE = 64 * 1024;
const MOST_ARGUMENTS = 2 ** 31;
const LONGEST_ARGUMENT = 2 ** 40;
/** Far above any command's name, which has to be in view before anything is done with the command. */
const LONGEST_NAME = 1024;

let numberEnd = 0;

/**
 * The position behind the command at `pos`, or -1 where it is not complete.
 * @param base offset in the stream of buf[0], for errors
 * @throws SourceError `stream-garbage`
 */
export function scanCommand(buf: Buffer, pos: number, end: number, base: number): number {
  if (pos >= end) return incomplete(1);
  if (buf[pos] !== STAR) return scanInline(buf, pos, end, base);
  const count = scanNumber(buf, pos + 1, end, base);
  if (count < 0) return incomplete(end - pos + 1);
  if (count === 0 || count > MOST_ARGUMENTS) throw garbage(`a command of ${count} words`, base + pos);
  frame.inline = false;
  frame.argumentCount = count;
  let at = numberEnd;
  for (let i = 0; i < count; i++) {
    const length = scanArgument(buf, at, end, base);
    if (length < 0) return incomplete(Math.max(at, end) + 1 - pos);
    const body = frame.bodyStart;
    if (i === 0) {
      if (length > LONGEST_NAME) throw garbage(`a command's name of ${length} bytes`, base + at);
      frame.nameStart = body;
      frame.nameEnd = body + length;
    }
    at = body + length + 2;
    if (at > end) return incomplete(at - pos);
    if (buf[at - 2] !== CR) throw garbage('an argument is longer than announced', base + at - 2);
  }
  return at;
}

/**
 * The header (`$<length>`) of the argument at `pos`: the length of its body, which begins at `frame.bodyStart`; -1
 * where bytes are missing.
 * @throws SourceError `stream-garbage`
 */
export function scanArgument(buf: Buffer, pos: number, end: number, base: number): number {
  if (pos >= end) return -1;
  if (buf[pos] !== DOLLAR) throw garbage(`byte ${buf[pos]} where an argument should begin`, base + pos);
  const length = scanNumber(buf, pos + 1, end, base);
  if (length > LONGEST_ARGUMENT) throw garbage(`an argument of ${length} bytes`, base + pos);
  frame.bodyStart = numberEnd;
  return length;
}

/**
 * A decimal number with its CRLF at `pos`; -1 where bytes are missing. `numberEnd` is the position behind it.
 */
function scanNumber(buf: Buffer, pos: number, end: number, base: number): number {
  let value = 0;
  let at = pos;
  for (; at < end; at++) {
    const digit = buf[at]! - 48;
    if (digit < 0 || digit > 9) break;
    value = value * 10 + digit;
    if (at - pos > LONGEST_HEADER) throw garbage('a number without end', base + pos);
  }
  if (at >= end) return -1;
  // in the order in which bytes arrive: the error is the same however they are cut
  if (at === pos || buf[at] !== CR) throw garbage(`byte ${buf[at]} in a number`, base + at);
  if (at + 2 > end) return -1;
  if (buf[at + 1] !== LF) throw garbage(`byte ${buf[at + 1]} in a number`, base + at + 1);
  numberEnd = at + 2;
  return value;
}

function scanInline(buf: Buffer, pos: number, end: number, base: number): number {
  const first = buf[pos]!;
  const isLetter = (first | 0x20) >= 0x61 && (first | 0x20) <= 0x7a;
  if (first !== LF && first !== CR && !isLetter) {
    throw garbage(`byte ${first} where a command should begin`, base + pos);
  }
  const found = buf.indexOf(LF, pos);
  const lineEnd = found < 0 || found >= end ? end : found;
  if (lineEnd - pos > LONGEST_INLINE) throw garbage('an inline command without end', base + pos);
  if (lineEnd === end) return incomplete(end - pos + 1);
  frame.inline = true;
  let textEnd = lineEnd;
  if (textEnd > pos && buf[textEnd - 1] === CR) textEnd--;
  let nameEnd = pos;
  while (nameEnd < textEnd && buf[nameEnd] !== 0x20) nameEnd++;
  frame.nameStart = pos;
  frame.nameEnd = nameEnd;
  frame.argumentCount = textEnd === pos ? 0 : buf.toString('latin1', pos, textEnd).split(/ +/).length;
  return lineEnd + 1;
}

function incomplete(needed: number): -1 {
  frame.needed = needed;
  return -1;
}

/** Bytes at `offset` that no server sends. */
export function garbage(what: string, offset: number): SourceError {
  return new SourceError(`the source's stream holds ${what} at offset ${offset}`, {
    code: 'stream-garbage',
    hint: 'bytes were damaged on the way, or a proxy speaks: connect to the server itself and start again',
    recovery: 'resync',
  });
}
