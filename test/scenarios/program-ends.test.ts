/** The program ends after its summary, also where it could not give the target back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testServer } from '../helpers/server.ts';
import { ask, ends, eventsOf, firstPair, migrate, withClient } from './support.ts';

test('the target lets its operator in no more: exit 7, and no socket keeps the process alive', async (t) => {
  const [source, target] = [await testServer(t), await testServer(t)];
  await ask(source.port, 'SET', 'k', 'v');
  const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never']);
  await run.phase('in-sync');
  // the run's own user stays connected, the operator cannot come back to lift the fence
  await withClient(target.port, async (client) => {
    await client.call('ACL', 'SETUSER', 'default', 'off');
    await client.call('CLIENT', 'KILL', 'USER', 'default');
  });
  run.kill();
  const { notes } = firstPair(await ends(run, 7));
  assert.match(String(notes), /could not be given back whole.*redis-cutover resume/);
  assert.deepEqual(eventsOf(run, 'error'), []);
  assert.equal(await ask(source.port, 'SET', 'k', 'w'), 'OK');
});
