/**
 * A pair that the operator holds back, or slows down, between real servers: what the target holds stands still or comes
 * slowly, the source is read and keeps us, and in the end both sides are equal.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digest } from '../../src/demo/compare.ts';
import { startTraffic } from '../../src/demo/traffic.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { infoField } from '../helpers/client.ts';
import { until } from '../helpers/wait.ts';
import { assertEqualServers } from '../scenarios/support.ts';
import { begun, inSync, rejection, type Scene } from './migration-scene.ts';

/** A master that is silent for longer is dropped; the PINGs of the source are nearer. */
const IMPATIENT = ['--repl-timeout', '4', '--repl-ping-replica-period', '1'];
const NONE = { keysPerSecond: null, bytesPerSecond: null };

async function offsetOf(onSource: RespConnection): Promise<number> {
  return Number(await infoField(onSource, 'replication', 'master_repl_offset'));
}

async function equalInTheEnd({ migration, onSource, source, target }: Scene): Promise<void> {
  const offset = await offsetOf(onSource);
  await until(() => migration.phase === 'in-sync' && migration.snapshot().appliedOffset >= offset, {
    timeoutMs: 60_000,
    what: 'in sync again',
  });
  await assertEqualServers(source.port, target.port, migration.snapshot().feed === 'attach');
}

