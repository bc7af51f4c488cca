/** Behind the cutover: the way back and the rollback, for both feeds, under traffic that shows every loss and every double. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { compareServers, digest } from '../../src/demo/compare.ts';
import { startTraffic, type Traffic } from '../../src/demo/traffic.ts';
import { infoField, plain } from '../helpers/client.ts';
import { until } from '../helpers/wait.ts';
import { aclOf, inSync, rejection, type Scene, steps, write } from './migration-scene.ts';

/** So many writes are acknowledged before it goes on: a condition, not a time. */
const WRITES = 3_000;

async function wrote(traffic: Traffic, writes = WRITES): Promise<void> {
  const from = traffic.stats().acknowledged;
  await until(() => traffic.stats().acknowledged >= from + writes, { timeoutMs: 60_000, what: 'traffic' });
}

async function equal({ source, target }: Scene): Promise<void> {
  const { different, missing, extra, first } = await compareServers(source.port, target.port);
  assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, first ?? '');
  assert.equal(await digest(target.port), await digest(source.port));
}

for (const feed of ['attach', 'write'] as const) {
  test(`${feed}: c under traffic, traffic on the new master, and back: nothing is lost`, async (t) => {
    const scene = await inSync(t, { feed, cutover: 'ask', cutoverTimeoutMs: 10_000 });
    const { source, target, onSource, onTarget, migration, acl } = scene;
    const before = await startTraffic({ port: source.port });
    t.after(() => before.stop());
    await wrote(before);
    const copies = await infoField(onTarget, 'stats', 'sync_full');
    await migration.cutOver();
    assert.equal(migration.phase, 'promoted');
    assert.equal(migration.wayBackOpen, true, migration.summary().notes.join('\n'));
    const { acknowledged, witness } = await before.stop();
    assert.ok(acknowledged > WRITES);
    assert.match(await write(onSource), feed === 'attach' ? /READONLY/ : /NOPERM/);
    const onWitness = Number(plain(await onTarget.call('GET', 'traffic:witness')));
    assert.ok(onWitness >= witness, `${onWitness} < ${witness}`);

    const behind = await startTraffic({ port: target.port, seed: 2 });
    t.after(() => behind.stop());
    await wrote(behind);
    await until(() => /rollback lossless/.test(migration.snapshot().wayBack ?? ''));
    await migration.rollBack();
    assert.equal(migration.phase, 'rolled-back');
    await behind.stop();
    assert.match(await write(onTarget), feed === 'attach' ? /READONLY/ : /NOPERM/);
    assert.equal(await write(onSource, 'after'), 'OK');
    assert.deepEqual(await aclOf(onSource), acl[0]);
    if (feed === 'attach') {
      assert.equal(await infoField(onTarget, 'stats', 'sync_full'), copies);
      assert.equal(await infoField(onSource, 'stats', 'sync_full'), '1');
      await until(async () => plain(await onTarget.call('GET', 'after')) === '1');
      assert.deepEqual(await aclOf(onTarget), acl[1]);
    } else {
      await onSource.call('DEL', 'after');
    }
    await equal(scene);
    assert.ok(steps(scene).some((name) => name === 'tail compared'));
  });

  test(`${feed}: e, writes on both sides, m, and back`, async (t) => {
    const scene = await inSync(t, { feed, cutover: 'ask', cutoverTimeoutMs: 10_000 });
    const { source, onSource, onTarget, migration, acl } = scene;
    const before = await startTraffic({ port: source.port });
    t.after(() => before.stop());
    await wrote(before);
    await migration.enableWrites();
    assert.equal(migration.phase, 'writable');
    // an application that has moved: keys of its own, in another database too
    for (let n = 0; n < 50; n++) {
      await onTarget.call('INCR', 'moved');
      await onTarget.call('SELECT', 3);
      await onTarget.call('RPUSH', 'moved:list', n);
      await onTarget.call('SELECT', 0);
    }
    await wrote(before);
    await migration.promote();
    assert.equal(migration.phase, 'promoted');
    await before.stop();
    assert.equal(migration.wayBackOpen, true, migration.summary().notes.join('\n'));
    assert.equal(plain(await onTarget.call('GET', 'moved')), '50');
    await onTarget.call('INCR', 'moved');
    await migration.rollBack();
    assert.equal(await write(onSource, 'after'), 'OK');
    await onSource.call('DEL', 'after');
    assert.equal(plain(await onSource.call('GET', 'moved')), '51');
    assert.deepEqual(await aclOf(onSource), acl[0]);
    await equal(scene);
  });

  test(`${feed}: a hook that vetoes undoes the cutover, and a later one succeeds`, async (t) => {
    const hooks = {
      cutover: 'test -e "$REDIS_CUTOVER_RUN_DIR/go" || { echo not yet; exit 3; }',
    };
    const scene = await inSync(t, { feed, cutover: 'never', cutoverTimeoutMs: 10_000, hooks });
    const { onSource, onTarget, migration, events, folder, acl } = scene;
    const { code } = await rejection(migration.cutOver());
    assert.equal(code, 'hook-vetoed');
    assert.ok(events.some((event) => event.event === 'note' && /hook: not yet/.test(event.message)));
    assert.equal(migration.phase, 'in-sync');
    assert.equal(await write(onSource, 'again'), 'OK');
    assert.deepEqual(await aclOf(onSource), acl[0]);
    await until(async () => plain(await onTarget.call('GET', 'again')) === '1');
    assert.match(await write(onTarget), feed === 'attach' ? /READONLY/ : /NOPERM/);
    if (feed === 'attach') assert.equal(await infoField(onSource, 'stats', 'sync_full'), '1');
    writeFileSync(`${folder.dir}/go`, '');
    await until(() => migration.phase === 'in-sync');
    await migration.cutOver();
    assert.equal(migration.phase, 'promoted');
    assert.equal(await write(onTarget), 'OK');
  });
}
