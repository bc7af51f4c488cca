/** Findings from figures: what is said of a load, of memory for the fork, and of the rules of ACL in Redis 6. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerInfo } from '../../../src/client/server-info.ts';
import type { ServerSession } from '../../../src/client/session.ts';
import type { CheckResult } from '../../../src/core/events.ts';
import { isAllowed } from '../../../src/migrate/checks/acl-rights.ts';
import type { CheckContext } from '../../../src/migrate/checks/context.ts';
import { forkMemory } from '../../../src/migrate/checks/surroundings.ts';
import { dropsUs, LOAD_CHECKS, type WriteLoad } from '../../../src/migrate/checks/write-load.ts';

const MB = 1024 * 1024;

interface Scene {
  readonly outputBuffer?: string;
  readonly info?: Record<string, string | number>;
  readonly options?: {
    spoolLimitBytes?: number;
    keepSnapshot?: boolean;
    runDir?: string;
    tuneSource?: readonly string[];
  };
  readonly rdbcompression?: string;
}

function context({ outputBuffer = '', info = {}, options = {}, rdbcompression }: Scene): CheckContext {
  const text = Object.entries(info)
    .map(([name, value]) => `${name}:${value}`)
    .join('\r\n');
  const settings: Record<string, string | undefined> = {
    'client-output-buffer-limit': outputBuffer,
    rdbcompression,
  };
  const call = async (_command: string, _verb: string, name: string) =>
    settings[name] === undefined ? [] : [name, settings[name]];
  const source = { role: 'source', call };
  return {
    source: source as unknown as ServerSession,
    sourceInfo: ServerInfo.parse(text),
    options: {
      runDir: '/',
      keepSnapshot: false,
      spoolLimitBytes: Number.POSITIVE_INFINITY,
      tuneSource: [],
      ...options,
    },
  } as unknown as CheckContext;
}

async function found(name: string, scene: Scene, load: WriteLoad): Promise<CheckResult> {
  for (const check of LOAD_CHECKS) {
    const result = await check(context(scene), load);
    if (result.name === name) return result;
  }
  throw new Error(`no check ${name}`);
}

const busy: WriteLoad = { bytesPerSecond: 6 * MB, exact: true, copySeconds: 72 };
const STANDARD = `normal 0 0 0 slave ${256 * MB} ${64 * MB} 60 pubsub 33554432 8388608 60`;

describe('the output buffer of the source', () => {
  it('is too small where a copy takes long and much is written, with a line to type', async () => {
    const result = await found('output-buffer', { outputBuffer: STANDARD }, busy);
    assert.equal(result.status, 'warn');
    assert.match(
      result.detail,
      /^replica 256 MB, 64 MB for 60 s .*about 432 MB are written .*6\.0 MB\/s written now, a copy takes about 72 s/,
    );
    // three times what is expected
    const bytes = 1296 * MB;
    assert.equal(
      result.hint,
      `CONFIG SET client-output-buffer-limit "slave ${bytes} ${bytes} 72" on the source`,
    );
    assert.deepEqual(result.proposal, {
      tuning: 'output-buffer',
      setting: 'client-output-buffer-limit',
      value: `slave ${bytes} ${bytes} 72`,
    });
  });

  it('is fine for a source that is written to little, or has no limit', async () => {
    const quiet = { ...busy, bytesPerSecond: 10_000 };
    assert.equal((await found('output-buffer', { outputBuffer: STANDARD }, quiet)).status, 'ok');
    const none = { outputBuffer: 'normal 0 0 0 replica 0 0 0' };
    assert.equal((await found('output-buffer', none, busy)).status, 'ok');
  });

  it('leaves a limit that is not there alone in what it proposes', async () => {
    const { hint } = await found('output-buffer', { outputBuffer: `replica 0 ${MB} 5` }, busy);
    assert.match(hint ?? '', /"replica 0 \d{10} 72"/);
  });

  it('is passed by the hard limit at once, by the soft one when its time is over', () => {
    const limits = { hard: 256 * MB, soft: 64 * MB, seconds: 60 };
    assert.equal(dropsUs(limits, 10 * MB, 25), false);
    assert.equal(dropsUs(limits, 10 * MB, 26), true);
    // 64 MB are there after 64 s, and 60 s later it is dropped
    assert.equal(dropsUs(limits, MB, 123), false);
    assert.equal(dropsUs(limits, MB, 125), true);
    assert.equal(dropsUs(limits, 0, 1e6), false);
  });
});

describe('the backlog of the source', () => {
  it('is held against what is written in a copy', async () => {
    const result = await found('backlog', { info: { repl_backlog_size: MB } }, busy);
    assert.equal(result.status, 'warn');
    assert.match(result.detail, /^1\.0 MB hold 0\.2 s of writes/);
    assert.equal(result.hint, `CONFIG SET repl-backlog-size ${1296 * MB} on the source`);
    const large = await found('backlog', { info: { repl_backlog_size: 500 * MB } }, busy);
    assert.equal(large.status, 'ok', large.detail);
  });

  it('is not checked where nobody tells', async () => {
    const unknown = { ...busy, bytesPerSecond: null };
    const info = { repl_backlog_size: MB };
    for (const result of [await found('backlog', { info }, unknown), await found('backlog', {}, busy)]) {
      assert.equal(result.status, 'warn');
      assert.match(result.detail, /^not checked/);
    }
  });
});

describe('a larger backlog', () => {
  const proposed = async (info: Record<string, string | number>) =>
    (await found('backlog', { info: { repl_backlog_size: MB, ...info } }, busy)).proposal;
  const roomy = { redis_version: '7.0.0', used_memory: MB, maxmemory: 0 };

  it('is set by us where that neither throws away the old one nor evicts keys', async () => {
    assert.deepEqual(await proposed(roomy), {
      tuning: 'backlog',
      setting: 'repl-backlog-size',
      value: String(1296 * MB),
    });
    assert.notEqual(await proposed({ ...roomy, maxmemory: 1500 * MB }), undefined);
    assert.equal(await proposed({ ...roomy, maxmemory: 1400 * MB }), undefined);
    assert.equal(await proposed({ ...roomy, redis_version: '6.2.14' }), undefined);
    assert.equal(await proposed({ redis_version: '7.0.0', used_memory: MB }), undefined, 'no maxmemory told');
  });
});

describe('a source that compresses', () => {
  const large = { redis_version: '7.2.4', used_memory: 300 * MB };
  const small = { ...large, used_memory: MB };

  it('is proposed to send a large snapshot plain; a small one where it is asked for', async () => {
    const look = (scene: Scene) => found('compression', scene, busy);
    const result = await look({ info: large, rdbcompression: 'yes' });
    assert.deepEqual([result.status, result.proposal?.value], ['ok', 'no']);
    assert.equal((await look({ info: small, rdbcompression: 'yes' })).proposal, undefined);
    const asked = { info: small, rdbcompression: 'yes', options: { tuneSource: ['compression'] } };
    assert.equal((await look(asked)).hint, 'CONFIG SET rdbcompression no on the source');
    assert.equal((await look({ info: large, rdbcompression: 'no' })).proposal, undefined);
    const untold = await look({ info: large });
    assert.deepEqual([untold.status, untold.proposal], ['ok', undefined]);
    // asked for in the handshake
    const new86 = await look({ info: { ...large, redis_version: '8.6.0' }, rdbcompression: 'yes' });
    assert.equal(new86.proposal, undefined);
  });
});

describe('the disk of the run folder', () => {
  const info = { used_memory: 100 * MB };

  it('takes the snapshot and what is written meanwhile', async () => {
    const limited = { info, options: { spoolLimitBytes: 200 * MB } };
    const result = await found('spool-disk', limited, busy);
    assert.equal(result.status, 'warn');
    assert.match(result.detail, /^200 MB may be used \(--spool-limit\), up to 964 MB may be needed/);
    assert.equal(result.hint, '--spool-limit 964');
    const quiet = { ...busy, bytesPerSecond: 0 };
    assert.equal((await found('spool-disk', limited, quiet)).status, 'ok');
  });

  it('is that of the nearest folder that is there, and may be too small', async () => {
    const huge = { info: { used_memory: 1e18 }, options: { runDir: '/nowhere/at/all', keepSnapshot: true } };
    const result = await found('spool-disk', huge, busy);
    assert.equal(result.status, 'warn');
    assert.match(result.detail, /free for the run folder.*--keep-snapshot/);
    assert.match(result.hint ?? '', /--run-dir/);
  });
});

describe('memory for the fork', () => {
  const fork = (info: Record<string, string | number>) => forkMemory(context({ info })) as CheckResult;
  const roomy = { used_memory_rss: 1000 * MB, total_system_memory: 4000 * MB, latest_fork_usec: 12_000 };

  it('warns where pages written meanwhile may not fit, where a fork takes long, and where the last BGSAVE failed', () => {
    assert.equal(fork(roomy).status, 'ok');
    assert.match(fork(roomy).detail, /1000 MB of its machine's 4000 MB; the last fork held it up for 12 ms/);
    const tight = fork({ ...roomy, used_memory_rss: 2001 * MB });
    assert.deepEqual([tight.status, /overcommit_memory=1/.test(tight.hint ?? '')], ['warn', true]);
    assert.match(fork({ ...roomy, latest_fork_usec: 900_000 }).detail, /held it up for 900 ms: so will/);
    assert.equal(fork({ ...roomy, latest_fork_usec: 900_000 }).status, 'warn');
    assert.match(fork({ ...roomy, rdb_last_bgsave_status: 'err' }).detail, /last BGSAVE .* failed/);
    assert.match(fork({ used_memory: 1 }).detail, /^not checked/);
  });
});

describe('rules of ACL GETUSER in Redis 6', () => {
  const config = (rules: string, ...words: string[]) =>
    isAllowed(rules, ['CONFIG', ...words], ['@admin', '@slow', '@dangerous']);

  it('lets later rules win, by command, category and subcommand', () => {
    assert.equal(config('+@all', 'GET', 'x'), true);
    assert.equal(config('-@all', 'GET', 'x'), false);
    assert.equal(config('+@all -@dangerous', 'GET', 'x'), false);
    assert.equal(config('-@all +@admin', 'GET', 'x'), true);
    assert.equal(config('-@all +config -@dangerous', 'GET', 'x'), false);
    assert.equal(config('+@all -config +config|get', 'GET', 'x'), true);
    assert.equal(config('+@all -config +config|get', 'SET', 'x'), false);
    assert.equal(config('+@all -client', 'SET', 'x'), true);
  });
});
