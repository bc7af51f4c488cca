/** Applications write to the target: a full copy, which would wipe that, is refused, and both sides go on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plain } from '../helpers/client.ts';
import { until } from '../helpers/wait.ts';
import { inSync, write } from './migration-scene.ts';

for (const feed of ['write', 'attach'] as const) {
  test(`fed by ${feed}, writable: the source has its backlog no more`, async (t) => {
    const small = { args: ['--repl-backlog-size', '16kb'] };
    const scene = await inSync(t, { feed }, { source: small });
    const { migration, onSource, onTarget, events } = scene;
    await migration.enableWrites();
    assert.equal(await write(onTarget, 'application'), 'OK');
    const acl = plain(await onSource.call('ACL', 'LIST'));
    // in one write: the link has no time to come back in between
    await onSource.pipeline([
      ['CLIENT', 'KILL', 'TYPE', 'replica'],
      ['SET', 'big', 'x'.repeat(200_000)],
      ['DEL', 'big'],
    ]);
    await until(() => migration.phase === 'failed', { timeoutMs: 30_000, what: 'the refusal' });
    assert.equal(migration.error?.code, 'full-resync-refused');
    assert.match(migration.error.hint, /which side is right/);
    assert.ok(events.some((event) => event.event === 'error' && event.code === 'full-resync-refused'));
    await migration.stop('it has failed already');
    assert.equal(plain(await onTarget.call('GET', 'application')), '1', 'what was written there is there');
    assert.ok(Number(await onTarget.call('DBSIZE')) > 100);
    assert.deepEqual([await write(onSource), await write(onTarget)], ['OK', 'OK']);
    assert.deepEqual(plain(await onSource.call('ACL', 'LIST')), acl);
  });
}
