/** Repeatable random numbers: the same seed gives the same dataset and the same traffic. */

export interface Random {
  /** A whole number from 0 to `below` - 1. */
  below(below: number): number;
  /** Lower-case letters and digits. */
  text(length: number): string;
  /** Bytes of any value. */
  bytes(length: number): Buffer;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A Mulberry32 generator; `seed` is used modulo 2^32. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
  return {
    below,
    text: (length) => {
      let text = '';
      for (let at = 0; at < length; at += 1) text += LETTERS[below(LETTERS.length)];
      return text;
    },
    bytes: (length) => Buffer.from(Array.from({ length }, () => below(256))),
  };
}
