/**
 * Files that lie, judged by real servers: what a server loads, ours brings to a server of the same release, equal; what
 * it passes over, ours does; what it refuses never comes through ours without a word. Without servers: unit/rdb/hostile*.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { RdbFormatError } from '../../src/core/errors.ts';
import { compareServers } from '../../src/demo/compare.ts';
import { type DemoServer, startServer } from '../../src/demo/server.ts';
import { capabilitiesOf, type TargetCapabilities } from '../../src/target/write/capabilities.ts';
import { plain, testClient } from '../helpers/client.ts';
import { loadSnapshot } from '../helpers/load-snapshot.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { f64, i64, intset, len, listpack, rdb, str, ziplist } from '../unit/rdb/build.ts';
import { LATER_MS, stream, streamId, streamNode } from '../unit/rdb/every-type.ts';
import { begun } from './migration-scene.ts';

const RELEASES = serverReleases();
const nameOf = ({ kind, version }: Release): string => `${kind} ${version}`;
const find = (version: string): Release | undefined =>
  RELEASES.find((release) => release.kind === 'redis' && release.version.startsWith(version));

function capabilities({ kind, major, minor }: Release): TargetCapabilities {
  return capabilitiesOf({ major, minor }, kind);
}

/** The newest version of the format that a release loads; of Valkey 9 the one that it shares with Redis. */
function formatOf({ kind, major, minor }: Release): number {
  if (kind === 'valkey') return 11;
  const since: readonly (readonly [major: number, minor: number, version: number])[] = [
    ...([
      [7, 4, 12],
      [7, 2, 11],
      [7, 0, 10],
      [5, 0, 9],
      [4, 0, 8],
      [3, 2, 7],
    ] as const),
  ];
  return since.find(([first, second]) => major > first || (major === first && minor >= second))?.[2] ?? 6;
}

/** Values with the version of the format that brought their type, which a release of that version knows. */
interface Lie {
  readonly what: string;
  readonly since: number;
  readonly type: number;
  readonly value: Buffer;
}

const lie = (what: string, since: number, type: number, value: Buffer): Lie => ({ what, since, type, value });

/** Each under its own name; then a sound key. */
function fileOf(version: number, lies: readonly Lie[]): Buffer {
  const entries = lies
    .filter(({ since }) => since <= version)
    .map(({ what, type, value }) => Buffer.concat([Buffer.of(type), str(what), value]));
  return rdb(`REDIS${String(version).padStart(4, '0')}`, ...entries, Buffer.of(0), str('sound'), str('v'));
}

/** A folder for a server, with the file that it loads. */
function withFile(t: Cleanup, file: Buffer): string {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-hostile-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'dump.rdb'), file);
  return dir;
}

/** A server that has loaded the file; null: it has refused it, by not starting. */
async function serverWith(t: Cleanup, release: Release, file: Buffer): Promise<DemoServer | null> {
  const dir = withFile(t, file);
  const server = await startServer({ binary: release.path, dir }).catch(() => null);
  if (server !== null) atEnd(t, () => server.stop());
  return server;
}

