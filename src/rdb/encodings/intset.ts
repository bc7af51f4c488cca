/**
 * Intset: a small set of nothing but integers, since 2.4. Layout in protocol.md 3.4: u32 width (2, 4 or 8),
 * u32 count, then that many signed integers, ascending, all little endian.
 */
import { damage } from './damage.ts';
import { type VisitElement, visitInt64, visitInteger } from './element.ts';

const HEADER_BYTES = 8;

/**
 * Visits the integers of the intset that fills `bytes[start..end)`, in ascending order, as decimal text. Elements
 * may have been visited already when damage is found: where that matters, walk once with a visitor that does
 * nothing.
 * @param base RDB offset of `bytes[0]`, for errors
 * @returns the number of elements
 * @throws RdbFormatError where the length does not fit the count, or the integers do not ascend
 */
export function forEachIntset(
  bytes: Buffer,
  start: number,
  end: number,
  visit: VisitElement,
  base: number,
): number {
  const wrong = (problem: string, at: number) => damage('intset', problem, at - start, base + start);
  if (end - start < HEADER_BYTES) throw wrong('too short', end);
  const width = bytes.readUInt32LE(start);
  if (width !== 2 && width !== 4 && width !== 8) throw wrong(`width ${width}`, start);
  const count = bytes.readUInt32LE(start + 4);
  if (HEADER_BYTES + count * width !== end - start)
    throw wrong('its count field is not its count', start + 4);

  const first = start + HEADER_BYTES;
  for (let at = first; at < end; at += width) {
    if (at > first && !ascends(bytes, at - width, at, width)) throw wrong('integers out of order', at);
    if (width === 2) visitInteger(bytes.readInt16LE(at), visit);
    else if (width === 4) visitInteger(bytes.readInt32LE(at), visit);
    else visitInt64(bytes, at, visit);
  }
  return count;
}

/** True where the integer at `left` is smaller than the one at `right`. */
function ascends(bytes: Buffer, left: number, right: number, width: 2 | 4 | 8): boolean {
  if (width === 2) return bytes.readInt16LE(left) < bytes.readInt16LE(right);
  if (width === 4) return bytes.readInt32LE(left) < bytes.readInt32LE(right);
  const highLeft = bytes.readInt32LE(left + 4);
  const highRight = bytes.readInt32LE(right + 4);
  if (highLeft !== highRight) return highLeft < highRight;
  return bytes.readUInt32LE(left) < bytes.readUInt32LE(right);
}