// most of their time is waiting
describe('held back', { concurrency: true }, () => {
  for (const feed of ['write', 'attach'] as const) {
    it(`${feed}: paused under traffic the target stands still, the source keeps us, and nothing is lost`, async (t) => {
      const scene = await inSync(t, { feed }, { source: { args: IMPATIENT }, target: { args: IMPATIENT } });
      const { migration, onSource, onTarget, source, target } = scene;
      const traffic = await startTraffic({ port: source.port, ratePerSecond: 300, seed: 7 });
      t.after(() => traffic.stop());
      await migration.pause(true);
      await migration.pause(true);
      // what was on its way when it was shut
      const still = await onceStill(() => digest(target.port));
      // attached it would take a silent master for dead by then
      const seconds = feed === 'attach' ? 5.5 : 1;
      await until(() => migration.snapshot().lagSeconds > seconds, {
        timeoutMs: 60_000,
        what: 'seconds behind',
      });
      await until(() => migration.snapshot().lagBytes > 20_000, { what: 'traffic meanwhile' });
      assert.equal(await digest(target.port), still);
      const shown = migration.snapshot();
      assert.ok(shown.paused, JSON.stringify(shown));
      assert.match(shown.reason ?? '', /^paused by the operator/);
      assert.match(await infoField(onSource, 'replication', 'slave0'), /state=online/);
      if (feed === 'attach') {
        assert.equal(await infoField(onTarget, 'replication', 'master_link_status'), 'up');
        assert.ok(
          !scene.events.some((event) => event.event === 'note' && /^the target:/.test(event.message)),
        );
      }
      for (const step of [
        () => migration.cutOver(),
        () => migration.promote(),
        () => migration.enableWrites(),
      ]) {
        const { code, message } = await rejection(step());
        assert.match(`${code} ${message}`, /^not-now .*(paused|catching-up)/);
      }
      await traffic.stop();
      await migration.pause(false);
      await equalInTheEnd(scene);
      assert.equal(migration.snapshot().reason, null);
      assert.equal(await infoField(onSource, 'stats', 'sync_full'), '1');
      await migration.cutOver();
      assert.equal(migration.phase, 'promoted');
      assert.equal((await rejection(migration.pause(true))).code, 'not-now');
    });

    it(`${feed}: paused in the snapshot, left so, and gone on with`, async (t) => {
      const throttle = { ...NONE, bytesPerSecond: 200_000 };
      const servers = { source: { args: IMPATIENT }, target: { args: IMPATIENT }, keys: 2_000 };
      const scene = await begun(t, { feed, throttle }, servers);
      const { migration, onTarget, onSource } = scene;
      await until(() => migration.snapshot().snapshotBytes > 30_000, { what: 'a part of the snapshot' });
      await migration.pause(true);
      const { snapshotBytes, snapshotTotal } = migration.snapshot();
      assert.ok(snapshotTotal === null || snapshotBytes < snapshotTotal);
      assert.equal(migration.phase, 'snapshot');
      await onSource.call('SET', 'behind:the:snapshot', '1');
      // the source sends all of it meanwhile, and its PINGs tell the seconds; a target that loads is as impatient
      await until(async () => /state=online/.test(await infoField(onSource, 'replication', 'slave0')));
      const from = await offsetOf(onSource);
      const pings = feed === 'attach' ? 5 : 1;
      await until(async () => (await offsetOf(onSource)) >= from + 14 * pings, {
        what: 'PINGs of the source',
      });
      assert.ok(!scene.events.some((event) => event.event === 'note' && /^the target:/.test(event.message)));
      assert.equal(migration.phase, 'snapshot');
      await migration.throttle(NONE);
      await migration.pause(false);
      await equalInTheEnd(scene);
      assert.equal(await onTarget.call('EXISTS', 'behind:the:snapshot'), 1);
    });

    it(`${feed}: quit while paused gives the target back, and says that the pause is not kept`, async (t) => {
      const { migration, onSource, onTarget } = await inSync(t, { feed }, { keys: 0 });
      await migration.pause(true);
      for (let i = 0; i < 100; i++) await onSource.call('RPUSH', 'list', String(i));
      await migration.stop('quit');
      assert.match(migration.summary().notes.join('\n'), /it was paused: resume begins without a pause/);
      assert.equal(await infoField(onTarget, 'replication', 'role'), 'master');
      assert.ok(Number(await onTarget.call('LLEN', 'list')) < 100);
    });
  }

  it('write: a limit of keys slows the snapshot and the stream, and is lifted in the middle', async (t) => {
    const throttle = { ...NONE, keysPerSecond: 400 };
    const scene = await begun(t, { throttle }, { keys: 1_000 });
    const { migration, onSource, onTarget } = scene;
    // by itself it would be through before anybody looks
    await until(async () => Number(await onTarget.call('DBSIZE')) > 100, { what: 'the first keys' });
    assert.ok(Number(await onTarget.call('DBSIZE')) < 1_000);
    assert.equal(migration.phase, 'snapshot');
    assert.equal(migration.snapshot().reason, 'throttled to 400 keys/s');
    await migration.throttle(NONE);
    await until(() => migration.phase === 'in-sync');
    await migration.throttle({ ...NONE, keysPerSecond: 50 });
    await onSource.pipeline(Array.from({ length: 1_000 }, (_, i) => ['RPUSH', 'list', String(i)]));
    await until(async () => Number(await onTarget.call('LLEN', 'list')) > 0);
    assert.ok(Number(await onTarget.call('LLEN', 'list')) < 1_000);
    await migration.throttle(NONE);
    await equalInTheEnd(scene);
  });

  it('a cutover drains without the limit; attach counts no keys', async (t) => {
    const { migration, onSource, onTarget } = await inSync(t, { feed: 'attach' });
    assert.equal((await rejection(migration.throttle({ ...NONE, keysPerSecond: 5 }))).code, 'throttle-keys');
    assert.equal(migration.snapshot().throttle, null);
    await migration.throttle({ ...NONE, bytesPerSecond: 10_486 });
    await onSource.call('SET', 'large', 'x'.repeat(1_000_000));
    await until(() => migration.snapshot().lagBytes > 100_000, { what: 'the lag' });
    assert.equal(await onTarget.call('EXISTS', 'large'), 0);
    await migration.cutOver();
    assert.equal(await onTarget.call('STRLEN', 'large'), 1_000_000);
  });
});

/** What is the same in two looks in a row. */
async function onceStill<Value>(look: () => Promise<Value>): Promise<Value> {
  let last = await look();
  await until(async () => {
    const before = last;
    last = await look();
    return last === before;
  });
  return last;
}
