/** What a parser must keep to under the fuzzer, and the checks that all of them share. */
import assert from 'node:assert/strict';
import type { CutoverError } from '../../src/core/errors.ts';
import { printable } from '../../src/core/text.ts';
import { pieces, Random } from './mutate.ts';

/** One parser under test. */
export interface Subject {
  readonly name: string;
  /** Good inputs, to be damaged. */
  readonly seeds: readonly Buffer[];
  /** Traps of the format, see mutated(). */
  readonly tokens: readonly Buffer[];
  /** Cases that `npm test` runs. */
  readonly cases: number;
  /** Throws where the parser does not keep to its rules. The same input must give the same result each time. */
  readonly check: (input: Buffer) => void | Promise<void>;
}

/** Above this, byte by byte is left out: it takes long and shows no more. */
const BYTEWISE_UP_TO = 1500;

/**
 * Feeds `input` whole, byte by byte, and twice in random pieces; `feed` says what came of it. All must be `same` as
 * the first.
 */
export function sameForEverySplit<Outcome>(
  input: Buffer,
  feed: (chunks: readonly Buffer[]) => Outcome,
  same: (one: Outcome, other: Outcome, how: string) => void = assert.deepEqual,
): Outcome {
  const random = new Random(input.reduce((sum, byte) => (Math.imul(sum, 31) + byte) >>> 0, input.length));
  const whole = feed([input]);
  if (input.length <= BYTEWISE_UP_TO) {
    same(feed(Array.from(input, (byte) => Buffer.from([byte]))), whole, 'byte by byte');
  }
  for (let i = 0; i < 2; i++) same(feed(pieces(input, random)), whole, 'in pieces');
  return whole;
}

/**
 * What `work` throws, where that is an error of class `Class`, fit to be shown to people; null where it throws none.
 * Anything else is thrown on.
 */
export function classedError<Thrown extends CutoverError>(
  Class: abstract new (...args: never[]) => Thrown,
  work: () => void,
): Thrown | null {
  try {
    work();
    return null;
  } catch (error) {
    return classed(Class, error);
  }
}

/** `error` itself, where it is of class `Class` and fit to be shown to people. */
export function classed<Thrown extends CutoverError>(
  Class: abstract new (...args: never[]) => Thrown,
  error: unknown,
): Thrown {
  if (!(error instanceof Class)) throw error;
  assertShown(error.message);
  assertShown(error.hint);
  return error;
}

/** Text for people: nothing in it that a terminal would obey. */
export function assertShown(text: string): void {
  assert.equal(
    printable(text, Number.POSITIVE_INFINITY),
    text,
    'text from outside that was not made printable',
  );
}
