/** Keys that run out while the pair is synced: only the source's word counts, whatever the target's clock says. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { RespConnection } from '../../src/resp/connection.ts';
import { HELD_BEFORE_MS, SHIFT_MS } from '../../src/target/write/held-ttls.ts';
import { plain, testClient } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { until } from '../helpers/wait.ts';
import { assertEqualServers, infoNumber } from '../scenarios/support.ts';
import { begun, inSync, rejection, type Scene } from './migration-scene.ts';

/** Time to live of what is renewed at the last moment, with a cutover and its undoing before that; the target is stopped for longer. */
const SHORT_MS = 4000;
const LONG_MS = 1_000_000;

const call = async (client: RespConnection, ...words: (string | number)[]): Promise<unknown> =>
  plain(await client.call(...words));

/** What must be alive at the end, and what must be gone. */
async function writeShortLived(onSource: RespConnection, fields: boolean): Promise<void> {
  await call(onSource, 'SELECT', 3);
  await call(onSource, 'SET', 'counter', 5, 'PX', SHORT_MS);
  await call(onSource, 'RPUSH', 'list', 'a');
  await call(onSource, 'PEXPIRE', 'list', SHORT_MS);
  await call(onSource, 'PSETEX', 'moved', SHORT_MS, 'v');
  await call(onSource, 'SET', 'dies', 'v', 'PX', SHORT_MS);
  await call(onSource, 'SET', 'stays', 'v', 'EX', LONG_MS);
  if (!fields) return;
  await call(onSource, 'HSET', 'hash', 'short', 1, 'none', 2, 'long', 3);
  await call(onSource, 'HPEXPIRE', 'hash', SHORT_MS, 'FIELDS', 1, 'short');
  await call(onSource, 'HPEXPIRE', 'hash', LONG_MS, 'FIELDS', 1, 'long');
}

async function renew(onSource: RespConnection, fields: boolean): Promise<void> {
  assert.equal(await call(onSource, 'INCR', 'counter'), 6, 'the test was too slow');
  await call(onSource, 'PEXPIRE', 'counter', LONG_MS);
  await call(onSource, 'RPUSH', 'list', 'b');
  await call(onSource, 'PERSIST', 'list');
  await call(onSource, 'RENAME', 'moved', 'moved:on');
  await call(onSource, 'PEXPIRE', 'moved:on', LONG_MS);
  if (!fields) return;
  assert.deepEqual(await call(onSource, 'HPEXPIRE', 'hash', LONG_MS, 'FIELDS', 1, 'short'), [1]);
  await call(onSource, 'HINCRBY', 'hash', 'short', 6);
}

/** Longer than the short-lived keys would have lived, the target hearing nothing; SIGCONT behind it. */
async function whileStopped({ target }: Scene, work: () => Promise<void>): Promise<void> {
  const until = Date.now() + SHORT_MS + 200;
  target.process.kill('SIGSTOP');
  await work();
  await delay(until - Date.now());
  target.process.kill('SIGCONT');
}

/** Everything in database 3, with what is left to it: equal but for the time between two looks on a busy machine. */
async function assertEqualExpiries(scene: Scene, fields: boolean): Promise<void> {
  const { onSource, onTarget } = scene;
  for (const client of [onSource, onTarget]) await call(client, 'SELECT', 3);
  for (const key of ['counter', 'list', 'moved', 'moved:on', 'dies', 'stays']) {
    const [of, on] = await Promise.all(
      [onSource, onTarget].map(async (client) => Number(await call(client, 'PTTL', key))),
    );
    assert.ok(Math.abs((of ?? 0) - (on ?? 0)) < 20_000, `${key}: ${of} on the source, ${on} on the target`);
  }
  assert.equal(await call(onTarget, 'GET', 'counter'), '6');
  assert.deepEqual(await call(onTarget, 'LRANGE', 'list', 0, -1), ['a', 'b']);
  assert.equal(await call(onTarget, 'GET', 'moved:on'), 'v');
  if (fields) {
    const times = ['HPEXPIRETIME', 'hash', 'FIELDS', 3, 'short', 'none', 'long'] as const;
    assert.deepEqual(await call(onTarget, ...times), await call(onSource, ...times));
    assert.equal(await call(onTarget, 'HGET', 'hash', 'short'), '7');
  }
}

async function caughtUp({ source, migration }: Scene): Promise<void> {
  const offset = await infoNumber(source.port, 'replication', 'master_repl_offset');
  const there = () => migration.phase === 'in-sync' && migration.snapshot().appliedOffset >= offset;
  await until(there, { timeoutMs: 30_000, what: 'in sync' });
}

async function cutOver(scene: Scene): Promise<void> {
  await caughtUp(scene);
  await scene.migration.cutOver();
  await assertEqualServers(scene.source.port, scene.target.port, false);
}

