/**
 * Which forms of commands a source may send that its target does not know (protocol.md 2.4): what lowering.ts rewrites.
 * Between equal releases, and from an older one to a newer one, none is missing: nothing is looked at then. Pure.
 */
import type { ServerInfo } from '../../client/server-info.ts';

type Version = readonly [major: number, minor: number, patch: number];

/** A release as far as the forms of its commands go. */
export interface ReleaseLevel {
  /** Every fork but Valkey speaks of itself as the Redis that it is like. */
  readonly family: 'redis' | 'valkey';
  readonly version: Version;
}

export function levelOf(info: Pick<ServerInfo, 'family' | 'commandLevel'>): ReleaseLevel {
  return { family: info.family === 'valkey' ? 'valkey' : 'redis', version: info.commandLevel };
}

interface Since {
  readonly redis: Version | null;
  readonly valkey: Version | null;
}

/** Both families, since Valkey began as Redis 7.2. */
const both = (major: number, minor: number, patch = 0): Since => ({
  redis: [major, minor, patch],
  valkey: [7, 2, 0],
});
/** null: no release of that family. */
const each = (redis: Version | null, valkey: Version | null): Since => ({ redis, valkey });

/** First releases, from protocol.md 2.4 and 3.1; `run`: seen on real servers. */
const SINCE = {
  /** RESTORE … REPLACE. */
  restoreReplace: both(3, 0),
  /** ZADD with NX, XX, CH, INCR. */
  zaddOptions: both(3, 0, 2),
  /** UNLINK. */
  unlink: both(4, 0),
  /** HSET with several pairs. */
  hsetPairs: both(4, 0),
  /** LPUSHX and RPUSHX with several values. */
  pushxValues: both(4, 0),
  /** FLUSHALL and FLUSHDB ASYNC. */
  flushAsync: both(4, 0),
  /** RESTORE … ABSTTL, IDLETIME, FREQ. */
  restoreAbsttl: both(5, 0),
  /** ZPOPMIN, ZPOPMAX. */
  zpop: both(5, 0),
  setKeepttl: both(6, 0),
  /** SET … PXAT and EXAT. */
  setPxat: both(6, 2),
  lmove: both(6, 2),
  /** LPOP and RPOP with a count. */
  popCount: both(6, 2),
  /** ZADD with GT, LT. */
  zaddGt: both(6, 2),
  copy: both(6, 2),
  /** FLUSHALL, FLUSHDB and SCRIPT FLUSH with SYNC; the last with ASYNC as well. */
  flushSync: both(6, 2),
  /** XADD NOMKSTREAM, MINID of XADD and XTRIM, XGROUP CREATECONSUMER. */
  streams62: both(6, 2),
  /** ENTRIESREAD of XGROUP; ENTRIESADDED and MAXDELETEDID of XSETID. */
  streams70: both(7, 0),
  /** NX, XX, GT, LT behind PEXPIREAT; a command of too many words is refused before (run: 2.8, 3.2, 5.0). */
  expireFlags: both(7, 0),
  functions: both(7, 0),
  /** SPUBLISH. */
  shardedPublish: both(7, 0),
  /** HPEXPIREAT, HPERSIST. */
  fieldTtls: each([7, 4, 0], [9, 0, 0]),
  hsetex: each([8, 0, 0], [9, 0, 0]),
  /** Goes into the stream of Valkey 9.1 as it is (run: 9.1.2), into Redis' as HDEL (run: 8.2.3). */
  hgetdel: each([8, 0, 0], [9, 1, 0]),
  /** SET … IFEQ. Goes into the stream of Valkey as it is, where it took effect (run: 8.1.8, 9.1.2). */
  setIfeq: each([8, 4, 0], [8, 1, 0]),
  /** XACKDEL, XDELEX; KEEPREF, DELREF, ACKED of XADD and XTRIM. */
  streamRefs: each([8, 2, 0], null),
  msetex: each([8, 4, 0], [9, 1, 0]),
  /** XCFGSET; XADD … IDMP. */
  idmp: each([8, 6, 0], null),
  xidmprecord: each([8, 6, 2], null),
  xnack: each([8, 8, 0], null),
  /** Payloads of RESTORE, by the RDB version in their footer. */
  rdb7: both(3, 2),
  rdb8: both(4, 0),
  rdb9: both(5, 0),
  rdb10: both(7, 0),
  rdb11: both(7, 2),
  rdb12: each([7, 4, 0], null),
  rdb13: each([8, 6, 0], null),
  rdb14: each([8, 8, 0], null),
  rdb80: each(null, [9, 0, 0]),
} as const satisfies Record<string, Since>;

export type CommandForm =
  | keyof typeof SINCE
  /** XADD … IDMP with an id of its own: taken from a master only, by no release from a client (protocol.md 2.3). */
  | 'idmpWithId';

export type MissingForms = ReadonlySet<CommandForm>;

export const NONE_MISSING: MissingForms = new Set();

/** What `source` may send and `target` does not take from a client. */
export function missingForms(source: ReleaseLevel, target: ReleaseLevel): MissingForms {
  const missing = new Set<CommandForm>();
  for (const form of Object.keys(SINCE) as (keyof typeof SINCE)[]) {
    if (knows(source, SINCE[form]) && !knows(target, SINCE[form])) missing.add(form);
  }
  if (knows(source, SINCE.idmp)) missing.add('idmpWithId');
  return missing;
}

function knows({ family, version }: ReleaseLevel, since: Since): boolean {
  const first = since[family];
  if (first === null) return false;
  for (let i = 0; i < first.length; i++) {
    if (version[i] !== first[i]) return version[i]! > first[i]!;
  }
  return true;
}
