/** Values of tens of megabytes, in the snapshot and in the stream: they arrive equal, and memory stays bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '../../src/demo/compare.ts';
import { RespConnection } from '../../src/resp/connection.ts';
import { runCli } from '../helpers/cli.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, newRunDir } from '../scenarios/support.ts';

const MB = 1 << 20;
/** The bound of the project for any data set; the values below are as large in all as five times of it. */
const MOST_RESIDENT_BYTES = 150e6;

const text = Buffer.alloc(80 * MB, 'all work and no play makes a dull boy ');
const noise = Buffer.alloc(80 * MB);
for (let i = 0; i < noise.length; i += 4) noise.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);

async function fill(port: number, prefix: string): Promise<void> {
  const connection = await RespConnection.connect(port);
  for (const [name, value] of [
    ['text', text],
    ['noise', noise],
  ] as const) {
    await connection.call('SET', `${prefix}:${name}`, value);
    await connection.call('HSET', `${prefix}:hash`, name, value, 'small', 'x', `${name}2`, 'y');
    await connection.call('RPUSH', `${prefix}:list`, 'before', value, 'after');
  }
  await connection.call('SADD', `${prefix}:set`, noise, 'small');
  connection.close();
}

test('huge strings, fields, list elements and members, at rest and live', async (t) => {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await fill(source.port, 'rest');
  const run = runCli(
    [
      'migrate',
      '--src',
      source.uri,
      '--dst',
      target.uri,
      '--cutover',
      'never',
      '--json',
      '--run-dir',
      newRunDir(t),
    ],
    { t },
  );
  await run.phase('in-sync', 120_000);
  const snapshotBytes = run.peakRssBytes();
  await fill(source.port, 'live');
  await ask(source.port, 'SET', 'last', '1');
  await until(async () => (await ask(target.port, 'EXISTS', 'last')) === 1, { timeoutMs: 120_000 });
  const streamBytes = run.peakRssBytes();
  run.kill('SIGTERM');
  await run.exit;
  await ask(target.port, 'DEL', 'redis-cutover:checkpoint');
  assert.equal(await digest(target.port), await digest(source.port));
  assert.ok(snapshotBytes < MOST_RESIDENT_BYTES, `${snapshotBytes} bytes resident after the snapshot`);
  assert.ok(streamBytes < MOST_RESIDENT_BYTES, `${streamBytes} bytes resident after the stream`);
});
