/**
 * The registers of a HyperLogLog, whatever its form. A string of Redis since 2.8.9: `HYLL`, one byte of form (0 dense,
 * 1 sparse), three unused, eight with the last estimate, then the registers (comment at the top of hyperloglog.c). Pure.
 */

const MAGIC = Buffer.from('HYLL', 'latin1');
const HEADER_BYTES = 16;
const REGISTERS = 16384;
const BITS = 6;
const DENSE_BYTES = HEADER_BYTES + (REGISTERS * BITS) / 8;

/** One byte per register; null for a string that is no HyperLogLog. */
export function registersOf(value: Buffer): Buffer | null {
  if (value.length < HEADER_BYTES || !value.subarray(0, 4).equals(MAGIC)) return null;
  if (value[4] === 0) return value.length === DENSE_BYTES ? dense(value) : null;
  return value[4] === 1 ? sparse(value) : null;
}

function dense(value: Buffer): Buffer {
  const registers = Buffer.alloc(REGISTERS);
  for (let at = 0; at < REGISTERS; at++) {
    const bit = at * BITS;
    const byte = HEADER_BYTES + (bit >> 3);
    registers[at] = ((value[byte]! | ((value[byte + 1] ?? 0) << 8)) >> (bit & 7)) & 0x3f;
  }
  return registers;
}

/** Runs: 00xxxxxx zeros; 01xxxxxx yyyyyyyy many zeros; 1vvvvvxx a value. Lengths and values are kept less one. */
function sparse(value: Buffer): Buffer | null {
  const registers = Buffer.alloc(REGISTERS);
  let next = 0;
  for (let at = HEADER_BYTES; at < value.length; at++) {
    const code = value[at]!;
    let run: number;
    let content = 0;
    if ((code & 0x80) !== 0) {
      run = (code & 3) + 1;
      content = ((code >> 2) & 0x1f) + 1;
    } else if ((code & 0x40) !== 0) {
      at++;
      run = (((code & 0x3f) << 8) | (value[at] ?? 0)) + 1;
    } else {
      run = code + 1;
    }
    if (next + run > REGISTERS) return null;
    registers.fill(content, next, next + run);
    next += run;
  }
  return next === REGISTERS ? registers : null;
}
