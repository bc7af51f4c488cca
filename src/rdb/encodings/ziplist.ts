/**
 * Ziplist: what listpacks were before 7.0, in small hashes, zsets and lists and in the nodes of quicklists.
 * Layout in protocol.md 3.4: u32 bytes, u32 offset of the last entry, u16 count, entries, 0xFF; an entry is the
 * length of the entry before it, its encoding and its data.
 */
import { damage } from './damage.ts';
import { readInt24, type VisitElement, visitInt64, visitInteger } from './element.ts';

const HEADER_BYTES = 10;
const END = 0xff;
/** In the count field: more than 65,534 elements, only walking tells how many. */
const COUNT_UNKNOWN = 0xffff;
/** In an entry's first byte: the previous length did not fit into a byte, a u32 follows. */
const LONG_PREVIOUS = 254;

/**
 * Visits the elements of the ziplist that fills `bytes[start..end)`, in order. Elements may have been visited
 * already when damage is found: where that matters, walk once with a visitor that does nothing.
 * @param base RDB offset of `bytes[0]`, for errors
 * @returns the number of elements
 * @throws RdbFormatError where any length, count or back reference is not as it should be
 */
export function forEachZiplist(
  bytes: Buffer,
  start: number,
  end: number,
  visit: VisitElement,
  base: number,
): number {
  const wrong = (problem: string, at: number) => damage('ziplist', problem, at - start, base + start);
  if (end - start <= HEADER_BYTES) throw wrong('too short', end);
  if (bytes.readUInt32LE(start) !== end - start) throw wrong('its length field is not its length', start);
  const stop = end - 1;
  if (bytes[stop] !== END) throw wrong('no end mark', stop);

  let elements = 0;
  let at = start + HEADER_BYTES;
  let lastEntryAt = at;
  let previousBytes = 0;
  while (at < stop) {
    const entryAt = at;
    let previous = bytes[at++]!;
    if (previous === END) throw wrong('an end mark before the end', entryAt);
    if (previous === LONG_PREVIOUS) {
      if (4 > stop - at) throw wrong('an entry reaches over the end', entryAt);
      previous = bytes.readUInt32LE(at);
      at += 4;
    }
    if (previous !== previousBytes) throw wrong('an entry that does not know the length before it', entryAt);

    // Where the entry ends early this is the end mark, which is no encoding and refused below.
    const first = bytes[at]!;
    if (first < 0xc0) {
      let headerBytes = 1;
      let textBytes = first & 0x3f;
      if (first >= 0x80) {
        headerBytes = 5;
        if (headerBytes > stop - at) throw wrong('an entry reaches over the end', entryAt);
        textBytes = bytes.readUInt32BE(at + 1);
      } else if (first >= 0x40) {
        headerBytes = 2;
        textBytes = (textBytes << 8) | bytes[at + 1]!;
      }
      at += headerBytes;
      if (textBytes > stop - at) throw wrong('an entry reaches over the end', entryAt);
      visit(bytes, at, at + textBytes);
      at += textBytes;
    } else {
      const integerBytes = widthOfInteger(first);
      if (integerBytes === null) throw wrong(`unknown encoding 0x${first.toString(16)}`, entryAt);
      at += 1;
      if (integerBytes > stop - at) throw wrong('an entry reaches over the end', entryAt);
      visitEncodedInteger(bytes, at, first, visit);
      at += integerBytes;
    }
    elements++;
    previousBytes = at - entryAt;
    lastEntryAt = entryAt;
  }

  if (bytes.readUInt32LE(start + 4) !== lastEntryAt - start) {
    throw wrong('its tail field does not point at the last entry', start + 4);
  }
  const count = bytes.readUInt16LE(start + 8);
  if (count !== COUNT_UNKNOWN && count !== elements) {
    throw wrong('its count field is not its count', start + 8);
  }
  return elements;
}

/** Data bytes behind an integer's encoding byte; null: no encoding. */
function widthOfInteger(first: number): number | null {
  switch (first) {
    case 0xc0:
      return 2;
    case 0xd0:
      return 4;
    case 0xe0:
      return 8;
    case 0xf0:
      return 3;
    case 0xfe:
      return 1;
    default:
      return isImmediate(first) ? 0 : null;
  }
}

/** F1 to FD hold the integers 0 to 12 themselves (since 2.6). */
function isImmediate(first: number): boolean {
  return first >= 0xf1 && first <= 0xfd;
}

function visitEncodedInteger(bytes: Buffer, at: number, first: number, visit: VisitElement): void {
  if (isImmediate(first)) visitInteger(first - 0xf1, visit);
  else if (first === 0xfe) visitInteger(bytes.readInt8(at), visit);
  else if (first === 0xc0) visitInteger(bytes.readInt16LE(at), visit);
  else if (first === 0xf0) visitInteger(readInt24(bytes, at), visit);
  else if (first === 0xd0) visitInteger(bytes.readInt32LE(at), visit);
  else visitInt64(bytes, at, visit);
}