describe('collections without elements', () => {
  const none = str(listpack([]));
  const noZiplist = str(ziplist([]));
  const lies = [
    ...[1, 2, 3, 4].map((type) => lie(`type ${type}`, 6, type, len(0))),
    ...[10, 12, 13].map((type) => lie(`type ${type}`, 6, type, noZiplist)),
    lie('type 14', 7, 14, len(0)),
    lie('empty ziplists', 7, 14, Buffer.concat([len(2), noZiplist, noZiplist])),
    lie('type 5', 8, 5, len(0)),
    ...[16, 17].map((type) => lie(`type ${type}`, 10, type, none)),
    lie('type 18', 10, 18, len(0)),
    lie('empty listpacks', 10, 18, Buffer.concat([len(1), len(2), none])),
    lie('type 20', 11, 20, none),
    lie('type 24', 12, 24, Buffer.concat([i64(LATER_MS), len(0)])),
    lie('type 25', 12, 25, Buffer.concat([i64(LATER_MS), none])),
  ];
  // 6.2 and later refuse a file with these two, older ones load them as they do the others
  const oldest = [lie('type 9', 6, 9, str(Buffer.of(0, 255))), lie('type 11', 6, 11, str(intset(2, [])))];

  for (const release of RELEASES) {
    it(nameOf(release), async (t) => {
      const passesOver = release.major > 6 || (release.major === 6 && release.minor >= 2);
      const file = fileOf(formatOf(release), passesOver ? lies : [...lies, ...oldest]);
      const source = await serverWith(t, release, file);
      assert.ok(source !== null);
      const target = await testServer(t, { binary: release.path });
      const { refusals, notes } = await loadSnapshot(target.port, capabilities(release), [file]);
      assert.deepEqual(refusals, []);
      assert.match(notes.join(), /without any element/);
      const client = await testClient(t, target.port);
      assert.deepEqual(plain(await client.call('KEYS', '*')), ['sound']);
      if (passesOver) {
        const found = await compareServers(source.port, target.port);
        assert.deepEqual([found.compared, found.different, found.missing, found.extra], [1, 0, 0, 0]);
      } else {
        // as keys; it ends itself by an assertion as soon as somebody reads some of them
        const onSource = await testClient(t, source.port);
        assert.ok(Number(await onSource.call('DBSIZE')) > 5);
      }
    });
  }
});

describe('what servers load all the same', () => {
  const [id, node] = streamNode(1, ['a', 'b']);
  const lies = [
    lie(
      'infinite scores as text',
      6,
      3,
      Buffer.concat([len(2), str('a'), str('inf'), str('b'), Buffer.of(255)]),
    ),
    lie('a wide intset of small numbers', 6, 11, str(intset(8, [1, 2]))),
    lie(
      'an empty ziplist before another',
      7,
      14,
      Buffer.concat([len(2), str(ziplist([])), str(ziplist(['a']))]),
    ),
    lie('infinite scores', 8, 5, Buffer.concat([len(2), str('a'), f64(Infinity), str('b'), f64(-Infinity)])),
    lie('scores in no order', 8, 5, Buffer.concat([len(2), str('a'), f64(1), str('b'), f64(2)])),
    lie(
      'nodes of a stream in no order',
      9,
      15,
      stream(1, { nodes: [streamNode(5, ['a']), streamNode(1, ['b'])] }),
    ),
    lie('a listpack that does not tell its count', 10, 16, str(listpack(['a', '1'], 65_535))),
    lie(
      'an empty listpack before another',
      10,
      18,
      Buffer.concat([len(2), len(2), str(listpack([])), len(2), str(listpack(['a']))]),
    ),
    lie(
      'counters of a stream',
      10,
      19,
      Buffer.concat([
        len(1),
        str(id),
        str(node),
        len(2),
        len(2),
        len(0),
        len(7),
        len(0),
        len(99),
        len(0),
        len(0),
        len(0),
      ]),
    ),
  ];
  for (const release of RELEASES) {
    it(nameOf(release), async (t) => {
      const file = fileOf(formatOf(release), lies);
      const source = await serverWith(t, release, file);
      assert.ok(source !== null);
      const target = await testServer(t, { binary: release.path });
      const { refusals } = await loadSnapshot(target.port, capabilities(release), [file]);
      assert.deepEqual(refusals, []);
      const found = await compareServers(source.port, target.port);
      assert.deepEqual([found.different, found.missing, found.extra], [0, 0, 0], found.first ?? '');
      assert.equal(found.digestA, found.digestB);
    });
  }
});

