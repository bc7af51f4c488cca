/**
 * Zipmap: small hashes of 2.4 and before. Layout in protocol.md 3.4: u8 count, then field and value in turn, each
 * behind its length, the value followed by some unused bytes; 0xFF ends it.
 */
import { damage } from './damage.ts';
import type { VisitElement } from './element.ts';

const END = 0xff;
/** In the count byte: 254 pairs or more, only walking tells. As a length's first byte: a u32 follows. */
const LONG = 254;

/**
 * Visits field, value, field, value … of the zipmap that fills `bytes[start..end)`. A length in a longer form than
 * needed is damage: Valkey 9.1.2 refuses it, and Redis 8.2.3 reads on at a wrong place. Elements may have been visited
 * already when damage is found: where that matters, walk once with a visitor that does nothing.
 * @param base RDB offset of `bytes[0]`, for errors
 * @returns the number of elements, twice that of pairs
 * @throws RdbFormatError where any length or count is not as it should be
 */
export function forEachZipmap(
  bytes: Buffer,
  start: number,
  end: number,
  visit: VisitElement,
  base: number,
): number {
  const wrong = (problem: string, at: number) => damage('zipmap', problem, at - start, base + start);
  if (end - start < 2) throw wrong('too short', end);
  const stop = end - 1;
  if (bytes[stop] !== END) throw wrong('no end mark', stop);

  let elements = 0;
  let at = start + 1;
  while (at < stop) {
    const isValue = elements % 2 === 1;
    const entryAt = at;
    let length = bytes[at++]!;
    if (length === END) throw wrong('an end mark before the end', entryAt);
    if (length === LONG) {
      if (4 > stop - at) throw wrong('an entry reaches over the end', entryAt);
      length = bytes.readUInt32LE(at);
      if (length < LONG) throw wrong('a length in a longer form than needed', entryAt);
      at += 4;
    }
    let unused = 0;
    if (isValue) {
      // Where the entry ends early this is the end mark, and too long for what is left.
      unused = bytes[at++]!;
    }
    if (length + unused > stop - at) throw wrong('an entry reaches over the end', entryAt);
    visit(bytes, at, at + length);
    at += length + unused;
    elements++;
  }

  if (elements % 2 === 1) throw wrong('a field without a value', stop);
  const count = bytes[start]!;
  if (count !== LONG && count !== elements / 2) throw wrong('its count byte is not its count', start);
  return elements;
}
