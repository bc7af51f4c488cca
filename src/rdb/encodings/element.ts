/**
 * What the walkers of this folder hand out: one element after the other as a slice of bytes, without an object
 * per element. Integers are turned into decimal text, since that is how every user of them sends them on.
 */

/**
 * Takes one element, `bytes[start..end)`. An integer's text lies in a small ring that is used again: it stays as
 * it is while the next seven elements are visited (enough for a member and its score, or a field, its value and
 * its expiry), then no longer. Slices of strings point into the container itself.
 */
export type VisitElement = (bytes: Buffer, start: number, end: number) => void;

// -9223372036854775808, the longest, takes 20 bytes.
const SLOT_BYTES = 20;
const SLOTS = 8;
const ring = Buffer.alloc(SLOT_BYTES * SLOTS);
let slotEnd = 0;

/** Visits the decimal text of a safe integer. */
export function visitInteger(value: number, visit: VisitElement): void {
  const end = nextSlotEnd();
  let at = end;
  let rest = Math.abs(value);
  do {
    const tenth = Math.floor(rest / 10);
    // The brackets keep every step below 2^53.
    ring[--at] = 0x30 + (rest - tenth * 10);
    rest = tenth;
  } while (rest > 0);
  if (value < 0) ring[--at] = 0x2d;
  visit(ring, at, end);
}

/** Visits the decimal text of the little-endian signed 64-bit integer at `at`; exact over the whole range. */
export function visitInt64(bytes: Buffer, at: number, visit: VisitElement): void {
  const value = bytes.readInt32LE(at + 4) * 0x1_0000_0000 + bytes.readUInt32LE(at);
  if (Number.isSafeInteger(value)) {
    visitInteger(value, visit);
    return;
  }
  const text = bytes.readBigInt64LE(at).toString();
  const end = nextSlotEnd();
  ring.write(text, end - text.length, 'latin1');
  visit(ring, end - text.length, end);
}

/** The little-endian signed 24-bit integer at `at`. */
export function readInt24(bytes: Buffer, at: number): number {
  return (bytes.readInt8(at + 2) << 16) | bytes.readUInt16LE(at);
}

function nextSlotEnd(): number {
  slotEnd = slotEnd === ring.length ? SLOT_BYTES : slotEnd + SLOT_BYTES;
  return slotEnd;
}
