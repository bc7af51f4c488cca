/** A target that is slower than the source: what it cannot take yet waits on disk, and the source never notices. */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { DemoServer } from '../../src/demo/server.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  ends,
  eventsOf,
  infoNumber,
  migrate,
  newRunDir,
  stateOf,
  withClient,
} from './support.ts';

/** A source that drops a replica which leaves more than this unread for longer than a busy machine explains. */
async function scene(t: TestContext): Promise<[DemoServer, DemoServer]> {
  const limit = ['--client-output-buffer-limit', 'replica 0 4mb 2'];
  // and that could not be gone on with behind a break either
  const source = await testServer(t, { args: [...limit, '--repl-backlog-size', '16kb'] });
  return [source, await testServer(t)];
}

function bytesOnDisk(runDir: string): number {
  const folder = join(runDir, 'spool');
  try {
    return readdirSync(folder, { recursive: true })
      .map((name) => statSync(join(folder, String(name))))
      .filter((file) => file.isFile())
      .reduce((sum, file) => sum + file.size, 0);
  } catch {
    return 0;
  }
}

async function write(source: DemoServer, megabytes: number): Promise<void> {
  const value = 'x'.repeat(100_000);
  await withClient(source.port, async (client) => {
    for (let n = 0; n < megabytes * 10; n++) {
      // few keys, each written many times: the stream is long, the memory of the servers is not
      await client.call('SET', `big:${n % 20}`, value + n);
      await client.call('INCR', 'count');
    }
  });
}

test('a stopped target: the stream goes to disk and comes back, the link holds', async (t) => {
  const [source, target] = await scene(t);
  await ask(source.port, 'SET', 'k', 'v');
  const runDir = newRunDir(t);
  const args = ['--cutover', 'never', '--spool-memory', '2'];
  const run = migrate(t, [source.uri, target.uri], args, { runDir });
  await run.phase('in-sync');
  target.process.kill('SIGSTOP');
  t.after(() => {
    target.process.kill('SIGCONT');
  });
  await write(source, 30);
  await until(() => bytesOnDisk(runDir) > 15e6);
  // once a second; behind the limit's time the source looks again as soon as it has something to send
  const behind = (): number =>
    run.events.filter((event) => event.event === 'progress' && Number(event['lagBytes']) > 15e6).length;
  await until(() => behind() >= 4, { what: 'four seconds behind' });
  await write(source, 1);
  assert.equal(await infoNumber(source.port, 'replication', 'connected_slaves'), 1);
  target.process.kill('SIGCONT');
  await caughtUp(run, source.port);
  await until(() => bytesOnDisk(runDir) === 0);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_partial_ok'), 0);
  assert.ok(run.peakRssBytes() < 250e6, `resident: ${run.peakRssBytes()}`);
  run.kill();
  await ends(run, 130);
  await assertEqualServers(source.port, target.port, false);
});

test('--spool-limit: a clean stop with the figure, the source unharmed, the fence lifted', async (t) => {
  const [source, target] = await scene(t);
  await ask(source.port, 'SET', 'k', 'v');
  const before = await stateOf(source.port);
  const acl = await ask(target.port, 'ACL', 'LIST');
  const runDir = newRunDir(t);
  const args = ['--cutover', 'never', '--spool-memory', '1', '--spool-limit', '5'];
  const run = migrate(t, [source.uri, target.uri], args, { runDir });
  await run.phase('in-sync');
  target.process.kill('SIGSTOP');
  const writing = write(source, 20);
  const error = await run.until((event) => event.event === 'error');
  target.process.kill('SIGCONT');
  await writing;
  assert.equal(error['code'], 'spool-limit');
  assert.match(String(error['message']), /\d+ bytes wait for the target/);
  assert.match(String(error['hint']), /--spool-limit above \d+/);
  await ends(run, 1);
  assert.equal(eventsOf(run, 'error').length, 1);
  assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), acl);
  assert.equal(await ask(source.port, 'DEL', 'count'), 1);
  await withClient(source.port, async (client) => {
    for (let n = 0; n < 20; n++) await client.call('DEL', `big:${n}`);
  });
  assert.deepEqual(await stateOf(source.port), before);
  assert.equal(bytesOnDisk(runDir), 0);
});