describe('what servers refuse', () => {
  const pairs = (...all: Buffer[]): Buffer => Buffer.concat([len(all.length / 2), ...all]);
  const twice = [str('a'), str('1'), str('a'), str('2')];
  const group = { pending: [1, 1], consumers: [['c', [1]]] as const };
  const lies = [
    lie('a member of a set twice', 6, 2, Buffer.concat([len(2), str('a'), str('a')])),
    lie('a member of a sorted set twice', 6, 3, pairs(...twice)),
    lie('a score that is NaN', 6, 3, Buffer.concat([len(1), str('a'), Buffer.of(253)])),
    lie('a field twice, ziplist', 6, 13, str(ziplist(['a', '1', 'a', '2']))),
    lie('an intset of an unknown width', 6, 11, str(intset(3, [1]))),
    lie('an intset that lies about its count', 6, 11, str(intset(2, [1, 2], 3))),
    lie('a node of a stream that holds nothing', 9, 15, stream(1, { nodes: [[streamId(1), listpack([])]] })),
    lie('a pending entry twice', 9, 15, stream(1, { groups: [group] })),
    lie('an unknown kind of node', 10, 18, Buffer.concat([len(1), len(3), str(listpack(['a']))])),
    lie(
      'a listpack that lies about its length',
      10,
      16,
      str(Buffer.concat([listpack(['a', '1']), Buffer.of(0)])),
    ),
  ];
  const release = find('7.0');
  for (const one of lies) {
    it(one.what, { skip: release === undefined && 'no Redis 7.0 is here' }, async (t) => {
      const file = fileOf(formatOf(release!), [one]);
      assert.equal(await serverWith(t, release!, file), null);
      const target = await testServer(t, { binary: release!.path });
      const { refusals } = await loadSnapshot(target.port, capabilities(release!), [file]);
      assert.deepEqual(refusals, ['ERR Bad data format']);
    });
  }

  it('a key twice: ours takes the later one', {
    skip: release === undefined && 'no Redis 7.0 is here',
  }, async (t) => {
    const file = fileOf(10, [lie('sound', 6, 1, Buffer.concat([len(1), str('earlier')]))]);
    assert.equal(await serverWith(t, release!, file), null);
    const target = await testServer(t, { binary: release!.path });
    assert.deepEqual((await loadSnapshot(target.port, capabilities(release!), [file])).refusals, []);
    const client = await testClient(t, target.port);
    assert.equal(plain(await client.call('GET', 'sound')), 'v');
  });
});

describe('a pair whose source holds such values', () => {
  const source = find('6.0');
  const target = find('7.0');
  const lies = [lie('empty', 6, 4, len(0)), lie('member twice', 6, 12, str(ziplist(['a', '1', 'a', '2'])))];

  for (const [what, which] of [
    ['a collection without elements stays behind', lies.slice(0, 1)],
    ['a damaged one stops it, and the hint says what to do', lies],
  ] as const) {
    it(what, {
      skip: (source && target) === undefined && 'Redis 6.0 and 7.0 are not both here',
    }, async (t) => {
      const dir = withFile(t, fileOf(9, which));
      const servers = { source: { binary: source!.path, dir }, target: { binary: target!.path } };
      const { migration, onTarget } = await begun(t, {}, { ...servers, keys: 0 });
      await until(() => migration.error !== null || migration.phase === 'in-sync');
      if (which.length === 1) {
        assert.equal(migration.error, null);
        const keys = plain(await onTarget.call('KEYS', '[^r]*'));
        assert.deepEqual(keys, ['sound']);
      } else {
        assert.equal(migration.error?.code, 'target-refused');
        assert.match(migration.error.hint, /takes the value for damaged/);
      }
    });
  }
});

describe('a target that would end itself', () => {
  const many = Array.from({ length: 600 }, (_, i) => [`f${i % 599}`, 'v']).flat();
  const nodes = [1, 1].map((ms) => streamNode(ms, ['a']));
  const lies = [
    lie('a field twice', 10, 16, str(listpack(many))),
    lie('a node of a stream twice', 10, 19, stream(2, { nodes })),
    lie(
      'an entry of a consumer that is not pending',
      10,
      19,
      stream(2, { groups: [{ pending: [], consumers: [['c', [1]]] }] }),
    ),
  ];
  for (const release of [find('5.0'), find('6.0')]) {
    if (release === undefined) continue;
    for (const one of lies) {
      it(`${nameOf(release)} is not sent ${one.what}`, async (t) => {
        const target = await testServer(t, { binary: release.path });
        await assert.rejects(
          loadSnapshot(target.port, capabilities(release), [fileOf(10, [one])]),
          (error) => error instanceof RdbFormatError && error.offset > 9,
        );
        const client = await testClient(t, target.port);
        assert.equal(plain(await client.call('PING')), 'PONG');
      });
    }
  }
});
