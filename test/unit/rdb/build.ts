/** For the tests of this folder and the writers: RDB files made by hand (protocol.md 3.2, 3.3). */
import { Crc64 } from '../../../src/rdb/crc64.ts';

/** A length in 6, 14, 32 or 64 bits; in as few as it takes where nothing is said. */
export function len(value: number | bigint, bits?: 6 | 14 | 32 | 64): Buffer {
  const number = BigInt(value);
  switch (bits ?? (number < 64 ? 6 : number < 16384 ? 14 : number < 2 ** 32 ? 32 : 64)) {
    case 6:
      return Buffer.from([Number(number)]);
    case 14:
      return Buffer.from([0x40 | Number(number >> 8n), Number(number & 0xffn)]);
    case 32: {
      const bytes = Buffer.from([0x80, 0, 0, 0, 0]);
      bytes.writeUInt32BE(Number(number), 1);
      return bytes;
    }
    default: {
      const bytes = Buffer.alloc(9, 0x81);
      bytes.writeBigUInt64BE(number, 1);
      return bytes;
    }
  }
}

/** A plain string. */
export function str(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text as string);
  return Buffer.concat([len(bytes.length), bytes]);
}

/** `size` times the byte `fill`, as LZF that needs no compressor: one literal, then copies of the longest length. */
function lzfRun(size: number, fill: number): Buffer {
  const parts = [Buffer.from([0, fill])];
  let left = size - 1;
  for (; left >= 264 + 9; left -= 264) parts.push(Buffer.from([0xe0, 255, 0]));
  for (; left > 0; left -= Math.min(left, 32)) {
    const piece = Math.min(left, 32);
    parts.push(Buffer.from([piece - 1, ...Buffer.alloc(piece, fill)]));
  }
  return Buffer.concat(parts);
}

/** A string in LZF form. */
export function lzfStr(size: number, fill: number): Buffer {
  const body = lzfRun(size, fill);
  return Buffer.concat([Buffer.from([0xc3]), len(body.length), len(size), body]);
}

/** A file: magic (`REDIS0011`), the parts, EOF, and the checksum. */
export function rdb(magic: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from(magic, 'latin1'), ...parts, Buffer.from([255])]);
  const checksum = Buffer.alloc(8);
  const crc = new Crc64();
  crc.update(body, 0, body.length);
  crc.writeTo(checksum, 0);
  return Buffer.concat([body, checksum]);
}

/** Little endian, as containers have them. */
function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

/** Little endian, as containers have them. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Little endian, signed: expiries, times of consumers, integers of 64 bits. */
export function i64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}

/** A score of zset2. */
export function f64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

/** Texts and integers of 64 bits (protocol.md 3.4). @param count what its field says, where that is a lie */
export function listpack(items: readonly (string | number)[], count = items.length): Buffer {
  const entries = items.map((item) => {
    if (typeof item === 'number') return Buffer.concat([Buffer.of(0xf4), i64(item), Buffer.of(9)]);
    const text = Buffer.from(item, 'latin1');
    const head =
      text.length < 64 ? Buffer.of(0x80 | text.length) : Buffer.concat([Buffer.of(0xf0), u32(text.length)]);
    return Buffer.concat([head, text, backwardLength(head.length + text.length)]);
  });
  const body = Buffer.concat([...entries, Buffer.of(0xff)]);
  return Buffer.concat([u32(6 + body.length), u16(count), body]);
}

/** 7 bits to a byte, highest first, each byte but the first marked; as many as a server takes for it. */
function backwardLength(value: number): Buffer {
  const width = value <= 127 ? 1 : value < 16_383 ? 2 : value < 2_097_151 ? 3 : 4;
  return Buffer.from(
    Array.from({ length: width }, (_, i) => ((value >> (7 * (width - 1 - i))) & 127) | (i > 0 ? 128 : 0)),
  );
}

/** Texts of up to 63 bytes (protocol.md 3.4). @param count what its field says, where that is a lie */
export function ziplist(items: readonly string[], count = items.length): Buffer {
  let lastAt = 10;
  let end = 10;
  let before = 0;
  const entries = items.map((item) => {
    const entry = Buffer.concat([Buffer.of(before, item.length), Buffer.from(item, 'latin1')]);
    lastAt = end;
    before = entry.length;
    end += entry.length;
    return entry;
  });
  return Buffer.concat([u32(end + 1), u32(lastAt), u16(count), ...entries, Buffer.of(0xff)]);
}

/** Integers of `width` bytes each. @param count what its field says, where that is a lie */
export function intset(width: number, integers: readonly number[], count = integers.length): Buffer {
  return Buffer.concat([u32(width), u32(count), ...integers.map((value) => i64(value).subarray(0, width))]);
}