interface Pairing {
  readonly source: RegExp;
  readonly target: RegExp;
  /** Fields of hashes expire, too. */
  readonly fields?: boolean;
}

const PAIRINGS: readonly Pairing[] = [
  { source: /^redis-7\.0/, target: /^redis-7\.0/ },
  { source: /^redis-5\.0/, target: /^redis-6\.2/ },
  { source: /^redis-6\.2/, target: /^redis-5\.0/ },
  { source: /^redis-7\.4/, target: /^redis-8\.2/, fields: true },
  { source: /^redis-7\.0/, target: /^valkey-8\.1/ },
  { source: /^valkey-9\.1/, target: /^valkey-9\.1/, fields: true },
];

const RELEASES = serverReleases();

for (const { source, target, fields = false } of PAIRINGS) {
  const [from, to] = [source, target].map((wanted) =>
    RELEASES.find(({ kind, version }) => wanted.test(`${kind}-${version}`)),
  );
  const name = `expiry while syncing, ${from?.version ?? source} to ${to?.version ?? target}`;
  if (from === undefined || to === undefined) {
    describe(name, { skip: 'a release is not installed' }, () => {});
    continue;
  }
  const servers = { source: { binary: from.path }, target: { binary: to.path }, keys: 50 };
  // most of the time they wait
  describe(name, { concurrency: 2 }, () => {
    it('renewed while the copy is under way', async (t) => {
      const scene = await begun(t, {}, servers);
      await writeShortLived(scene.onSource, fields);
      await whileStopped(scene, () => renew(scene.onSource, fields));
      await cutOver(scene);
      await assertEqualExpiries(scene, fields);
    });

    it('renewed in sync, while the target hears nothing; and again behind a cutover that was undone', async (t) => {
      const scene = await inSync(t, { hooks: { cutover: 'exit 1' }, cutoverTimeoutMs: 5000 }, servers);
      const { onSource, onTarget, migration } = scene;
      await writeShortLived(onSource, fields);
      assert.equal((await rejection(migration.cutOver())).code, 'hook-vetoed');
      const again = () =>
        scene.events.some((event) => event.event === 'note' && /held back again/.test(event.message));
      if (to.kind === 'redis') await until(again, { what: 'the expiry times to be held back again' });
      await whileStopped(scene, () => renew(onSource, fields));
      await caughtUp(scene);
      await migration.stop('the test looks at what is left');
      for (const key of ['counter', 'list', 'moved:on']) {
        await call(onTarget, 'SELECT', 3);
        assert.equal(await call(onTarget, 'EXISTS', key), 1, key);
      }
      await assertEqualExpiries(scene, fields);
    });
  });
}

/** Every key of the databases that are used here, with the moment at which it expires. */
async function expiryTimes(client: RespConnection): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const db of [0, 3, 4]) {
    await call(client, 'SELECT', db);
    for (const key of (await call(client, 'KEYS', '*')) as string[]) {
      if (key.startsWith('redis-cutover:')) continue;
      found.set(`${db} ${key}`, Number(await call(client, 'PEXPIRETIME', key)));
    }
  }
  return found;
}

async function assertTrueTimes({ onSource, onTarget }: Scene): Promise<void> {
  const [expected, found] = [await expiryTimes(onSource), await expiryTimes(onTarget)];
  const held = [...found].filter(([, atMs]) => atMs >= SHIFT_MS && atMs < SHIFT_MS + HELD_BEFORE_MS);
  assert.deepEqual(held, []);
  assert.deepEqual(new Map([...found].sort()), new Map([...expected].sort()));
}

/** Keys of all types, due in a minute or much later. */
async function writeAllTypes(client: RespConnection): Promise<void> {
  await call(client, 'SELECT', 3);
  for (const [kind, ttlMs] of [
    ['near', 60_000],
    ['far', LONG_MS],
  ] as const) {
    const commands: (string | number)[][] = [
      ['SET', `string:${kind}`, 'v'],
      ['RPUSH', `list:${kind}`, 'a', 'b'],
      ['SADD', `set:${kind}`, 'a', 1],
      ['HSET', `hash:${kind}`, 'f', 'v'],
      ['ZADD', `zset:${kind}`, 1, 'm'],
      ['XADD', `stream:${kind}`, '1-1', 'f', 'v'],
      ['PFADD', `hll:${kind}`, 'a'],
      ['SET', `big:${kind}`, 'v'.repeat((1 << 20) + 10)],
    ];
    for (const words of commands) {
      await call(client, ...words);
      await call(client, 'PEXPIRE', words[1]!, ttlMs);
    }
  }
}

