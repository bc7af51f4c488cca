/**
 * Checks that need to know how much is written on the source, and how long a copy takes: its output buffer, its backlog,
 * our disk. From the fork on the source keeps what is written for us in its output buffer; after a break it can go on
 * with what its backlog still holds; and what the target does not have yet lies in our spool. protocol.md 1.11.
 */
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { ServerSession } from '../../client/session.ts';
import type { CheckResult } from '../../core/events.ts';
import { parseOutputBuffer, wholeMegabytes } from '../resync-loop.ts';
import { type Proposed, propose } from '../source-tuning.ts';
import { askConfig, type CheckContext, megabytes, ok, unknown, warn } from './context.ts';

/** What to reckon with while the copy is taken. */
export interface WriteLoad {
  /** What the source adds to its stream; null: it does not tell. */
  readonly bytesPerSecond: number | null;
  /** False: the source keeps no stream yet, and this is all that its clients send, what they ask included. */
  readonly exact: boolean;
  /** How long a whole copy may take: as the last BGSAVE, and no faster than COPY_BYTES_PER_SECOND of its memory. */
  readonly copySeconds: number;
}

/** A check that is made last, when the load is known. */
export type LoadCheck = (context: CheckContext, load: WriteLoad) => Promise<CheckResult> | CheckResult;

/** Less than half of what was measured on one machine, where no network is in between. */
const COPY_BYTES_PER_SECOND = 50 * 1024 * 1024;
/** A source whose clients send less than this is not worth a closer look. */
const QUIET_BYTES_PER_SECOND = 64 * 1024;
/** Between the two looks at a source that is not quiet, at least. */
const WINDOW_MS = 200;
/** What is written now may double until the copy is taken. */
const MARGIN = 2;
/** In what we propose: there may be more traffic then, and a copy may take longer. As behind copies that failed. */
const SAFETY = 3;
/** Of maxmemory, for what is there and what we add. */
const MEMORY_HEADROOM = 0.9;
/** A link that is away for so long, as in a failover of a switch, should not cost a full copy. */
const BREAK_SECONDS = 10;

/** The defaults of all releases (protocol.md 1.11). */
const DEFAULT_HARD_BYTES = 256 * 1024 * 1024;
const DEFAULT_SOFT_BYTES = 64 * 1024 * 1024;
const DEFAULT_SECONDS = 60;

/**
 * Measures from `before` on, the source's INFO of `beforeMs` (performance.now()): the longer ago, the better. Waits only
 * where the source is not quiet. Throws only when the connection breaks.
 */
export async function measureLoad(
  source: ServerSession,
  before: ServerInfo,
  beforeMs: number,
): Promise<WriteLoad> {
  const copySeconds = Math.max(
    1,
    before.number('rdb_last_bgsave_time_sec') ?? 0,
    Math.ceil((before.usedMemory ?? 0) / COPY_BYTES_PER_SECOND),
  );
  // kilobytes, as the server averages them over 1.6 s (Redis 3.0 and later)
  const input = (before.number('instantaneous_input_kbps') ?? 0) * 1024;
  const passed = performance.now() - beforeMs;
  if (input > QUIET_BYTES_PER_SECOND && passed < WINDOW_MS) await delay(WINDOW_MS - passed);
  // asked once already: it may
  const after = await source.info();
  const seconds = (performance.now() - beforeMs) / 1000;
  const rate = (one: number | null, other: number | null): number | null =>
    one === null || other === null ? null : Math.max(0, other - one) / seconds;
  // without a backlog the offset stands still, or counts commands (protocol.md 1.11)
  const exact = [before, after].every((info) => info.number('repl_backlog_active') === 1);
  const bytesPerSecond = exact
    ? rate(before.masterReplOffset, after.masterReplOffset)
    : input > QUIET_BYTES_PER_SECOND
      ? rate(before.number('total_net_input_bytes'), after.number('total_net_input_bytes'))
      : before.number('instantaneous_input_kbps') === null
        ? null
        : input;
  return { bytesPerSecond, exact, copySeconds };
}

