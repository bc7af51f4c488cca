/**
 * Listpack: the compact container of small hashes, zsets and sets, of list nodes and of stream nodes since 7.0
 * (streams: 5.0). Layout in protocol.md 3.4: u32 bytes, u16 count, entries, 0xFF; an entry is its encoding, its
 * data and the length of the two, to be read backwards.
 */
import { damage } from './damage.ts';
import { readInt24, type VisitElement, visitInt64, visitInteger } from './element.ts';

const HEADER_BYTES = 6;
const END = 0xff;
/** In the count field: more than 65,534 elements, only walking tells how many. */
const COUNT_UNKNOWN = 0xffff;

/** Data bytes behind the encoding bytes F1 (int16), F2 (int24), F3 (int32), F4 (int64). */
const INTEGER_BYTES = [2, 3, 4, 8] as const;

/**
 * Visits the elements of the listpack that fills `bytes[start..end)`, in order. Elements may have been visited
 * already when damage is found: where that matters, walk once with a visitor that does nothing.
 * @param base RDB offset of `bytes[0]`, for errors
 * @returns the number of elements
 * @throws RdbFormatError where any length, count or back reference is not as it should be
 */
export function forEachListpack(
  bytes: Buffer,
  start: number,
  end: number,
  visit: VisitElement,
  base: number,
): number {
  const wrong = (problem: string, at: number) => damage('listpack', problem, at - start, base + start);
  if (end - start <= HEADER_BYTES) throw wrong('too short', end);
  if (bytes.readUInt32LE(start) !== end - start) throw wrong('its length field is not its length', start);
  const stop = end - 1;
  if (bytes[stop] !== END) throw wrong('no end mark', stop);

  let elements = 0;
  let at = start + HEADER_BYTES;
  while (at < stop) {
    const first = bytes[at]!;
    let headerBytes = 1;
    let dataBytes = 0;
    let isText = false;
    if (first < 0x80) {
      // 0xxxxxxx: the integer is in the byte itself
    } else if (first < 0xc0) {
      isText = true;
      dataBytes = first & 0x3f;
    } else if (first < 0xe0) {
      dataBytes = 1;
    } else if (first < 0xf0) {
      isText = true;
      headerBytes = 2;
      dataBytes = ((first & 0x0f) << 8) | bytes[at + 1]!;
    } else if (first === 0xf0) {
      isText = true;
      headerBytes = 5;
      if (headerBytes > stop - at) throw wrong('an entry reaches over the end', at);
      dataBytes = bytes.readUInt32LE(at + 1);
    } else {
      const integerBytes = INTEGER_BYTES[first - 0xf1];
      if (integerBytes === undefined) throw wrong(`unknown encoding 0x${first.toString(16)}`, at);
      dataBytes = integerBytes;
    }

    const entryBytes = headerBytes + dataBytes;
    const backlenAt = at + entryBytes;
    const backlenBytes = widthOfBacklen(entryBytes);
    if (backlenBytes > stop - backlenAt) throw wrong('an entry reaches over the end', at);
    if (!isBacklen(bytes, backlenAt, backlenBytes, entryBytes)) {
      throw wrong('an entry whose two lengths differ', at);
    }
    if (isText) visit(bytes, at + headerBytes, backlenAt);
    else visitEncodedInteger(bytes, at, first, visit);
    elements++;
    at = backlenAt + backlenBytes;
  }

  const count = bytes.readUInt16LE(start + 4);
  if (count !== COUNT_UNKNOWN && count !== elements) {
    throw wrong('its count field is not its count', start + 4);
  }
  return elements;
}

function visitEncodedInteger(bytes: Buffer, at: number, first: number, visit: VisitElement): void {
  if (first < 0x80) visitInteger(first, visit);
  // 110xxxxx xxxxxxxx: 13 bits, the topmost is the sign
  else if (first < 0xe0) visitInteger((((first << 8) | bytes[at + 1]!) << 19) >> 19, visit);
  else if (first === 0xf1) visitInteger(bytes.readInt16LE(at + 1), visit);
  else if (first === 0xf2) visitInteger(readInt24(bytes, at + 1), visit);
  else if (first === 0xf3) visitInteger(bytes.readInt32LE(at + 1), visit);
  else visitInt64(bytes, at + 1, visit);
}

/**
 * Bytes that the backward length takes. The bounds are Redis' own (lpEncodeBacklen, 5.0 to 8.4): one step wider
 * already at 2^14 - 1, 2^21 - 1 and 2^28 - 1, where one more would still fit.
 */
export function widthOfBacklen(entryBytes: number): number {
  if (entryBytes <= 127) return 1;
  if (entryBytes < 16_383) return 2;
  if (entryBytes < 2_097_151) return 3;
  if (entryBytes < 268_435_455) return 4;
  return 5;
}

/** True where `value` stands at `at`, 7 bits to a byte, highest first, each byte but the first marked. */
function isBacklen(bytes: Buffer, at: number, width: number, value: number): boolean {
  let rest = value;
  for (let i = width - 1; i > 0; i--) {
    if (bytes[at + i] !== ((rest % 128) | 0x80)) return false;
    rest = Math.floor(rest / 128);
  }
  return bytes[at] === rest;
}