/** Keys that take their expiry along to other names and databases, until writes are refused or `stop` says so. */
async function carryAbout(t: TestContext, { source }: Scene): Promise<{ stop: () => Promise<number> }> {
  const client = await testClient(t, source.port);
  await call(client, 'SELECT', 3);
  let stopped = false;
  const work = async (): Promise<number> => {
    for (let round = 0; ; round++) {
      const [a, b, c] = [`a${round}`, `b${round}`, `c${round}`];
      const replies = await client.pipeline([
        ['SET', a, 'v', 'PX', round % 2 === 0 ? LONG_MS : 25_000],
        ['COPY', a, b],
        ['COPY', a, c, 'DB', 4],
        ['RENAME', b, `${b}:on`],
        ['RENAMENX', a, `${a}:on`],
        ['MOVE', `${a}:on`, 4],
        ...(round % 50 === 0 ? [['SWAPDB', 3, 4]] : []),
      ]);
      if (stopped || replies.some((reply) => reply instanceof Error)) return round;
      await delay(1);
    }
  };
  const done = work();
  return {
    stop: () => {
      stopped = true;
      return done;
    },
  };
}

describe('expiry times of a target that is opened', () => {
  for (const how of ['cutOver', 'enableWrites, promote'] as const) {
    it(`${how}: true ones, also of keys that are moved about meanwhile`, async (t) => {
      const scene = await inSync(t, { cutoverTimeoutMs: 20_000 }, { keys: 300 });
      const { migration, onSource } = scene;
      await writeAllTypes(onSource);
      const traffic = await carryAbout(t, scene);
      await caughtUp(scene);
      if (how === 'cutOver') await migration.cutOver();
      else await migration.enableWrites();
      const rounds = await traffic.stop();
      assert.ok(rounds > 0);
      if (how !== 'cutOver') {
        const offset = await infoNumber(scene.source.port, 'replication', 'master_repl_offset');
        await until(() => migration.snapshot().appliedOffset >= offset, { what: 'all applied' });
      }
      await assertTrueTimes(scene);
      // without a way back a cutover promotes by itself
      if (migration.phase === 'writable') await migration.promote();
      await assertTrueTimes(scene);
    });
  }

  it('expiries that mean for ever are what they were, however often others are held and set right', async (t) => {
    const hooks = {
      cutover: '[ -e "$REDIS_CUTOVER_RUN_DIR/vetoed" ] || { touch "$REDIS_CUTOVER_RUN_DIR/vetoed"; exit 1; }',
    };
    const scene = await inSync(t, { hooks, cutoverTimeoutMs: 10_000 }, { keys: 50 });
    const { migration, onSource, events } = scene;
    await call(onSource, 'SELECT', 3);
    await call(onSource, 'SET', 'year 2195', 'v', 'PXAT', 7_100_000_000_000);
    await call(onSource, 'SET', 'year 3000', 'v', 'PXAT', 32_503_680_000_000);
    await call(onSource, 'SET', 'year 9999', 'v', 'PXAT', 253_402_300_799_000);
    await call(onSource, 'SET', 'ten nines', 'v', 'EX', 9_999_999_999);
    await caughtUp(scene);
    assert.equal((await rejection(migration.cutOver())).code, 'hook-vetoed');
    await until(() =>
      events.some((event) => event.event === 'note' && /held back again/.test(event.message)),
    );
    await cutOver(scene);
    await assertTrueTimes(scene);
  });

  it('a quit leaves true what is not due within two minutes, and holds back what is', async (t) => {
    const scene = await inSync(t, {}, { keys: 300 });
    const { migration, onSource, onTarget } = scene;
    await writeAllTypes(onSource);
    await caughtUp(scene);
    await migration.stop('the test looks at what is left');
    const [expected, found] = [await expiryTimes(onSource), await expiryTimes(onTarget)];
    assert.ok([...expected].some(([key, atMs]) => key.endsWith(':near') && atMs > 0));
    for (const [key, atMs] of expected) {
      const near = atMs > 0 && atMs < Date.now() + 120_000;
      assert.equal(found.get(key), near ? atMs + SHIFT_MS : atMs, key);
    }
  });
});

describe('import mode', () => {
  const release = RELEASES.find(({ kind, version }) => kind === 'valkey' && version.startsWith('8.1'));
  const skip = release === undefined ? 'no Valkey 8.1 is here' : false;
  const importMode = async (client: RespConnection): Promise<unknown> =>
    ((await call(client, 'CONFIG', 'GET', 'import-mode')) as string[])[1];

  for (const how of ['promote', 'stop'] as const) {
    it(`is put back: ${how}`, { skip }, async (t) => {
      const scene = await inSync(t, {}, { target: { binary: release!.path }, keys: 50 });
      assert.equal(await importMode(scene.onTarget), 'yes');
      if (how === 'promote') {
        await scene.migration.cutOver();
        if (scene.migration.phase === 'writable') await scene.migration.promote();
      } else await scene.migration.stop('the test is over');
      assert.equal(await importMode(scene.onTarget), 'no');
    });
  }
});
