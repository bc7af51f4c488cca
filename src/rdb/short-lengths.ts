/**
 * Takes lengths of 64 bits out of values whose type is older than these are (RDB 8, Redis 4.0). Servers before 4.0 take
 * the first four bytes of such a length for one of 32 bits, and what follows for data: RESTORE answers OK, and the value
 * is another one (run on 2.8.17 and 3.2.6). Servers write them for what is longer than 4 GB only; other programs that make
 * RDBs do so for short strings, too. Used by target/write/snapshot-writer.ts; types that are no older go another way to
 * such a target (transcode.ts).
 */
import type { Form } from './forms.ts';
import { TYPE } from './opcodes.ts';
import { ValueBuilder, ValueReader, WIDE_LENGTH } from './value-bytes.ts';

/** First byte of the score of a sorted set from which on no text follows it. */
const NO_TEXT = 253;

/**
 * The value `buf[start..end)` without lengths of 64 bits; null where it has none, or its type is not older than they are.
 * @param offset RDB offset of `buf[start]`, for errors
 * @throws RdbFormatError where it is damaged
 */
export function withShortLengths(
  form: Form,
  buf: Buffer,
  start: number,
  end: number,
  offset: number,
): Buffer | null {
  if (!buf.subarray(start, end).includes(WIDE_LENGTH)) return null;
  const value = new ValueReader(buf, start, end, offset);
  switch (form) {
    case TYPE.list:
    case TYPE.set:
    case TYPE.quicklist:
      return counted(value, (out) => out.raw(value.rawString()));
    case TYPE.hash:
      return counted(value, (out) => out.raw(value.rawString()).raw(value.rawString()));
    case TYPE.zset:
      return counted(value, (out) => {
        out.raw(value.rawString());
        const head = value.raw(1);
        const length = head[0]!;
        out.raw(head).raw(value.raw(length < NO_TEXT ? length : 0));
      });
    case TYPE.hashZipmap:
    case TYPE.listZiplist:
    case TYPE.setIntset:
    case TYPE.zsetZiplist:
    case TYPE.hashZiplist:
      return value.rawString();
    default:
      return null;
  }
}

/** A number of elements, then these. */
function counted(value: ValueReader, copy: (out: ValueBuilder) => void): Buffer {
  const out = new ValueBuilder();
  const count = value.count();
  out.length(count);
  for (let left = count; left > 0; left--) copy(out);
  value.finish();
  return out.bytes;
}
