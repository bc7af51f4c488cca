/**
 * Pause and throttle of a session that nobody sits at, from a second terminal: pairs in worker processes, under traffic,
 * with `--cutover auto`; the worker of the one that is paused is killed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PairSnapshot } from '../../src/core/events.ts';
import { askSession } from '../../src/fleet/control-client.ts';
import type { ControlAnswer, ControlRequest } from '../../src/fleet/control-messages.ts';
import { runCli } from '../helpers/cli.ts';
import { until } from '../helpers/wait.ts';
import { allIn, assertMoved, fleet, migrateFleet, phasesOf, workersOf } from './fleet-scene.ts';
import { ends, newRunDir, ask as redis } from './support.ts';

test('one pair is paused while it loads, its worker dies, the other is cut over; it goes on and is equal', async (t) => {
  const pairs = await fleet(t, 2);
  const [held, other] = pairs;
  assert.ok(held && other);
  const dir = newRunDir(t);
  const args = ['--cutover', 'auto', '--feed', 'write', '--workers', '2', '--throttle-keys', '30'];
  const session = migrateFleet(t, pairs, dir, args);
  const ask = (request: ControlRequest): Promise<ControlAnswer> => askSession(dir, request);
  const of = ({ name }: { readonly name: string }) => ({ pairs: [name], wave: null });
  const NONE = { keysPerSecond: null, bytesPerSecond: null };
  await until(() => phasesOf(session).get(held.name) === 'snapshot', { what: 'the snapshot' });
  await until(async () => Number(await redis(held.target.port, 'DBSIZE')) > 2, { what: 'some keys' });
  await ask({ kind: 'pause', choice: of(held), on: true });
  const status = async (): Promise<PairSnapshot> => {
    const answer = await ask({ kind: 'status' });
    const shown = answer.kind === 'status' ? answer.pairs.find(({ pair }) => pair === held.name) : undefined;
    assert.ok(shown);
    return shown;
  };
  const before = await status();
  assert.equal(before.paused, true);
  assert.deepEqual(
    [before.phase, before.throttle],
    ['snapshot', { keysPerSecond: 30, bytesPerSecond: null }],
  );
  assert.match(before.reason ?? '', /^paused by the operator/);

  const size = Number(await redis(held.target.port, 'DBSIZE'));
  // one of the two has the pair: which one nobody says
  for (const pid of workersOf(session.pid)) process.kill(pid, 'SIGKILL');
  await allIn(session, [held], 'checking');
  await allIn(session, [held], 'snapshot');
  await ask({ kind: 'throttle', choice: of(other), limits: NONE });
  await allIn(session, [other], 'promoted');
  const after = await status();
  assert.deepEqual([after.paused, after.phase], [true, 'snapshot']);
  // begun again, it would be emptied for a new copy
  const now = Number(await redis(held.target.port, 'DBSIZE'));
  assert.ok(now >= size && now < 500, `${size} keys, then ${now}`);

  await ask({ kind: 'throttle', choice: of(held), limits: NONE });
  const goOn = runCli(['pause', dir, '--off', '--json'], { t });
  assert.equal(await goOn.exit, 0, goOn.stderr());
  await ends(session, 0);
  for (const pair of pairs) await assertMoved(pair);
});
