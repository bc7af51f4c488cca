/** Keys that run out while the pair is synced: only the source's word counts, whatever the target's clock says. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { RespConnection } from '../../src/resp/connection.ts';
import { plain } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { until } from '../helpers/wait.ts';
import { assertEqualServers, infoNumber } from '../scenarios/support.ts';
import { begun, inSync, rejection, type Scene } from './migration-scene.ts';

/** Time to live of what is renewed at the last moment; the target is stopped for longer. */
const SHORT_MS = 1500;
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

/** Everything in database 3, with the moments at which it expires; equal within what two clocks' looks differ by. */
async function assertEqualExpiries(scene: Scene, fields: boolean): Promise<void> {
  const { onSource, onTarget } = scene;
  for (const client of [onSource, onTarget]) await call(client, 'SELECT', 3);
  for (const key of ['counter', 'list', 'moved', 'moved:on', 'dies', 'stays']) {
    const [of, on] = await Promise.all(
      [onSource, onTarget].map(async (client) => Number(await call(client, 'PTTL', key))),
    );
    assert.ok(Math.abs((of ?? 0) - (on ?? 0)) < 1000, `${key}: ${of} on the source, ${on} on the target`);
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
  describe(name, () => {
    it('renewed while the copy is under way', async (t) => {
      const scene = await begun(t, {}, servers);
      await writeShortLived(scene.onSource, fields);
      await whileStopped(scene, () => renew(scene.onSource, fields));
      await cutOver(scene);
      await assertEqualExpiries(scene, fields);
    });

    it('renewed in sync, while the target hears nothing; and again behind a cutover that was undone', async (t) => {
      const scene = await inSync(
        t,
        { hooks: { before: null, onCutover: 'exit 1' }, cutoverTimeoutMs: 5000 },
        servers,
      );
      const { onSource, onTarget, migration } = scene;
      await writeShortLived(onSource, fields);
      assert.equal((await rejection(migration.cutOver())).code, 'hook-vetoed');
      const again = () => scene.events.some((event) => event.event === 'note' && /held back again/.test(event.message));
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