/** Too small, the source drops us while it still sends the snapshot. protocol.md 1.11. */
const outputBuffer: LoadCheck = async ({ source }, load) => {
  const name = 'output-buffer';
  const setting = await askConfig(source, 'client-output-buffer-limit');
  if (setting instanceof ReplyError)
    return unknown(name, 'client-output-buffer-limit of the source', setting);
  const limits = parseOutputBuffer(setting);
  if (limits === null) return warn(name, 'not checked: the source does not tell client-output-buffer-limit');
  const { hard, soft, seconds } = limits;
  const detail = `replica ${megabytes(hard)}, ${megabytes(soft)} for ${seconds} s (0: no limit)`;
  const proposed = (bytes: number, forSeconds: number): Proposed => {
    const [newHard, newSoft] = [
      hard === 0 ? 0 : Math.max(hard, DEFAULT_HARD_BYTES, wholeMegabytes(bytes)),
      soft === 0 ? 0 : Math.max(soft, DEFAULT_SOFT_BYTES, wholeMegabytes(bytes)),
    ];
    const newSeconds = Math.max(seconds, DEFAULT_SECONDS, forSeconds);
    return propose('output-buffer', `${limits.name} ${newHard} ${newSoft} ${newSeconds}`);
  };
  const { bytesPerSecond, copySeconds } = load;
  const needed = (bytesPerSecond ?? 0) * copySeconds;
  if (dropsUs(limits, (bytesPerSecond ?? 0) * MARGIN, copySeconds)) {
    return {
      ...warn(
        name,
        `${detail}: about ${megabytes(needed)} are written while the copy is taken (${loadText(load)}); the source may drop the link`,
      ),
      ...proposed(needed * SAFETY, copySeconds),
    };
  }
  const small = (hard > 0 && hard < DEFAULT_HARD_BYTES) || (soft > 0 && soft < DEFAULT_SOFT_BYTES);
  return small
    ? {
        ...warn(
          name,
          `${detail}: less than the default; a busy source drops the link while it sends the snapshot`,
        ),
        ...proposed(0, 0),
      }
    : ok(name, `${detail}; ${loadText(load)}`);
};

/** True where so much, written during a whole copy, goes over one of the two limits. */
export function dropsUs(
  { hard, soft, seconds }: { readonly hard: number; readonly soft: number; readonly seconds: number },
  bytesPerSecond: number,
  copySeconds: number,
): boolean {
  if (hard > 0 && bytesPerSecond * copySeconds > hard) return true;
  // the soft limit counts from when it is passed
  return soft > 0 && bytesPerSecond > 0 && copySeconds - soft / bytesPerSecond > seconds;
}

/** Behind a break the source goes on from its backlog; what it does not hold any more costs a full copy. */
const backlog: LoadCheck = ({ sourceInfo }, load) => {
  const name = 'backlog';
  const size = sourceInfo.number('repl_backlog_size');
  const { bytesPerSecond, copySeconds } = load;
  if (size === null || bytesPerSecond === null)
    return warn(name, 'not checked: the source does not tell its backlog, or what is written');
  if (bytesPerSecond < 1) return ok(name, `${megabytes(size)}, and nothing is written now`);
  const holds = size / bytesPerSecond;
  const held = holds > 3600 ? 'more than an hour' : `${holds.toFixed(holds < 10 ? 1 : 0)} s`;
  const detail = `${megabytes(size)} hold ${held} of writes (${loadText(load)})`;
  const needed = bytesPerSecond * Math.max(BREAK_SECONDS, copySeconds);
  if (size >= needed) return ok(name, detail);
  const larger = wholeMegabytes(needed * SAFETY);
  const { hint, proposal } = propose('backlog', String(larger));
  return {
    ...warn(name, `${detail}: a longer break of the link costs a new full copy`, hint),
    ...(mayGrow(sourceInfo, larger - size) ? { proposal } : {}),
  };
};

