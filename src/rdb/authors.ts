/**
 * Programs that write RDBs with additions of their own, known by what only they write (protocol.md 3.1, 3.2): so that a
 * refusal can say whose file it is. Used by the reader and the snapshot's writer.
 */

export type Author = 'Dragonfly' | 'KeyDB' | 'Redis Enterprise';

/** AUX fields by the beginnings of their names. */
const BY_AUX: readonly (readonly [prefix: string, author: Author])[] = [
  // 2024 and later
  ['df-ver', 'Dragonfly'],
  ['mvcc-tstamp', 'KeyDB'],
  ['keydb-', 'KeyDB'],
  ['repl-masters', 'KeyDB'],
  // seen in a file of Redis Enterprise 7.4.2
  ['big-used-', 'Redis Enterprise'],
  ['bigdb-', 'Redis Enterprise'],
];

/** Type ids and opcodes that neither Redis nor Valkey has given out. */
const BY_NUMBER: readonly (readonly [first: number, last: number, author: Author])[] = [
  [64, 64, 'KeyDB'],
  [100, 102, 'Redis Enterprise'],
  [107, 107, 'Redis Enterprise'],
  [121, 121, 'Redis Enterprise'],
  [200, 224, 'Dragonfly'],
];

/** Who writes such an AUX field; null: anybody. */
export function authorOfAux(name: string): Author | null {
  return BY_AUX.find(([prefix]) => name.startsWith(prefix))?.[1] ?? null;
}

/** Who writes such a type id or opcode; null: nobody that is known. */
export function authorOfNumber(number: number): Author | null {
  return BY_NUMBER.find(([first, last]) => number >= first && number <= last)?.[2] ?? null;
}
