/**
 * The envelope of RESTORE (protocol.md 3.7): type byte, the value's bytes as they stand in the RDB, then a footer
 * of ten bytes. A writer copies type and value straight into its output, one piece or many, and runs a Crc64 over
 * what it copied; what is here gives the length to announce beforehand, the version to stamp, and the footer.
 */
import { InvariantError } from '../core/errors.ts';
import { Crc64 } from './crc64.ts';
import { type Form, familyOf, typeOf } from './forms.ts';
import type { RdbFamily } from './opcodes.ts';

/** u16 RDB version, u64 CRC-64. */
const FOOTER_BYTES = 10;

/** Type id -> the RDB version that introduced it, where both families agree. */
const COMMON_STAMPS: ReadonlyMap<number, number> = new Map([
  // 6 is as low as RESTORE has ever accepted, and the only one that 2.6 to 3.0 do.
  ...[0, 1, 2, 3, 4, 9, 10, 11, 12, 13].map((type) => [type, 6] as const),
  [14, 7],
  [5, 8],
  [7, 8],
  [15, 9],
  [16, 10],
  [17, 10],
  [18, 10],
  [19, 10],
  [20, 11],
  [21, 11],
]);

const FAMILY_STAMPS: Readonly<Record<RdbFamily, ReadonlyMap<number, number>>> = {
  redis: new Map([
    [22, 12],
    [23, 12],
    [24, 12],
    [25, 12],
    [26, 13],
    [27, 14],
    [28, 14],
  ]),
  // Never below 80: Redis' type 22 of the same number has another layout.
  valkey: new Map([[22, 80]]),
};

/**
 * The RDB version to stamp on a payload of this type: the one that introduced it. Every server that knows the type
 * takes that, whatever its own version, since none compares the two (protocol.md 3.7).
 * @returns null where the type has no payload that RESTORE takes: unknown, or not readable without its module
 */
export function stampOf(type: number, family: RdbFamily): number | null {
  return COMMON_STAMPS.get(type) ?? FAMILY_STAMPS[family].get(type) ?? null;
}

/** Bytes of the whole payload around a value of `valueBytes`: the length of RESTORE's third argument. */
export function payloadLength(valueBytes: number): number {
  return 1 + valueBytes + FOOTER_BYTES;
}

/**
 * Ends a payload: writes its footer to `out` at `at`.
 * @param crc has run over the type byte and the whole value, from reset; it takes in the version and is spent after
 * @param version from stampOf
 * @returns the place behind the footer
 */
export function writeFooter(crc: Crc64, out: Uint8Array, at: number, version: number): number {
  out[at] = version & 0xff;
  out[at + 1] = version >>> 8;
  crc.update(out, at, at + 2);
  crc.writeTo(out, at + 2);
  return at + FOOTER_BYTES;
}

/** The whole payload of a value that is at hand, stamped with the version that introduced its form. */
export function payloadOf(form: Form, value: Buffer): Buffer {
  const type = typeOf(form);
  const stamp = stampOf(type, familyOf(form));
  if (stamp === null) throw new InvariantError(`type ${type} has no stamp`);
  const payload = Buffer.alloc(payloadLength(value.length));
  payload[0] = type;
  const end = 1 + value.copy(payload, 1);
  const crc = new Crc64();
  crc.update(payload, 0, end);
  writeFooter(crc, payload, end, stamp);
  return payload;
}