/**
 * Whether the backlog may be made larger by us. Before 7.0 each change of its size throws away what it holds
 * (protocol.md 1.11), which other replicas, and `resume`, may need. It counts as used memory: near maxmemory keys would
 * be evicted for it.
 */
function mayGrow(source: ServerInfo, bytes: number): boolean {
  const { maxmemory, usedMemory } = source;
  if (!source.atLeast(7, 0) || maxmemory === null || usedMemory === null) return false;
  return maxmemory === 0 || usedMemory + bytes < maxmemory * MEMORY_HEADROOM;
}

/** What a plain snapshot saves and costs is little below this. */
const LARGE_COPY_BYTES = 256 * 1024 * 1024;

/**
 * The source's child spends most of its time compressing (LZF): a plain snapshot comes up to 1.6 times as fast where
 * the network takes more bytes. Advice only, so what is not known is no warning.
 */
const compression: LoadCheck = async ({ source, sourceInfo, options }) => {
  const name = 'compression';
  if (sourceInfo.family === 'redis' && sourceInfo.atLeast(8, 6))
    return ok(name, 'the source is asked for a plain snapshot, which comes faster');
  const setting = await askConfig(source, 'rdbcompression');
  if (setting === 'no') return ok(name, 'the source sends its snapshot plain');
  if (setting !== 'yes')
    return ok(name, 'the source does not say whether it compresses: nothing depends on it');
  const used = sourceInfo.usedMemory ?? 0;
  if (used < LARGE_COPY_BYTES && !options.tuneSource.includes(name))
    return ok(name, 'the source compresses its snapshot: of little weight at this size');
  return {
    ...ok(
      name,
      'the source compresses its snapshot: plain it comes up to 1.6 times as fast, where the network takes more bytes',
    ),
    ...propose(name, 'no'),
  };
};

/**
 * The spool takes what the target has not yet: at most the snapshot, which a slow target leaves waiting or
 * --keep-snapshot keeps, and what is written meanwhile.
 */
const spoolDisk: LoadCheck = async ({ sourceInfo, options }, load) => {
  const name = 'spool-disk';
  const found = await freeBytes(options.runDir);
  const used = sourceInfo.usedMemory;
  if (found === null || used === null)
    return warn(name, 'not checked: how much disk is free, or how much the source holds, is not told');
  const needed = used + (load.bytesPerSecond ?? 0) * load.copySeconds * MARGIN;
  const limited = options.spoolLimitBytes < found;
  const free = Math.min(found, options.spoolLimitBytes);
  const detail = `${megabytes(free)} ${limited ? 'may be used (--spool-limit)' : 'are free for the run folder'}, up to ${megabytes(needed)} may be needed`;
  if (free >= needed) return ok(name, detail);
  return warn(
    name,
    `${detail}${options.keepSnapshot ? ', since the snapshot is kept (--keep-snapshot)' : ', where the target is slower than the source'}; the run ends when it is full`,
    limited
      ? `--spool-limit ${Math.ceil(needed / 1024 / 1024)}`
      : 'take a larger disk for the run folder: --run-dir DIR (df -h shows which)',
  );
};

/** In the order in which people read them. */
export const LOAD_CHECKS: readonly LoadCheck[] = [outputBuffer, backlog, compression, spoolDisk];

function loadText({ bytesPerSecond, exact, copySeconds }: WriteLoad): string {
  const copy = `a copy takes about ${copySeconds} s`;
  if (bytesPerSecond === null) return `what is written is not known, ${copy}`;
  return `${exact ? '' : 'at most '}${megabytes(bytesPerSecond)}/s written now, ${copy}`;
}

/** Free bytes of the disk that `dir`, which may not be there yet, is on; null: not told. */
async function freeBytes(dir: string): Promise<number | null> {
  for (let folder = dir; ; folder = path.dirname(folder)) {
    const found = await statfs(folder).catch(() => null);
    if (found !== null) return found.bavail * found.bsize;
    if (path.dirname(folder) === folder) return null;
  }
}
