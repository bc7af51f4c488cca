/**
 * A snapshot into a target that is older than the source, or of the other family: every value arrives in a form that
 * the target takes, what it has no place for is listed, and not lost without --allow-loss.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { runCli } from '../helpers/cli.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { testServer } from '../helpers/server.ts';
import {
  ask,
  assertEqualServers,
  ends,
  eventsOf,
  firstPair,
  migrate,
  newRunDir,
  withClient,
} from './support.ts';

const releases = serverReleases();

/** From, to, what is lost for certain, and what is counted without being asked about. */
const PAIRS: readonly (readonly [
  from: string,
  to: string,
  lost: readonly RegExp[],
  counted: readonly RegExp[],
])[] = [
  ['redis 8.2', 'redis 5.0', [/fields in \d+ hashes/, /1 library of functions/], [/counters/]],
  ['redis 8.2', 'redis 3.2', [/fields in \d+ hashes/, /1 library of functions/], []],
  ['redis 7.0', 'redis 6.2', [/1 library of functions/], [/counters/]],
  ['redis 7.4', 'redis 7.2', [/fields in \d+ hashes/], []],
  ['valkey 9.1', 'redis 7.0', [/fields in \d+ hashes/], [/counters/]],
  ['valkey 9.1', 'redis 8.2', [], []],
  ['redis 8.2', 'valkey 9.1', [], []],
];

const find = (name: string): Release | undefined =>
  releases.find(({ kind, version }) => `${kind} ${version}`.startsWith(name));

for (const [from, to, lost, counted] of PAIRS) {
  const [newer, older] = [find(from), find(to)];
  const missing = newer === undefined || older === undefined;
  test(`${from} to ${to}`, { skip: missing ? 'npm run servers' : false }, async (t) => {
    const source = await testServer(t, { binary: newer?.path ?? '' });
    const target = await testServer(t, { binary: older?.path ?? '' });
    await loadDataset(source.port, { keys: 600, bigMembers: 600 });
    const atLeastStreams = (older?.major ?? 0) >= 5;
    await withClient(source.port, async (client) => {
      if (!atLeastStreams) await removeStreams(client);
      // above a MiB: a payload in pieces, held until it is whole
      await client.pipeline(
        Array.from({ length: 600 }, (_, i) => [
          ...(atLeastStreams ? ['XADD', 'huge:stream', `${i + 1}-1`, 'f'] : ['RPUSH', 'huge:list']),
          noise(3_000, i),
        ]),
      );
      // the same for a hash, where its fields can expire
      if (newer?.kind === 'valkey' || Number(newer?.major) > 7 || newer?.minor === 4) {
        await client.pipeline([
          ...Array.from({ length: 400 }, (_, i) => ['HSET', 'huge:ttls', `f${i}`, noise(3_000, i)]),
          ['HPEXPIREAT', 'huge:ttls', 4_102_444_800_000, 'FIELDS', 2, 'f3', 'f7'],
        ]);
        assert.equal(await client.call('HLEN', 'huge:ttls'), 400);
      }
    });
    const uris = [source.uri, target.uri] as const;
    if (lost.length > 0) {
      const refused = runCli(
        ['migrate', '--src', uris[0], '--dst', uris[1], '--feed', 'write', '--json', '--stop-at', 'in-sync'],
        { t, cwd: source.dir },
      );
      await ends(refused, 3);
      const refusals = eventsOf(refused, 'check').filter(({ status }) => status === 'refuse');
      assert.ok(refusals.length > 0);
      for (const { name, hint } of refusals) {
        assert.match(String(name), /^(loss|functions)$/);
        assert.match(String(hint), /--allow-loss/);
      }
      assert.equal(await ask(target.port, 'DBSIZE'), 0);
    }
    const args = ['--stop-at', 'in-sync', ...(lost.length > 0 ? ['--allow-loss'] : [])];
    const run = migrate(t, uris, args);
    const notes = firstPair(await ends(run, 0))['notes'] as readonly string[];
    const losses = notes.filter((note) => note.startsWith('lost'));
    assert.equal(losses.length, lost.length + counted.length, losses.join('\n'));
    for (const wanted of [...lost, ...counted]) {
      assert.ok(
        losses.some((note) => wanted.test(note)),
        `${wanted}: ${losses.join('\n')}`,
      );
      const told = eventsOf(run, 'note').filter(({ message }) => wanted.test(String(message)));
      assert.equal(told.length, 1, 'told once');
    }
    await assertEqualServers(source.port, target.port, false);
  });
}

const [newer, older] = [find('redis 7.0'), find('redis 6.2')];
const bothHere = newer !== undefined && older !== undefined;
test('what only the snapshot shows stops the run there', {
  skip: bothHere ? false : 'npm run servers',
}, async (t) => {
  const source = await testServer(t, { binary: newer?.path ?? '' });
  const target = await testServer(t, { binary: older?.path ?? '' });
  await loadDataset(source.port, { keys: 600, bigMembers: 600 });
  // a user who may not ask for the functions
  await ask(source.port, 'ACL', 'SETUSER', 'blind', 'on', '>secret', '~*', '&*', '+@all', '-function');
  const uri = source.uri.replace('redis://', 'redis://blind@');
  const runDir = newRunDir(t);
  const env = { REDISCLI_AUTH: 'secret' };
  const stopped = migrate(t, [uri, target.uri], ['--stop-at', 'in-sync'], { runDir, env });
  await ends(stopped, 1);
  const [error] = eventsOf(stopped, 'error');
  assert.equal(error?.['code'], 'would-lose');
  assert.match(String(error?.['hint']), /resume RUN_DIR --allow-loss/);
  const resumed = runCli(['resume', runDir, '--allow-loss', '--json', '--stop-at', 'in-sync'], { t, env });
  const notes = firstPair(await ends(resumed, 0))['notes'];
  assert.match(String(notes), /lost.*1 library of functions/);
  await assertEqualServers(source.port, target.port, false);
});

async function removeStreams(client: {
  call(...words: (string | number)[]): Promise<unknown>;
}): Promise<void> {
  for (const db of [0, 1, 9]) {
    await client.call('SELECT', db);
    const script = "for _, k in ipairs(redis.call('KEYS', '*stream*')) do redis.call('DEL', k) end";
    await client.call('EVAL', script, 0);
  }
  await client.call('SELECT', 0);
}

/** Text that does not compress, the same each time. */
function noise(length: number, seed: number): string {
  let state = (seed + 1) * 2_654_435_761;
  let text = '';
  while (text.length < length) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    text += (state >>> 4).toString(36);
  }
  return text;
}
