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
