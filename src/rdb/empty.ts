/**
 * Finds collections without elements. Servers before 6.2 take them from a file and write them again, as a key that holds
 * nothing; from 6.2 on servers pass over them when they load a file, and RESTORE refuses them (run on 2.8.17 to 8.2.3 and
 * Valkey 9.1.2; protocol.md 3.5). Used by target/write/snapshot-writer.ts, which passes over them, too.
 */
import { EARLIEST_BYTES } from './field-ttls.ts';
import { FORM, type Form } from './forms.ts';
import { TYPE } from './opcodes.ts';
import { lengthResult, readLength } from './skip.ts';

const EMPTY_LISTPACK = Buffer.from('07000000' + '0000' + 'ff', 'hex');
const EMPTY_ZIPLIST = Buffer.from('0b000000' + '0a000000' + '0000' + 'ff', 'hex');
const EMPTY_ZIPMAP = Buffer.from('00' + 'ff', 'hex');
/** Of each width in bytes: it stays what it was when the last element goes. */
const EMPTY_INTSETS = [2, 4, 8].map((width) => Buffer.of(width, 0, 0, 0, 0, 0, 0, 0));

/**
 * True where the value `buf[start..end)`, which is complete, is a collection without elements. A stream without entries
 * is none of these: servers keep it.
 */
export function holdsNothing(form: Form, buf: Buffer, start: number, end: number): boolean {
  switch (form) {
    case TYPE.list:
    case TYPE.set:
    case TYPE.zset:
    case TYPE.zset2:
    case TYPE.hash:
    case FORM.hashTtlsPreGa:
    case FORM.hashTtlsValkey:
      return readLength(buf, start, end) === 0;
    case FORM.hashTtls:
      return readLength(buf, start + EARLIEST_BYTES, end) === 0;
    case TYPE.hashListpack:
    case TYPE.zsetListpack:
    case TYPE.setListpack:
    case FORM.hashTtlsListpackPreGa:
      return isString(buf, start, end, EMPTY_LISTPACK);
    case FORM.hashTtlsListpack:
      return isString(buf, start + EARLIEST_BYTES, end, EMPTY_LISTPACK);
    case TYPE.listZiplist:
    case TYPE.hashZiplist:
    case TYPE.zsetZiplist:
      return isString(buf, start, end, EMPTY_ZIPLIST);
    case TYPE.setIntset:
      return EMPTY_INTSETS.some((empty) => isString(buf, start, end, empty));
    case TYPE.hashZipmap:
      return isString(buf, start, end, EMPTY_ZIPMAP);
    case TYPE.quicklist:
    case TYPE.quicklist2:
      return hasOnlyEmptyNodes(form, buf, start, end);
    default:
      return false;
  }
}

/** True where a plain string of just these bytes stands at `at`. They are too few to be compressed. */
function isString(buf: Buffer, at: number, end: number, expected: Buffer): boolean {
  if (readLength(buf, at, end) !== expected.length || lengthResult.special) return false;
  const body = lengthResult.next;
  return buf.compare(expected, 0, expected.length, body, Math.min(body + expected.length, end)) === 0;
}

/** A list whose nodes hold nothing is one without nodes for a server. */
function hasOnlyEmptyNodes(
  form: typeof TYPE.quicklist | typeof TYPE.quicklist2,
  buf: Buffer,
  start: number,
  end: number,
): boolean {
  const node = form === TYPE.quicklist ? EMPTY_ZIPLIST : EMPTY_LISTPACK;
  let left = readLength(buf, start, end);
  let at = lengthResult.next;
  for (; left > 0; left--) {
    // the container of the node; a plain one is an element, an empty text at least
    if (form === TYPE.quicklist2) {
      if (readLength(buf, at, end) !== 2) return false;
      at = lengthResult.next;
    }
    if (!isString(buf, at, end, node)) return false;
    at = lengthResult.next + node.length;
  }
  return true;
}
