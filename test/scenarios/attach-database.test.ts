/**
 * An attached target that was made a master for a while, by a quit or by a cutover that was undone, and follows again:
 * it goes on in database 0, whatever the stream had selected. Applications that stay in one database let nobody see a
 * SELECT; none of their writes may land in another one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RespConnection } from '../../src/resp/connection.ts';
import { runCli } from '../helpers/cli.ts';
import type { Cleanup } from '../helpers/server.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { inSync, rejection } from '../integration/migration-scene.ts';
import { assertEqualServers, caughtUp, ends, infoNumber, migrate, newRunDir } from './support.ts';

/** An application that stays in one database. */
async function applicationIn(t: Cleanup, db: number, port: number): Promise<() => Promise<void>> {
  const connection = await RespConnection.connect(port);
  t.after(() => connection.close());
  await connection.call('SELECT', db);
  return async () => {
    for (let i = 0; i < 20; i++) await connection.call('INCR', 'counter');
  };
}

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  for (const db of [1, 0]) {
    test(`${signal} while the stream is in database ${db}, written on, resumed`, async (t) => {
      const [source, target] = [await testServer(t), await testServer(t)];
      const write = await applicationIn(t, db, source.port);
      await write();
      const runDir = newRunDir(t);
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed: 'attach', runDir });
      await run.phase('in-sync');
      await write();
      await caughtUp(run, source.port);
      run.kill(signal);
      assert.equal(await run.exit, signal === 'SIGTERM' ? 130 : null);
      await write();
      const next = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
      await ends(next, 0);
      await assertEqualServers(source.port, target.port);
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
    });
  }
}

for (const db of [1, 0]) {
  test(`a cutover that is undone behind the change of roles, the stream in database ${db}`, async (t) => {
    const hooks = { cutover: 'exit 1' };
    const scene = await inSync(t, { feed: 'attach', hooks, cutoverTimeoutMs: 10_000 });
    const { source, target, migration } = scene;
    const write = await applicationIn(t, db, source.port);
    await write();
    assert.equal((await rejection(migration.cutOver())).code, 'hook-vetoed');
    await write();
    const offset = await infoNumber(source.port, 'replication', 'master_repl_offset');
    const there = () => migration.phase === 'in-sync' && migration.snapshot().appliedOffset >= offset;
    await until(there, { timeoutMs: 30_000, what: 'in sync again' });
    await assertEqualServers(source.port, target.port);
    if (db === 0) assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  });
}
