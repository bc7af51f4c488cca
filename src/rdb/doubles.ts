/**
 * Scores as text: the form that zset type 3 keeps, and the one that goes into a command. Both keep every bit: a
 * score cut to a few digits is another score.
 */
import { InvariantError } from '../core/errors.ts';
import { damage } from './encodings/damage.ts';

// First byte of type 3's score where no text follows (protocol.md 3.3).
const NAN = 253;
const PLUS_INFINITY = 254;
const MINUS_INFINITY = 255;

// What servers write (%.17g, or an integer). Number() alone would take '', ' 1' and '0x1' too.
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * A score as text for ZADD or for type 3: the shortest that reads back as the very same double.
 * @throws InvariantError for NaN: no server takes it as a score, so readers refuse it where it stands in the RDB
 */
export function formatDouble(value: number): string {
  if (Number.isNaN(value)) throw new InvariantError('a score that is not a number was about to be sent');
  if (value === Infinity) return 'inf';
  if (value === -Infinity) return '-inf';
  return Object.is(value, -0) ? '-0' : String(value);
}

/**
 * The score of zset type 3 at `at`: a length byte and as many characters, or one of 253 (NaN), 254 (infinity),
 * 255 (minus infinity) alone. The caller has made sure that all of it is there.
 * @param base RDB offset of `bytes[0]`, for errors
 * @throws RdbFormatError where the text is no decimal number
 */
export function parseTextDouble(bytes: Buffer, at: number, base: number): number {
  const length = bytes[at]!;
  if (length === NAN) return Number.NaN;
  if (length === PLUS_INFINITY) return Infinity;
  if (length === MINUS_INFINITY) return -Infinity;
  const text = bytes.toString('latin1', at + 1, at + 1 + length);
  if (!DECIMAL.test(text)) throw damage('score', 'no decimal number', 1, base + at);
  return Number(text);
}

/**
 * A score as it stands in a listpack: an integer, or text as ZADD takes it.
 * @param offset RDB offset of the listpack, for errors
 * @throws RdbFormatError where the text is no score
 */
export function parseScore(text: string, offset: number): number {
  if (text === 'inf') return Infinity;
  if (text === '-inf') return -Infinity;
  if (!DECIMAL.test(text)) throw damage('score', 'no decimal number', 0, offset);
  return Number(text);
}

/** A score of zset type 3, as parseTextDouble reads it. @param value no NaN */
export function textDouble(value: number): Buffer {
  if (value === Infinity) return Buffer.of(PLUS_INFINITY);
  if (value === -Infinity) return Buffer.of(MINUS_INFINITY);
  const text = formatDouble(value);
  return Buffer.from(String.fromCharCode(text.length) + text, 'latin1');
}
