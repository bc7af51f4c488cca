/**
 * The name of a module's type, as it stands in an RDB and in a DUMP payload (protocol.md 3.4, type 7): a number of 64
 * bits, 9 characters of 6 bits each and a version of 10 bits. It is what TYPE answers for such a key. A module may have
 * several types, and bears another name than they do.
 */
import { readPlainLength } from './skip.ts';

const CHARACTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const NAME_LENGTH = 9;
const VERSION_BITS = 10n;

/**
 * The name of the type whose number stands at `at`; null where bytes are missing.
 * @param base RDB offset of buf[0], for errors
 * @throws RdbFormatError where no number stands there
 */
export function moduleTypeName(buf: Buffer, at: number, end: number, base: number): string | null {
  const number = readPlainLength(buf, at, end, base);
  if (number < 0) return null;
  // its lower bits would be lost in a JavaScript number
  const exact = buf[at] === 0x81 ? buf.readBigUInt64BE(at + 1) : BigInt(number);
  let bits = exact >> VERSION_BITS;
  let name = '';
  for (let i = 0; i < NAME_LENGTH; i++) {
    name = CHARACTERS.charAt(Number(bits & 0x3fn)) + name;
    bits >>= 6n;
  }
  return name;
}
