/** Feed `attach`: servers that hang, or grant little, in the middle of a cutover; and sources of old releases. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { compareServers, digest } from '../../src/demo/compare.ts';
import type { DemoServer, ServerOptions } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { infoField, plain } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { atEnd } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { aclOf, inSync, rejection, type Scene, write } from './migration-scene.ts';

async function trafficOn(t: TestContext, { source }: Scene): Promise<Traffic> {
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 1_000 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  await until(() => traffic.stats().acknowledged > 500, { timeoutMs: 30_000 });
  return traffic;
}

/** Through, nothing lost, nothing twice, and the old source follows by a partial resync. */
async function assertPromoted(scene: Scene, traffic: Traffic): Promise<void> {
  const { migration, onSource, onTarget, source, target } = scene;
  assert.equal(migration.phase, 'promoted');
  const { witness } = await traffic.stop();
  assert.equal(plain(await onTarget.call('GET', WITNESS_KEY)), String(witness));
  assert.equal(await write(onTarget, 'after'), 'OK');
  await until(async () => plain(await onSource.call('GET', 'after')) === '1');
  assert.match(await write(onSource), /READONLY/);
  assert.equal(await infoField(onTarget, 'stats', 'sync_full'), '0');
  assert.equal(await digest(target.port), await digest(source.port));
}

/** The old source has all that the new master has now. */
async function followed({ onSource, onTarget }: Scene): Promise<void> {
  const offset = Number(await infoField(onTarget, 'replication', 'master_repl_offset'));
  const reached = async (): Promise<boolean> =>
    Number(await infoField(onSource, 'replication', 'master_repl_offset')) >= offset;
  await until(reached, { timeoutMs: 30_000 });
}

/** Runs `command` before the first cutover; `$pid` is that of a server. */
function once(command: string): { readonly before: string } {
  const before = `cd "$REDIS_CUTOVER_RUN_DIR"; pid=$(cat pid); test -e once || { touch once; ${command}\n}`;
  return { before };
}

function pidOf({ folder }: Scene, { process }: DemoServer): void {
  writeFileSync(join(folder.dir, 'pid'), String(process.pid));
}

/** What the operator's user on the source may not do. */
const RIGHTS = [
  { without: '-acl', fence: 'min-slaves-to-write', said: null },
  { without: '-acl -config +config|get', fence: 'the pause', said: null },
  {
    without: '-acl -config +config|get -client|pause',
    fence: 'nothing',
    said: /writes on the source are not stopped/,
  },
] as const;

/** `redis-5.0.10` and the like; undefined where it is not on this machine. */
function server(version: string): ServerOptions | undefined {
  const release = serverReleases().find((each) => each.version === version);
  return release === undefined ? undefined : { binary: release.path };
}

