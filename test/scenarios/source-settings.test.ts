/**
 * Settings of the source that a run changes with consent: set, and as they were behind every way in which a run can end.
 * The servers are equal at the end, under traffic.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic } from '../../src/demo/traffic.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers, ends, firstPair, migrate, newRunDir, note, stateOf } from './support.ts';

const BUFFER = 'client-output-buffer-limit';
/** Less than the default, which check proposes therefore. */
const SMALL = ['--client-output-buffer-limit', 'replica 10mb 5mb 5'];
const LARGER = /slave 268435456 67108864 60/;

interface Scene {
  readonly source: DemoServer;
  readonly uris: readonly [string, string];
  readonly target: DemoServer;
  readonly runDir: string;
  /** All settings of the source. */
  config(): Promise<unknown>;
  setting(name: string): Promise<string>;
}

async function scene(t: Cleanup): Promise<Scene> {
  const [source, target] = await Promise.all([testServer(t, { args: SMALL }), testServer(t)]);
  await loadDataset(source.port, { keys: 2_000, bigMembers: 1_000 });
  const config = async (): Promise<unknown> => ((await stateOf(source.port)) as { config: unknown }).config;
  const setting = async (name: string): Promise<string> =>
    String(await ask(source.port, 'CONFIG', 'GET', name));
  return { source, target, uris: [source.uri, target.uri], runDir: newRunDir(t), config, setting };
}

function notesOf(summary: { readonly [key: string]: unknown }): string {
  return JSON.stringify(firstPair(summary as never)['notes']);
}

async function tuned(run: CliRun, { setting }: Scene): Promise<void> {
  await run.phase('in-sync');
  assert.match(await setting(BUFFER), LARGER);
}

describe('with --tune-source', { concurrency: 2 }, () => {
  it('compression comes back behind the snapshot, the rest with a signal; the report tells', async (t) => {
    const pair = await scene(t);
    const before = await pair.config();
    const run = migrate(t, pair.uris, ['--cutover', 'never', '--tune-source', 'all'], pair);
    await tuned(run, pair);
    await note(run, /rdbcompression: was yes, set to no/);
    await note(run, /rdbcompression is yes again/);
    assert.match(await pair.setting('rdbcompression'), /yes/);
    run.kill('SIGTERM');
    await ends(run, 130);
    assert.deepEqual(await pair.config(), before);
    const report = JSON.parse(readFileSync(join(pair.runDir, 'report.json'), 'utf8'));
    const changes = report.pairs[0].settings.filter(({ side }: { side: string }) => side === 'source');
    assert.deepEqual(
      changes.map(({ what, putBackAt }: { what: string; putBackAt: unknown }) => [
        what.split(':', 1)[0],
        typeof putBackAt,
      ]),
      [
        [BUFFER, 'string'],
        ['rdbcompression', 'string'],
      ],
    );
  });

  it('killed -9: what is left resume puts back, at the end of a cutover', async (t) => {
    const pair = await scene(t);
    const traffic = await startTraffic({ port: pair.source.port, ratePerSecond: 500 });
    atEnd(t, async () => void (await traffic.stop()));
    const before = await pair.config();
    const killed = migrate(t, pair.uris, ['--cutover', 'never', '--tune-source', 'output-buffer'], pair);
    await tuned(killed, pair);
    killed.kill('SIGKILL');
    await killed.exit;
    assert.match(await pair.setting(BUFFER), LARGER, 'left by the crash');
    const run = runCli(['resume', pair.runDir, '--cutover', 'auto', '--json'], { t });
    await ends(run, 0);
    await until(() => traffic.stats().refused > 0);
    await traffic.stop();
    assert.deepEqual(await pair.config(), before);
    await assertEqualServers(pair.source.port, pair.target.port);
  });

  it('a pair that fails gives back as well; as a replica of ours, too', async (t) => {
    const pair = await scene(t);
    const before = await pair.config();
    const vetoed = ['--cutover', 'auto', '--before-cutover', 'exit 9', '--tune-source', 'all'];
    const run = migrate(t, pair.uris, vetoed, { ...pair, feed: 'attach' });
    await tuned(run, pair);
    await ends(run, 1);
    assert.deepEqual(await pair.config(), before);
  });

  it('what somebody else has set meanwhile stays, and is told', async (t) => {
    const pair = await scene(t);
    const run = migrate(t, pair.uris, ['--cutover', 'never', '--tune-source', 'output-buffer'], pair);
    await tuned(run, pair);
    await ask(pair.source.port, 'CONFIG', 'SET', BUFFER, 'replica 1073741824 0 0');
    run.kill('SIGTERM');
    assert.match(notesOf(await ends(run, 130)), /set to \w+ 1073741824 0 0 by somebody else/);
    assert.match(await pair.setting(BUFFER), /slave 1073741824 0 0/);
  });

  it('a source that refuses CONFIG SET is followed all the same, with the line to type', async (t) => {
    const pair = await scene(t);
    const before = await pair.config();
    await ask(pair.source.port, 'ACL', 'SETUSER', 'm', 'on', '>p', '~*', '&*', '+@all', '-config|set');
    const uri = pair.source.uri.replace('redis://', 'redis://m:p@');
    const run = migrate(t, [uri, pair.uris[1]], ['--stop-at', 'in-sync', '--tune-source', 'all'], pair);
    assert.match(
      notesOf(await ends(run, 0)),
      /does not let us change .*CONFIG SET client-output-buffer-limit/,
    );
    const rights = run.events.find(({ name }) => name === 'step-rights');
    assert.match(String(rights?.['detail']), /settings for the run .*: no CONFIG/);
    assert.deepEqual(await pair.config(), before);
  });

  it('nothing is changed without consent', async (t) => {
    const pair = await scene(t);
    const before = await pair.config();
    const run = migrate(t, pair.uris, ['--cutover', 'never', '--yes'], pair);
    await run.phase('in-sync');
    assert.deepEqual(await pair.config(), before);
    const [found] = run.events.filter(({ name }) => name === 'output-buffer');
    assert.match(String(found?.['hint']), /^CONFIG SET client-output-buffer-limit/);
  });
});
