/**
 * Every release on this machine as a source, to the same and to later ones: the copy, a stream of writes, and a
 * cutover; relative TTLs of old sources come out right; a source without ACL is fenced by other means.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DATABASES, loadDataset } from '../../src/demo/dataset.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers, ends, eventsOf, firstPair, migrate, withClient } from './support.ts';

const releases = serverReleases();
const nameOf = ({ kind, version }: Release): string => `${kind} ${version}`;
const level = ({ major, minor }: Release): number => major * 100 + minor;
/** The middle of the table: the release that most sources go to, and most targets come from. */
const SEVEN = releases.find(({ kind, major, minor }) => kind === 'redis' && major === 7 && minor === 0);

/** Redis of 7.4 and later and Valkey have gone separate ways: a value of one may be unknown to the other. */
function pairs(): [Release, Release][] {
  if (SEVEN === undefined) return [];
  const toSeven = releases.filter((source) => level(source) <= level(SEVEN));
  const fromSeven = releases.filter((target) => level(target) > level(SEVEN));
  const newest = releases.filter(({ kind }) => kind === 'redis').at(-1);
  const oldest = releases[0];
  return [
    ...toSeven.map((source): [Release, Release] => [source, SEVEN]),
    ...fromSeven.map((target): [Release, Release] => [SEVEN, target]),
    ...fromSeven.map((same): [Release, Release] => [same, same]),
    ...(oldest !== undefined && newest !== undefined ? [[oldest, newest] as [Release, Release]] : []),
  ];
}

const SECONDS = { ex: 1_000, expire: 2_000, setex: 3_000, psetex: 4_000 } as const;

for (const [from, to] of pairs()) {
  test(`${nameOf(from)} to ${nameOf(to)}`, async (t) => {
    const source = await testServer(t, { binary: from.path });
    const target = await testServer(t, { binary: to.path });
    await loadDataset(source.port, { keys: 1_000, bigMembers: 600 });
    const traffic = await startTraffic({ port: source.port, ratePerSecond: 500 });
    t.after(async () => {
      await traffic.stop();
    });
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto']);
    await run.phase('snapshot');
    // behind the snapshot's beginning: they come by the stream
    await withClient(source.port, async (client) => {
      await until(async () =>
        /state=online|send_bulk|wait_bgsave/.test(String(await client.call('INFO', 'replication'))),
      );
      if (level(from) >= 206) await client.call('SET', 'ttl:ex', 'v', 'EX', SECONDS.ex);
      await client.call('SET', 'ttl:expire', 'v');
      await client.call('EXPIRE', 'ttl:expire', SECONDS.expire);
      await client.call('SETEX', 'ttl:setex', SECONDS.setex, 'v');
      await client.call('PSETEX', 'ttl:psetex', SECONDS.psetex * 1_000, 'v');
    });
    const summary = await ends(run, 0);
    await until(() => traffic.stats().refused > 0);
    const { lastError, witness } = await traffic.stop();
    if (from.major >= 6) assert.match(lastError ?? '', /NOPERM|EXECABORT/);
    else {
      // protocol.md 5.2: more replicas wanted than there are
      assert.match(lastError ?? '', /NOREPLICAS|EXECABORT/);
      assert.ok(
        eventsOf(run, 'check').some(
          (event) => event['name'] === 'source-fence' && /min-slaves/.test(String(event['detail'])),
        ),
      );
      assert.match(JSON.stringify(firstPair(summary)['notes']), /CONFIG SET min-slaves-to-write 0/);
    }
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
    for (const [name, seconds] of Object.entries(SECONDS)) {
      const [left, right] = await Promise.all(
        [source, target].map(({ port }) => ask(port, 'PTTL', `ttl:${name}`)),
      );
      // relative ones count from when they were heard of; the machine may be busy
      assert.ok(Math.abs(Number(left) - Number(right)) <= 60_000, `${name}: ${left} and ${right} ms left`);
      assert.ok(Number(right) > (seconds - 300) * 1_000);
    }
    assert.ok(DATABASES.length > 1);
    await assertEqualServers(source.port, target.port, from === to);
  });
}