describe('trouble in a cutover', { concurrency: 3 }, () => {
  test('the target hangs while it is drained: undone in time, what waited on the source is done', async (t) => {
    const hooks = once('kill -STOP $pid');
    const scene = await inSync(t, { feed: 'attach', cutoverTimeoutMs: 1_000, hooks });
    const { target, migration, onSource, acl } = scene;
    pidOf(scene, target);
    const traffic = await trafficOn(t, scene);
    const { code } = await rejection(migration.cutOver());
    assert.equal(code, 'cutover-timeout');
    assert.deepEqual(await aclOf(onSource), acl[0]);
    assert.equal(await write(onSource, 'waited'), 'OK');
    assert.equal(traffic.stats().refused, 0);
    target.process.kill('SIGCONT');
    await until(() => migration.phase === 'in-sync', { timeoutMs: 30_000 });
    await migration.cutOver();
    await assertPromoted(scene, traffic);
  });

  test('the target hangs when it has everything: undone in time, too', async (t) => {
    const hooks = once('kill -STOP $pid');
    const scene = await inSync(t, { feed: 'attach', cutoverTimeoutMs: 1_000, hooks });
    const { target, migration, onSource, acl } = scene;
    pidOf(scene, target);
    const traffic = await trafficOn(t, scene);
    await traffic.stop();
    const offset = Number(await infoField(onSource, 'replication', 'master_repl_offset'));
    await until(() => migration.snapshot().appliedOffset >= offset);
    const { code } = await rejection(migration.cutOver());
    assert.equal(code, 'cutover-timeout');
    assert.deepEqual(await aclOf(onSource), acl[0]);
    assert.equal(await write(onSource, 'waited'), 'OK');
    target.process.kill('SIGCONT');
    await until(() => migration.phase === 'in-sync', { timeoutMs: 30_000 });
    await migration.cutOver();
    await assertPromoted(scene, traffic);
  });

  test('the source hangs for a while in the middle', async (t) => {
    const hooks = once('kill -STOP $pid; (sleep 1.5; kill -CONT $pid) > /dev/null 2>&1 &');
    const scene = await inSync(t, { feed: 'attach', cutoverTimeoutMs: 1_000, hooks });
    const { source, migration, onSource, acl } = scene;
    pidOf(scene, source);
    atEnd(t, () => void source.process.kill('SIGCONT'));
    const traffic = await trafficOn(t, scene);
    // what it was asked before the time ran out may be answered behind it
    const failed = await migration.cutOver().then(() => null, String);
    if (failed !== null) {
      assert.equal(await write(onSource, 'waited'), 'OK', failed);
      assert.deepEqual(await aclOf(onSource), acl[0]);
      await until(() => migration.phase === 'in-sync', { timeoutMs: 30_000 });
      await migration.cutOver();
    }
    await assertPromoted(scene, traffic);
  });

  for (const { without, fence, said } of RIGHTS) {
    test(`rights on the source ${without}: ${fence} holds the writes until it is a replica`, async (t) => {
      const scene = await inSync(
        t,
        { feed: 'attach', cutoverTimeoutMs: 10_000 },
        { source: { args: ['--user', ...`default on nopass ~* &* +@all ${without}`.split(' ')] } },
      );
      const { migration, events } = scene;
      const traffic = await trafficOn(t, scene);
      if (said !== null) await traffic.stop();
      await until(() => migration.phase === 'in-sync', { timeoutMs: 30_000 });
      await migration.cutOver();
      const notes = events.flatMap((event) => (event.event === 'note' ? [event.message] : [])).join('\n');
      if (said !== null) assert.match(notes, said);
      await assertPromoted(scene, traffic);
    });
  }

  for (const version of ['5.0.10', '6.0.9']) {
    const old = server(version);
    const options = old === undefined ? { skip: `needs ${version}` } : {};
    test(`${version}: no pause of writes, the fence alone; it follows the new master`, options, async (t) => {
      const servers = { source: old ?? {}, target: old ?? {} };
      const scene = await inSync(t, { feed: 'attach', cutoverTimeoutMs: 10_000 }, servers);
      const { migration, source, target, onSource, onTarget } = scene;
      const traffic = await trafficOn(t, scene);
      await migration.cutOver();
      await traffic.stop();
      const after = await startTraffic({ port: target.port, seed: 2 });
      atEnd(t, async () => void (await after.stop()));
      await until(() => after.stats().acknowledged > 500);
      await after.stop();
      assert.match(await write(onSource), /READONLY/);
      assert.equal(await infoField(onTarget, 'stats', 'sync_full'), '0');
      const setting = 'min-slaves-to-write';
      assert.deepEqual(plain(await onSource.call('CONFIG', 'GET', setting)), [setting, '0']);
      await followed(scene);
      assert.equal(await digest(target.port), await digest(source.port));
    });

    test(
      `${version} to a newer one: it follows, read-only, and that is said to be no way back`,
      options,
      async (t) => {
        const servers = { source: old ?? {} };
        const scene = await inSync(t, { feed: 'attach', cutoverTimeoutMs: 10_000 }, servers);
        const { migration, source, target, onSource, onTarget } = scene;
        const traffic = await trafficOn(t, scene);
        await migration.cutOver();
        assert.equal(migration.phase, 'promoted');
        assert.match(
          migration.summary().notes.join('\n'),
          /follows the new master and is read-only, but that is no way back: .*does not understand/,
        );
        assert.equal(migration.wayBackOpen, false);
        assert.equal(migration.wayBackNeedsCopy, null);
        const { witness } = await traffic.stop();
        assert.equal(plain(await onTarget.call('GET', WITNESS_KEY)), String(witness));
        assert.match(await write(onSource), /READONLY/);
        assert.equal(await infoField(onTarget, 'stats', 'sync_full'), '0');
        const { different, missing, extra, first } = await compareServers(source.port, target.port);
        assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, first ?? '');
      },
    );
  }
});
