/** runCli: reads NDJSON as it comes, and tells how the program ended. Runs a script in the program's place. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type CliOptions, type CliRun, runCli } from '../../helpers/cli.ts';
import { until } from '../../helpers/wait.ts';

const SCRIPT = `
let input = '';
const line = (value) => JSON.stringify({ ts: '2026', ...value }) + '\\n';
process.on('SIGTERM', () => process.exit(3));
process.stdin.on('data', (text) => { input += text; }).on('end', () => {
  const first = line({ event: 'phase', pair: 'a', from: 'checking', to: 'snapshot' });
  process.stdout.write(first.slice(0, 20));
  setTimeout(() => {
    process.stdout.write(first.slice(20) + 'no json\\n' + line({ event: 'note', message: input, arg: process.argv[2] }));
    process.stderr.write('env ' + process.env.FROM_TEST);
    if (process.argv[2] === 'stay') setInterval(() => {}, 1000);
  }, 20);
});
`;

function run(t: TestContext, arg: string, options: CliOptions = {}): CliRun {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const script = join(folder, 'script.cjs');
  writeFileSync(script, SCRIPT);
  return runCli([arg], { script, t, stdin: 'typed', env: { FROM_TEST: 'yes' }, ...options });
}

test('events, output, environment, input and exit code', async (t) => {
  const cli = run(t, 'go');
  assert.equal((await cli.phase('snapshot'))['from'], 'checking');
  const note = await cli.until((event) => event.event === 'note');
  assert.deepEqual([note['message'], note['arg']], ['typed', 'go']);
  assert.equal(await cli.exit, 0);
  assert.equal(cli.events.length, 2);
  assert.match(cli.stdout(), /^no json$/m);
  assert.equal(cli.stderr(), 'env yes');
  // What has come already is found, too; what can no longer come is an error
  assert.equal((await cli.phase('snapshot')).event, 'phase');
  await assert.rejects(cli.phase('in-sync'), /the program ended before: phase in-sync[\s\S]*env yes/);
});

test('a program that stays: time limit, memory, signal', async (t) => {
  const cli = run(t, 'stay');
  await cli.until((event) => event.event === 'note');
  await assert.rejects(cli.phase('in-sync', 30), /not within 30 ms: phase in-sync/);
  if (process.platform === 'linux') assert.ok(cli.peakRssBytes() > 10_000_000);
  cli.kill();
  assert.equal(await cli.exit, 3);
});

test('a program that does not end is killed, and what it has said is shown', async (t) => {
  const cli = run(t, 'stay', { exitTimeoutMs: 2_000 });
  await assert.rejects(cli.exit, /not within 2000 ms: the end of the program[\s\S]*no json[\s\S]*env yes/);
  await until(() => !isAlive(cli.pid));
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
