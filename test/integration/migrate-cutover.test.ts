/**
 * The cutover of one pair, called step by step: what cannot be done in time, is called off or fails in the middle is
 * undone, the source first of all. Real servers; the target is stopped at will.
 */
import assert from 'node:assert/strict';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TargetError } from '../../src/core/errors.ts';
import { compareServers, digest } from '../../src/demo/compare.ts';
import type { Migration } from '../../src/migrate/migration.ts';
import { infoField, plain, testClient } from '../helpers/client.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { inSync, rejection, type Scene, steps, write } from './migration-scene.ts';

/**
 * For a target that takes nothing from the first step of a cutover on, and a write that it therefore cannot have: what
 * comes before that needs the target. See stuck().
 */
const WAITS_FOR_TEST = {
  before: 'cd "$REDIS_CUTOVER_RUN_DIR"; while [ -e stuck ]; do touch waits; sleep 0.01; done',
};

/** To be called before a cutover; what it returns, while it is under way. */
function stuck({ target, onSource, folder }: Scene): () => Promise<void> {
  const [stuck, waits] = [join(folder.dir, 'stuck'), join(folder.dir, 'waits')];
  writeFileSync(stuck, '');
  return async () => {
    await until(() => existsSync(waits));
    target.process.kill('SIGSTOP');
    await onSource.call('INCR', 'counter');
    rmSync(stuck);
  };
}

/** Writes on the source wait for what becomes of the cutover. */
async function draining(scene: Scene): Promise<void> {
  await until(() => steps(scene).includes('offset read'));
}

test('a cutover that cannot drain is undone, and a later one succeeds', async (t) => {
  const scene = await inSync(t, { hooks: WAITS_FOR_TEST });
  const { source, target, onSource, onTarget, migration } = scene;
  const stop = stuck(scene);
  const promotion = rejection(migration.promote());
  await stop();
  await draining(scene);
  const waiting = write(onSource);
  const error = await promotion;
  assert.equal(error.code, 'cutover-timeout');
  assert.match(error.message, /0\.5 s \(\d+ bytes were left\)/);
  assert.deepEqual(steps(scene), [
    'hook before',
    'writes paused',
    'offset read',
    'fence lifted',
    'writes go on',
  ]);
  // what came while it was open whether the cutover succeeds has only waited
  assert.equal(await waiting, 'OK');
  assert.equal(await write(onSource), 'OK');
  assert.deepEqual(plain(await onSource.call('ACL', 'LIST')), scene.acl[0]);

  target.process.kill('SIGCONT');
  await until(async () => plain(await onTarget.call('GET', 'probe')) === '1');
  assert.match(await write(onTarget), /NOPERM/);
  await until(() => migration.phase === 'in-sync');
  await migration.promote();
  assert.equal(migration.phase, 'promoted');
  assert.match(await write(onSource), /NOPERM/);
  assert.equal(await digest(target.port), await digest(source.port));
  assert.equal(await write(onTarget), 'OK');
  assert.deepEqual(plain(await onTarget.call('ACL', 'LIST')), scene.acl[1]);
  const journal = (await scene.folder.readJournal()).map(({ kind }) => kind);
  assert.deepEqual(
    journal.filter((kind) => kind.startsWith('source-fence')),
    ['source-fence', 'source-fence-lifted', 'source-fence'],
  );
});

for (const [how, end, phase] of [
  ['stopped by the operator', (migration: Migration) => migration.stop('quit'), 'stopped'],
  [
    'failed',
    async (migration: Migration) =>
      migration.abandon(
        new TargetError('another run took the target', { code: 'target-lease', hint: 'look' }),
      ),
    'failed',
  ],
] as const) {
  test(`a pair that is ${how} in the middle of a cutover lets the source go`, async (t) => {
    const scene = await inSync(t, { cutoverTimeoutMs: 60_000, hooks: WAITS_FOR_TEST });
    const { target, onSource, onTarget, migration } = scene;
    const stop = stuck(scene);
    const promotion = rejection(migration.promote());
    await stop();
    await draining(scene);
    const ended = end(migration);
    await promotion;
    assert.equal(await write(onSource), 'OK');
    assert.deepEqual(plain(await onSource.call('ACL', 'LIST')), scene.acl[0]);
    target.process.kill('SIGCONT');
    await ended;
    await until(
      async () => JSON.stringify(plain(await onTarget.call('ACL', 'LIST'))) === JSON.stringify(scene.acl[1]),
    );
    assert.equal(migration.phase, phase);
    assert.equal(migration.leftBehind, false);
  });
}

