/**
 * Feed `attach` on every release on this machine, to the same and to later ones: replica, cutover under traffic, and,
 * where it understands the new master, the old source as its replica, all of it with one single copy.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers, ends, firstPair, infoNumber, migrate } from './support.ts';

const releases = serverReleases();
const nameOf = ({ kind, version }: Release): string => `${kind} ${version}`;

/** Versions by their beginning, and whether the old source can follow; pairs of which one is not here are left out. */
const UPWARDS = [
  // SET … EX goes into the stream as SET … PXAT, which comes with 6.2
  ['redis 5.0', 'redis 7.0', false],
  ['redis 6.0', 'redis 8.2', false],
  ['redis 6.2', 'valkey 8.1', true],
  ['redis 7.2', 'valkey 9.1', true],
  ['valkey 8.1', 'valkey 9.1', true],
] as const;

function pairs(): [Release, Release, boolean][] {
  const same = releases
    .filter(({ major }) => major >= 4)
    .map((each): [Release, Release, boolean] => [each, each, true]);
  const find = (name: string): Release | undefined =>
    releases.find((release) => nameOf(release).startsWith(`${name}.`));
  const up = UPWARDS.flatMap(([from, to, wayBack]): [Release, Release, boolean][] => {
    const [source, target] = [find(from), find(to)];
    return source === undefined || target === undefined ? [] : [[source, target, wayBack]];
  });
  return [...same, ...up];
}

// most of the time they wait
describe('feed attach', { concurrency: 3 }, () => {
  for (const [from, to, wayBack] of pairs()) {
    test(`${nameOf(from)} to ${nameOf(to)}`, async (t) => {
      const [source, target] = await Promise.all([
        testServer(t, { binary: from.path }),
        testServer(t, { binary: to.path }),
      ]);
      await loadDataset(source.port, { keys: 500, bigMembers: 300 });
      const traffic = await startTraffic({ port: source.port, ratePerSecond: 300 });
      atEnd(t, async () => {
        await traffic.stop();
      });
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto'], { feed: 'attach' });
      const notes = JSON.stringify(firstPair(await ends(run, 0))['notes']);
      await until(() => traffic.stats().refused > 0, { timeoutMs: 30_000 });
      const { witness, lastError } = await traffic.stop();
      assert.match(lastError ?? '', /READONLY|EXECABORT/);
      assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
      assert.match(notes, wayBack ? /a rollback loses nothing/ : /that is no way back/);
      assert.equal(await ask(target.port, 'SET', 'behind', 'the cutover'), 'OK');
      await until(async () => (await ask(source.port, 'GET', 'behind')) === 'the cutover', {
        timeoutMs: 30_000,
      });
      await assertEqualServers(source.port, target.port, from === to);
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
      assert.equal(await infoNumber(target.port, 'stats', 'sync_full'), 0);
    });
  }
});
