/** Random numbers from a seed, and what the fuzzer does to good bytes to make bad ones. */

/** The same numbers for the same seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let value = this.#state;
    value = Math.imul(value ^ (value >>> 15), value | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return Math.floor((((value ^ (value >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}

const EDGE_BYTES = [0, 1, 2, 0x0a, 0x0d, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xc4, 0xfe, 0xff];
const MOST_STEPS = 4;
/** A splice of two seeds gets no longer than this: what is slow finds little. */
const LONGEST_INPUT = 256 * 1024;

/**
 * One of `seeds` after one to four steps of damage.
 * @param tokens what the format's own traps look like: lengths of 2^31, 2^32, 2^63, separators, opcodes
 */
export function mutated(seeds: readonly Buffer[], tokens: readonly Buffer[], random: Random): Buffer {
  let bytes = random.pick(seeds);
  for (let steps = 1 + random.below(MOST_STEPS); steps > 0; steps--) {
    bytes = damaged(bytes, seeds, tokens, random).subarray(0, LONGEST_INPUT);
  }
  return Buffer.from(bytes);
}

function damaged(bytes: Buffer, seeds: readonly Buffer[], tokens: readonly Buffer[], random: Random): Buffer {
  const at = random.below(bytes.length + 1);
  const before = bytes.subarray(0, at);
  const behind = (skipped: number): Buffer => bytes.subarray(Math.min(at + skipped, bytes.length));
  switch (random.below(9)) {
    case 0: // a flipped bit
      return Buffer.concat([before, Buffer.from([(bytes[at] ?? 0) ^ (1 << random.below(8))]), behind(1)]);
    case 1:
      return Buffer.concat([before, Buffer.from([random.pick(EDGE_BYTES)]), behind(1)]);
    case 2:
      return Buffer.concat([before, random.bytes(1 + random.below(8)), bytes.subarray(at)]);
    case 3: // bytes that are gone
      return Buffer.concat([before, behind(1 + random.below(16))]);
    case 4: // cut off
      return before;
    case 5: // a piece that comes again, somewhere
      return Buffer.concat([before, pieceOf(bytes, random), bytes.subarray(at)]);
    case 6: {
      // the head of one seed, the tail of another
      const other = random.pick(seeds);
      return Buffer.concat([before, other.subarray(random.below(other.length + 1))]);
    }
    case 7:
      return Buffer.concat([before, random.pick(tokens), bytes.subarray(at)]);
    default: {
      const token = random.pick(tokens);
      return Buffer.concat([before, token, behind(random.pick([1, 1, token.length]))]);
    }
  }
}

function pieceOf(bytes: Buffer, random: Random): Buffer {
  const from = random.below(bytes.length + 1);
  return bytes.subarray(from, from + random.below(64));
}

/** `bytes` cut at random places, into pieces from 1 byte on. */
export function pieces(bytes: Buffer, random: Random): Buffer[] {
  const longest = random.pick([3, 17, 100, 5000]);
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random.below(longest);
    found.push(bytes.subarray(at, at + length));
    at += length;
  }
  return found;
}
