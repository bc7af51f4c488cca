/** The benchmark at its smallest: it comes through, with a peer, too, and leaves nothing behind, whatever ends it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { atEnd } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

/** Stands in for RedisShake: reads its settings, lets the target follow the source, and stays. */
const STAND_IN = `#!${process.execPath}
const text = require('fs').readFileSync(process.argv[2], 'utf8');
const [source, target] = [...text.matchAll(/address = "(.+):(\\d+)"/g)];
const socket = require('net').connect(Number(target[2]), target[1]);
socket.write('REPLICAOF ' + source[1] + ' ' + source[2] + '\\r\\n');
`;

/** Starts the benchmark with a temporary folder of its own. */
function bench(t: TestContext, ...args: string[]): { readonly run: CliRun; readonly folder: string } {
  const outer = mkdtempSync(join(tmpdir(), 'bench-test-'));
  atEnd(t, () => rmSync(outer, { recursive: true, force: true }));
  const folder = mkdtempSync(join(outer, 'tmp-'));
  const peer = join(outer, 'stand-in');
  writeFileSync(peer, STAND_IN, { mode: 0o755 });
  const script = fileURLToPath(new URL('../bench/bench.ts', import.meta.url));
  // in NODE_OPTIONS it would reach what the benchmark starts
  const run = runCli(['tsx', script, '--scale', '0.0005', '--runs', '1', ...args], {
    script: '--import',
    t,
    exitTimeoutMs: 200_000,
    env: { TMPDIR: folder, REDIS_SHAKE_BIN: peer },
  });
  return { run, folder };
}

/** What the benchmark has left; tsx keeps what it has compiled. */
function left(folder: string): string[] {
  return readdirSync(folder).filter((name) => !name.startsWith('tsx-'));
}

test('every way comes through, and nothing is left', async (t) => {
  const { run, folder } = bench(t, '--only', 'small,live');
  assert.equal(await run.exit, 0, run.stdout() + run.stderr());
  const rows = (way: string): number => run.stdout().split(`| ${way} `).length - 1;
  assert.deepEqual(
    [
      'native REPLICAOF',
      'native, diskless load',
      'redis-cutover, write',
      'redis-cutover, attach',
      'RedisShake',
    ].map(rows),
    [2, 1, 2, 2, 2],
  );
  assert.match(run.stdout(), /\| 1\.00 +\| native REPLICAOF/);
  assert.doesNotMatch(run.stdout(), /Failed/);
  assert.deepEqual(left(folder), []);
});

test('what is interrupted leaves nothing', async (t) => {
  const { run, folder } = bench(t, '--only', 'small');
  const isUnderWay = (): boolean =>
    readdirSync(folder).some((name) => name.startsWith('redis-cutover-bench-'));
  await until(isUnderWay, { timeoutMs: 60_000, what: 'redis-cutover follows' });
  run.kill('SIGINT');
  assert.equal(await run.exit, 130, run.stdout() + run.stderr());
  await until(() => left(folder).length === 0, { what: 'folders are gone' });
});
