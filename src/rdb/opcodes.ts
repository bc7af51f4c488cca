/** Numbers of the RDB format (protocol.md 3.1-3.4). */

/** 22, 23 and 243 mean different things to the two families; the file's magic decides. */
export type RdbFamily = 'redis' | 'valkey';

export const OP = {
  /** Redis Enterprise: when the next key was last used; a length (seen in its 7.4.2). */
  ramLru: 107,
  slotImportOrKeyMeta: 243,
  slotInfo: 244,
  function2: 245,
  functionPreGa: 246,
  moduleAux: 247,
  idle: 248,
  freq: 249,
  aux: 250,
  resizeDb: 251,
  expireMs: 252,
  expireSeconds: 253,
  selectDb: 254,
  eof: 255,
} as const;

export const TYPE = {
  string: 0,
  list: 1,
  set: 2,
  zset: 3,
  hash: 4,
  zset2: 5,
  module2: 7,
  hashZipmap: 9,
  listZiplist: 10,
  setIntset: 11,
  zsetZiplist: 12,
  hashZiplist: 13,
  quicklist: 14,
  stream: 15,
  hashListpack: 16,
  zsetListpack: 17,
  quicklist2: 18,
  stream2: 19,
  setListpack: 20,
  stream3: 21,
  /** KeyDB's cron jobs. */
  cron: 64,
} as const;

/** Highest versions whose format this reader knows; later ones are tried with --skip-unknown only. */
export const NEWEST_VERSION: Record<RdbFamily, number> = { redis: 14, valkey: 80 };