test('a target that does not answer when its expiry times are to be set right: nothing is touched', async (t) => {
  const scene = await inSync(t);
  const { target, onSource, migration } = scene;
  target.process.kill('SIGSTOP');
  assert.equal((await rejection(migration.promote())).code, 'cutover-timeout');
  assert.deepEqual(steps(scene), []);
  assert.equal(await write(onSource), 'OK');
  target.process.kill('SIGCONT');
  await until(() => migration.phase === 'in-sync');
});

test('e opens the target and leaves the source alone, m then fences the source', async (t) => {
  const scene = await inSync(t);
  const { source, target, onSource, onTarget, migration } = scene;
  await migration.enableWrites();
  assert.equal(migration.phase, 'writable');
  assert.deepEqual(
    (plain(await onTarget.call('ACL', 'LIST')) as string[]).filter(
      (line) => !line.includes('redis-cutover-'),
    ),
    scene.acl[1],
  );
  assert.equal(String(plain(await onTarget.call('SET', 'moved-app', '1'))), 'OK');
  assert.equal(await write(onSource), 'OK');
  // what the applications that have not moved still write comes over
  await until(async () => plain(await onTarget.call('GET', 'probe')) === '1');
  await migration.promote();
  assert.equal(migration.summary().writeOutageMs, 0);
  assert.match(await write(onSource), /NOPERM/);
  const { different, missing, extra } = await compareServers(source.port, target.port, {
    exclude: ['moved-app'],
  });
  assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 });
});

test('a cutover that is undone behind e leaves the target open', async (t) => {
  const scene = await inSync(t, { hooks: WAITS_FOR_TEST });
  const { target, onSource, onTarget, migration } = scene;
  await migration.enableWrites();
  const stop = stuck(scene);
  const promotion = rejection(migration.promote());
  await stop();
  assert.equal((await promotion).code, 'cutover-timeout');
  assert.equal(migration.phase, 'writable');
  assert.equal(await write(onSource), 'OK');
  target.process.kill('SIGCONT');
  assert.equal(await write(onTarget), 'OK');
});

test('--no-source-fence leaves the source as it is, and says what that means', async (t) => {
  const { onSource, migration, events, acl } = await inSync(t, { sourceFence: false });
  await migration.promote();
  assert.equal(await write(onSource), 'OK');
  assert.deepEqual(plain(await onSource.call('ACL', 'LIST')), acl[0]);
  assert.ok(events.some((event) => event.event === 'note' && /last ones can be lost/.test(event.message)));
  assert.deepEqual(migration.summary().notes, [
    'no way back was kept: --no-source-fence leaves the source writable',
  ]);
});

test('users who changed while they were fenced are left as they are, with a note', async (t) => {
  const { onTarget, migration } = await inSync(t);
  await onTarget.call('ACL', 'SETUSER', 'default', '-get');
  await migration.stop('quit');
  const notes = migration.summary().notes.join('\n');
  assert.match(notes, /user default was changed on the target .* former rights: ACL SETUSER default/);
  assert.match(String(plain(await onTarget.call('ACL', 'LIST'))), /-get/);
});

test('clients of the source: applications only, not us and not replicas', async (t) => {
  const { source, migration } = await inSync(t);
  const app = await testClient(t, source.port);
  await app.call('CLIENT', 'SETNAME', 'shop');
  await app.call('SET', 'k', 'v');
  const replica = await testServer(t, { args: ['--replicaof', '127.0.0.1', String(source.port)] });
  const onReplica = await testClient(t, replica.port);
  await until(async () => (await infoField(onReplica, 'replication', 'master_link_status')) === 'up');
  const clients = await migration.clients();
  const shop = clients.find(({ name }) => name === 'shop');
  assert.deepEqual(
    { ...shop, addr: '', idleSeconds: 0 },
    { addr: '', name: 'shop', user: 'default', lastCommand: 'set', idleSeconds: 0, writing: true },
  );
  assert.ok(
    clients.every(
      ({ name, lastCommand }) => !name.startsWith('redis-cutover') && !/psync|replconf/i.test(lastCommand),
    ),
  );
});
