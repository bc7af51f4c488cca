/** The priority of the program's process, as the system tells it: low while a snapshot comes in by commands, then its own. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import { runCli } from '../helpers/cli.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, newRunDir } from './support.ts';

/** CAP_SYS_NICE among what this process may do; the program inherits it, and is not asked: it is what is tested. */
function mayRaise(): boolean {
  try {
    const status = readFileSync('/proc/self/status', 'latin1');
    const rights = Number.parseInt(/CapEff:\s*\w*(\w{6})$/m.exec(status)?.[1] ?? '0', 16);
    return (rights & 0x800000) !== 0;
  } catch {
    return false;
  }
}

const skip = mayRaise() ? false : 'this process may not raise its priority: the program leaves its own alone';

test('low while a snapshot comes in, its own again behind it', { skip }, async (t) => {
  const source = await testServer(t);
  const target = await testServer(t);
  for (let i = 0; i < 30; i++) await ask(source.port, 'SET', `key:${i}`, `${i}`.repeat(30_000));
  const limits = ['--feed', 'write', '--throttle-mb', '1', '--cutover', 'never', '--json'];
  const pair = ['--src', `127.0.0.1:${source.port}`, '--dst', `127.0.0.1:${target.port}`];
  const run = runCli(['migrate', ...pair, ...limits, '--run-dir', newRunDir(t)], { t });
  const own = getPriority();
  await run.phase('snapshot');
  await until(() => getPriority(run.pid) === Math.min(19, own + 7), { what: 'a lower priority' });
  await run.phase('in-sync');
  assert.equal(getPriority(run.pid), own);
  run.kill('SIGINT');
  await run.exit;
});
