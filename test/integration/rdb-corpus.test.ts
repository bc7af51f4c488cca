/**
 * The collection of real RDB files and DUMP payloads, judged by real servers. Each file is loaded by a release of its
 * time; what our reader makes of it must be what that server tells over the wire, and what our writer sends must make a
 * fresh server of that release equal to it. A server that refuses a file, or a payload, says that it is damaged: then
 * ours must notice, or leave it to the target's own refusal, and nothing worse.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { RdbFormatError } from '../../src/core/errors.ts';
import { type Comparison, compareServers } from '../../src/demo/compare.ts';
import { type DemoServer, freePort, startServer } from '../../src/demo/server.ts';
import { Crc64 } from '../../src/rdb/crc64.ts';
import { payloadLength, stampOf, writeFooter } from '../../src/rdb/dump-payload.ts';
import { holdsNothing } from '../../src/rdb/empty.ts';
import { FORM, type Form, formOf, planForm } from '../../src/rdb/forms.ts';
import { TYPE } from '../../src/rdb/opcodes.ts';
import { transcode } from '../../src/rdb/transcode.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { capabilitiesOf } from '../../src/target/write/capabilities.ts';
import { ANSWER_MS, testClient } from '../helpers/client.ts';
import { loadSnapshot } from '../helpers/load-snapshot.ts';
import {
  type CanonicalFile,
  type CanonicalKey,
  type CanonicalValue,
  decodeElements,
  decodeFile,
  decodeValue,
  endOfValue,
} from '../helpers/rdb-canonical.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { keysOnWire, librariesOnWire, valueOnWire } from '../helpers/wire-canonical.ts';
import { len, rdb, str } from '../unit/rdb/build.ts';
import { dumpFixtures, type Fixture, rdbFiles, withoutFixtures } from '../unit/rdb/support.ts';
import { inSync } from './migration-scene.ts';

const RELEASES = serverReleases();
const nameOf = ({ kind, version }: Release): string => `${kind} ${version}`;

/** The first release that loads files of a version, where it is here: later ones follow where that one will not. */
const SINCE: readonly (readonly [rdb: number, release: string])[] = [
  [1, '2.8'],
  [7, '3.2'],
  [8, '5.0'],
  // 5.0 writes 9 as well, but does not tell all of a stream
  [9, '6.0'],
  [10, '7.0'],
  [11, '7.2'],
  [12, '7.4'],
  [13, '8.6'],
  [14, '8.8'],
];

/** What ours makes of a file: all of its keys, or an error of this code. */
type Outcome = 'decoded' | 'rdb-format' | 'rdb-checksum' | 'rdb-version' | 'rdb-unknown-type';

/** Files that no server here loads: why, and what ours makes of them. */
const NOBODY_LOADS: Readonly<Record<string, readonly [why: string, ours: Outcome]>> = {
  'redis_librdb/misc_with_stream.rdb': ['made with the module test__rdb', 'decoded'],
  'redis_librdb/module.rdb': ['made with the module test__rdb', 'decoded'],
  'redis_librdb/module_aux.rdb': ['made with the module test__rdb', 'decoded'],
  'redis_librdb/module_aux_v12.rdb': ['made with the module test__rdb', 'decoded'],
  'redis_librdb/module_aux_empty.rdb': ['made with the module graphdata', 'decoded'],
  'sripathikrishnan_redis-rdb-tools/redis_40_with_module.rdb': ['made with the module ReJSON-RL', 'decoded'],
  'redis_librdb/stream_v13.rdb': ['made by Redis 8.6', 'decoded'],
  'redis_librdb/stream_v13_idmp.rdb': ['made by Redis 8.6', 'decoded'],
  'redis_redis/array-32bit.rdb': ['made by Redis 8.8', 'decoded'],
  'HDT3213_rdb/valkey_cluster_slot_import.rdb': ['only nodes of a cluster load it, without a key', 'decoded'],
  'redis_redis/array-32bit.2e997c9.rdb': ['type 29 of a preview of Redis 8.8', 'rdb-unknown-type'],
  'redis_librdb/redis_ent_opcode_ram_lru.rdb': ['opcodes of Redis Enterprise', 'decoded'],
  'redis_librdb/future_v19.rdb': ['of version 99', 'rdb-version'],
  'valkey-io_valkey/encodings-rdb75-unknown-types.rdb': ['of version 75', 'rdb-version'],
  'valkey-io_valkey/encodings-rdb987.rdb': ['of version 987', 'rdb-version'],
  'valkey-io_valkey/encodings-rdb987-unknown-types.rdb': ['of version 987', 'rdb-version'],
  'redis_librdb/invalid_chksum_v8.rdb': ['its checksum is wrong', 'rdb-checksum'],
  'redis_redis/corrupt_ziplist.rdb': ['a ziplist of 5 bytes', 'rdb-format'],
  'HDT3213_rdb/zipmap_big_len.rdb': ['a zipmap of 255 pairs that holds 2', 'rdb-format'],
  // servers refuse a zipmap without pairs as damaged, and pass over all other empty collections, as ours does
  'redis_redis/corrupt_empty_keys.c28c650.rdb': ['a zipmap without pairs', 'decoded'],
};

interface Loaded {
  readonly server: DemoServer;
  readonly release: Release;
}

/** Releases of the file's time and later ones. Those before 6.2 do not look at what they load, and crash over it later. */
function candidates({ columns }: Fixture): Release[] {
  const [magic, version] = columns[2]!.split(' ') as [string, string];
  if (magic === 'VALKEY') return RELEASES.filter(({ kind, major }) => kind === 'valkey' && major >= 9);
  const sound = columns[6]!.startsWith('valid');
  const first = (sound && SINCE.findLast(([rdb]) => rdb <= Number(version))?.[1]) || '6.2';
  const [major, minor] = first.split('.').map(Number) as [number, number];
  return RELEASES.filter(
    (release) =>
      release.kind === 'valkey' ||
      release.major > major ||
      (release.major === major && release.minor >= minor),
  );
}

/** A server with this file in it; null: none takes it. */
async function serving(t: TestContext, fixture: Fixture): Promise<Loaded | null> {
  for (const release of candidates(fixture)) {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-corpus-'));
    atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
    writeFileSync(join(dir, 'dump.rdb'), fixture.bytes);
    const args = ['--dbfilename', 'dump.rdb'];
    try {
      const server = await startServer({ binary: release.path, dir, port: await freePort(), args });
      atEnd(t, () => server.stop());
      return { server, release };
    } catch {
      // refused: another one may take it
    }
  }
  return null;
}

const isEmpty = (value: CanonicalValue): boolean =>
  ('elements' in value && value.elements.length === 0) ||
  ('fields' in value && value.fields.length === 0) ||
  ('members' in value && value.members.length === 0);

/** What is left of a key on a master that loads it at this moment; null: nothing. */
function leftOf({ expireAtMs, value }: CanonicalKey, now: number): CanonicalValue | null {
  if (expireAtMs >= 0 && expireAtMs < now) return null;
  const left =
    value.kind === 'hash'
      ? { ...value, fields: value.fields.filter(([, , atMs]) => atMs === 0 || atMs >= now) }
      : value;
  return isEmpty(left) ? null : left;
}

/**
 * A value as far as the other side can tell it: older streams have less to tell, no server that is here knows of
 * producers (Redis 8.6), a vector set is written again in the server's own way, and a small sorted set does not keep the
 * sign of a zero.
 */
function asFarAsTold(value: CanonicalValue, other: CanonicalValue): CanonicalValue {
  if (value.kind === 'module') return { ...value, raw: '' };
  if (value.kind === 'zset' && other.kind === 'zset') {
    const members = value.members.map(([member, score], i) => {
      const unsigned = score === '-0' && other.members[i]?.[1] === '0';
      return [member, unsigned ? '0' : score] as const;
    });
    return { ...value, members };
  }
  if (value.kind !== 'stream' || other.kind !== 'stream') return value;
  const groups = value.groups.map((group, i) => {
    const told = other.groups[i];
    const active = told?.consumers.every(([, , at]) => at !== null) ?? true;
    return {
      ...group,
      read: told?.read === null ? null : group.read,
      consumers: group.consumers.map(([name, seen, at]) => [name, seen, active ? at : null] as const),
    };
  });
  return { ...value, groups, counters: other.counters === null ? null : value.counters, producers: null };
}

/** The key as it comes to a target that takes these forms. */
function broughtTo(forms: ReadonlySet<Form>, key: CanonicalKey): CanonicalKey {
  const { form, value, raw } = key;
  const planned = planForm(form, forms);
  if (planned === null || planned === form) return key;
  return { ...key, value: without(value, transcode(form, planned, raw, 0, raw.length, 0).losses) };
}

const keyName = ({ db, key }: { readonly db: number; readonly key: string }): string => `${db} ${key}`;

/** The server tells what the file says; expiries may be later by `slackMs`. */
async function sameOverWire(
  client: RespConnection,
  release: Release,
  file: CanonicalFile,
  slackMs = 0,
): Promise<void> {
  const now = Date.now();
  const onWire = new Map(
    (await keysOnWire(client, release))
      .filter(({ value }) => !isEmpty(value))
      .map((key) => [keyName(key), key]),
  );
  for (const key of file.keys) {
    const left = leftOf(key, now);
    const found = onWire.get(keyName(key));
    onWire.delete(keyName(key));
    if (left === null) {
      assert.equal(found, undefined, `${keyName(key)} is still there`);
      continue;
    }
    assert.ok(found !== undefined, `${keyName(key)} is not there`);
    assert.deepEqual(asFarAsTold(found.value, left), asFarAsTold(left, found.value), keyName(key));
    const [from, to] = found.expires ?? [-1, -1];
    assert.ok(from <= key.expireAtMs + slackMs && key.expireAtMs <= to, `${keyName(key)}: ${key.expireAtMs}`);
  }
  assert.deepEqual([...onWire.keys()], [], 'keys that we have not read');
  if (release.major >= 7)
    assert.deepEqual(await librariesOnWire(client, release), [...file.libraries].sort());
}

/** Both ways of taking a value apart, and each older form of it, say the same. */
function sameInEveryForm({
  form,
  value,
  raw,
  key,
}: Pick<CanonicalKey, 'form' | 'value' | 'raw' | 'key'>): void {
  if (form === TYPE.string) return;
  const elements = decodeElements(form, raw);
  if (elements !== null) assert.deepEqual(elements, value, key);
  for (const older of [...Object.values(TYPE), ...Object.values(FORM)]) {
    if (older === form || planForm(form, new Set([older])) !== older) continue;
    const made = transcode(form, older, raw, 0, raw.length, 0);
    const again = decodeValue(made.form, made.value, 0, made.value.length, 0);
    assert.deepEqual(without(again, made.losses), without(value, made.losses), `${key} as ${older}`);
  }
}

/** The value without what an older form has no place for. */
function without(value: CanonicalValue, losses: readonly string[]): CanonicalValue {
  if (value.kind === 'hash' && losses.includes('field-ttls')) {
    return { ...value, fields: value.fields.map(([field, content]) => [field, content, 0]) };
  }
  if (value.kind !== 'stream') return value;
  const counted = !losses.includes('stream-counters');
  return {
    ...value,
    counters: counted ? value.counters : null,
    producers: losses.includes('stream-producers') ? [] : (value.producers ?? []),
    groups: value.groups.map((group) => ({
      ...group,
      read: counted ? group.read : null,
      consumers: group.consumers.map(
        ([name, seen, active]) => [name, seen, counted ? active : null] as const,
      ),
      pending: group.pending.map(
        ([id, holder, atMs, count]) => [id, holder ?? 'nacked', atMs, count] as const,
      ),
    })),
  };
}

/** Reader and writer bring the file to a server; the refusals of that server. */
async function bring(bytes: Buffer, port: number, release: Release): Promise<readonly string[]> {
  return (await loadSnapshot(port, capabilitiesOf(release, release.kind), [bytes])).refusals;
}

/** Empties a server of an earlier file. */
async function emptied(client: RespConnection, release: Release): Promise<void> {
  await client.call('FLUSHALL');
  if (release.major >= 7) await client.call('FUNCTION', 'FLUSH');
}

/** What ours makes of it; an error of any other kind is one of ours. */
function outcomeOf(work: () => unknown): Outcome {
  try {
    work();
    return 'decoded';
  } catch (error) {
    assert.ok(error instanceof RdbFormatError, (error as Error).stack);
    assert.ok(error.offset >= 0, error.message);
    return error.code as Outcome;
  }
}

/** Errors of many files as one. */
class Findings {
  readonly #all: string[] = [];

  async of(name: string, work: () => unknown): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#all.push(`${name}: ${(error as Error).stack}`);
    }
  }

  none(): void {
    assert.equal(this.#all.length, 0, this.#all.join('\n\n'));
  }
}

/** Where everything that the files of a group hold is gathered: each of their databases in one of its own. */
class Gathered {
  readonly server: DemoServer;
  readonly #client: RespConnection;
  readonly #release: Release;
  #databases = 0;
  keys = 0;

  private constructor(server: DemoServer, client: RespConnection, release: Release) {
    this.server = server;
    this.#client = client;
    this.#release = release;
  }

  static async start(t: TestContext, release: Release): Promise<Gathered> {
    const server = await testServer(t, { binary: release.path, args: DATABASES });
    return new Gathered(server, await testClient(t, server.port), release);
  }

  /** Moves all keys of a server here, copies its libraries. */
  async take(client: RespConnection): Promise<void> {
    const keyspace = String(await client.call('INFO', 'keyspace'));
    for (const [, db] of keyspace.matchAll(/^db(\d+):/gm)) {
      await client.call('SELECT', db!);
      const to = this.#databases++;
      const names = (await client.call('KEYS', '*')) as Buffer[];
      const replies = await client.pipeline(
        names.map((name) => ['MIGRATE', '127.0.0.1', this.server.port, name, to, 60_000]),
      );
      // NOKEY: it had expired
      for (const reply of replies) assert.match(String(reply), /^(OK|NOKEY)$/);
      this.keys += replies.filter((reply) => String(reply) === 'OK').length;
    }
    if (this.#release.major < 7) return;
    const libraries = await client.call('FUNCTION', 'DUMP');
    await this.#client.call('FUNCTION', 'RESTORE', libraries as Buffer, 'REPLACE');
  }

  /** Ends the server; its folder, with all of it in dump.rdb. */
  async close(t: TestContext): Promise<string> {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-corpus-'));
    atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
    await this.#client.call('SAVE');
    copyFileSync(join(this.server.dir, 'dump.rdb'), join(dir, 'dump.rdb'));
    await this.server.stop();
    return dir;
  }
}

const DATABASES = ['--databases', '100'];

/** Files that are judged one after the other, and the servers that are kept for that. */
interface Group {
  readonly first: Release | undefined;
  /** One for each release that has loaded a file, emptied again and again. */
  readonly targets: Map<Release, { readonly port: number; readonly client: RespConnection }>;
  /** Of the files that `first` has loaded; null: none yet. */
  gathered: Gathered | null;
}

async function judge(t: TestContext, fixture: Fixture, group: Group): Promise<void> {
  const loaded = await serving(t, fixture);
  if (loaded === null) {
    const listed = NOBODY_LOADS[fixture.name];
    assert.ok(listed !== undefined || group.first === undefined, 'no server here loads it');
    const [why, ours] = listed ?? ['there is none of its time', 'decoded'];
    t.diagnostic(`${fixture.name}: no server here loads it: ${why}`);
    assert.equal(
      outcomeOf(() => decodeFile(fixture.bytes).keys.map(sameInEveryForm)),
      ours,
    );
    return;
  }
  const { server, release } = loaded;
  const client = await testClient(t, server.port);
  const file = decodeFile(fixture.bytes);
  file.keys.map(sameInEveryForm);
  await sameOverWire(client, release, file);

  let target = group.targets.get(release);
  if (target === undefined) {
    const { port } = await testServer(t, { binary: release.path });
    target = { port, client: await testClient(t, port) };
    group.targets.set(release, target);
  }
  await emptied(target.client, release);
  assert.deepEqual(await bring(fixture.bytes, target.port, release), []);
  // before 7.0 servers tell no more than what is left
  const ttlToleranceMs = release.major >= 7 ? 0 : 1_000;
  const { first, digestA, digestB } = await compareServers(server.port, target.port, { ttlToleranceMs });
  assert.equal(first, null);
  assert.equal(digestA, digestB);

  if (release === group.first) {
    group.gathered ??= await Gathered.start(t, release);
    await group.gathered.take(client);
  }
  await server.stop();
}

/** All that was gathered is migrated from a server of the release to another one of it. */
async function migrated(t: TestContext, { path }: Release, gathered: Gathered): Promise<void> {
  const dir = await gathered.close(t);
  const { source, target } = await inSync(
    t,
    { feed: 'write' },
    {
      keys: 0,
      source: { binary: path, dir, args: [...DATABASES, '--dbfilename', 'dump.rdb'] },
      target: { binary: path, args: DATABASES },
    },
  );
  let found: Comparison | null = null;
  const same = async (): Promise<boolean> => {
    found = await compareServers(source.port, target.port);
    return found.first === null && found.compared === gathered.keys;
  };
  // expiries are held back at first
  await until(same, { timeoutMs: 60_000, what: 'the same on both' }).catch((error: unknown) =>
    assert.fail(`${JSON.stringify(found)} ${String(error)}`),
  );
}

describe('every file of the collection', { skip: withoutFixtures, concurrency: 3 }, () => {
  const groups = new Map<Release | undefined, Fixture[]>();
  for (const file of withoutFixtures ? [] : rdbFiles()) {
    const [first] = candidates(file);
    groups.set(first, [...(groups.get(first) ?? []), file]);
  }
  for (const [first, files] of groups) {
    const name = first === undefined ? 'no release that is here' : nameOf(first);
    it(`${files.length} of the time of ${name}`, async (t) => {
      const group: Group = { first, targets: new Map(), gathered: null };
      const findings = new Findings();
      for (const fixture of files) await findings.of(fixture.name, () => judge(t, fixture, group));
      findings.none();
      if (first !== undefined && group.gathered !== null && group.gathered.keys > 0) {
        await migrated(t, first, group.gathered);
      }
    });
  }
});

/** Files of which a release refuses a value, though one of their time takes it. */
const REFUSED_LATER: Readonly<Record<string, string>> = {
  'HDT3213_rdb/stream_listpacks_1.rdb':
    'a stream of 118 entries, born on a preview of 5.0, whose length says 120: Valkey 9.1.2 refuses to load it, too',
};

/** As other programs may write it: lengths of 64 bits (RDB 8) in values of types that are older. */
function wideLengths(): Buffer {
  const wide = (text: string): Buffer => Buffer.concat([len(text.length, 64), Buffer.from(text, 'latin1')]);
  const ziplist = wide('\x0e\0\0\0\x0a\0\0\0\x01\0\0\x01a\xff');
  const values: readonly (readonly [Form, ...Buffer[]])[] = [
    [TYPE.string, wide('a')],
    [TYPE.list, len(2, 64), wide('a'), wide('b')],
    [TYPE.set, len(2), wide('a'), str('b')],
    [TYPE.zset, len(1), wide('a'), str('1.5')],
    [TYPE.hash, len(1), str('a'), wide('b')],
    [TYPE.listZiplist, ziplist],
    [TYPE.quicklist, len(1), ziplist],
    [TYPE.zset2, len(1), wide('a'), Buffer.alloc(8)],
  ];
  return rdb(
    'REDIS0008',
    ...values.flatMap(([form, ...value], i) => [Buffer.from([form]), wide(`key ${i}`), ...value]),
  );
}

describe('every file, brought to every release', { skip: withoutFixtures, concurrency: 3 }, () => {
  for (const release of RELEASES) {
    it(nameOf(release), async (t) => {
      const { forms, functions } = capabilitiesOf(release, release.kind);
      const { port } = await testServer(t, { binary: release.path });
      const client = await testClient(t, port);
      // before 5.0 RESTORE takes what is left of an expiry, from when it executes that
      const slackMs = release.major < 5 ? ANSWER_MS : 0;
      const findings = new Findings();
      let brought = 0;
      for (const { name, bytes } of [...rdbFiles(), { name: 'lengths of 64 bits', bytes: wideLengths() }]) {
        if (outcomeOf(() => decodeFile(bytes)) !== 'decoded') continue;
        const file = decodeFile(bytes);
        const kept = file.keys.map((key) => broughtTo(forms, key));
        // what no target of this release can be given, and what 5.0 does not tell all of
        if (file.keys.some(({ form }) => form === TYPE.module2 || planForm(form, forms) === null)) continue;
        if (release.major < 6 && kept.some(({ value }) => value.kind === 'stream')) continue;
        await findings.of(name, async () => {
          await emptied(client, release);
          const refusals = await bring(bytes, port, release);
          const why = REFUSED_LATER[name];
          if (why !== undefined && refusals.length > 0) {
            t.diagnostic(`${name}: ${why}`);
            return;
          }
          assert.deepEqual(refusals, []);
          const libraries = functions ? file.libraries : [];
          await sameOverWire(client, release, { ...file, keys: kept, libraries }, slackMs);
          brought++;
        });
      }
      findings.none();
      t.diagnostic(`${brought} files`);
    });
  }
});

/** Payloads that the judges refuse and whose value is clear all the same; to a target they go as they are, and it decides. */
const CLEAR_ALL_THE_SAME: Readonly<Record<string, string>> = {
  'dump-payloads/007-corrupt-payload-hash-listpackex-with-unordered-ttl.dump':
    'its fields are not in the order of their expiry',
  'dump-payloads/009-corrupt-payload-hash-hashtable-with-ttl-large-than.dump':
    'a field expires later than any server counts',
  'dump-payloads/087-corrupt-payload-stream-all-tombstone-listpack-with.dump':
    'of Redis 8.6, which is not here',
};

/** Payloads that a judge takes without seeing that they are damaged: it reads something else out of them. */
const MISREAD: Readonly<Record<string, string>> = {
  'dump-payloads/089-corrupt-payload-zipmap-5-bytes-length-encoding-for.dump':
    'Redis 8.2.3 reads on behind one byte of a length of five; Valkey 9.1.2 refuses it',
};

/** A payload's value, and the payload with the footer that it should have; null: RESTORE takes no such type. */
function mended(bytes: Buffer): {
  readonly form: Form;
  readonly value: Buffer;
  readonly payload: Buffer | null;
} {
  const family = bytes.readUInt16LE(bytes.length - 10) >= 80 ? 'valkey' : 'redis';
  const form = formOf(bytes[0]!, family);
  const content = bytes.subarray(0, -10);
  const value = content.subarray(1);
  const stamp = stampOf(bytes[0]!, family);
  if (stamp === null) return { form, value, payload: null };
  const payload = Buffer.alloc(payloadLength(value.length));
  content.copy(payload);
  const crc = new Crc64();
  crc.update(content, 0, content.length);
  writeFooter(crc, payload, content.length, stamp);
  return { form, value, payload };
}

describe('every DUMP payload of the collection', { skip: withoutFixtures }, () => {
  // 6.2 and later look into what they restore, where they are told to
  const judges = [RELEASES.findLast(({ kind }) => kind === 'redis'), RELEASES.at(-1)];
  for (const release of new Set(judges)) {
    if (release === undefined || capabilitiesOf(release).setPxat === false) continue;
    it(`judged by ${nameOf(release)}`, async (t) => {
      const start = async () => {
        const args = ['--sanitize-dump-payload', 'yes', '--crash-log-enabled', 'no'];
        const { port } = await testServer(t, { binary: release.path, args });
        return testClient(t, port);
      };
      /** OK, a refusal, or that the server is gone. */
      const judged = async (payload: Buffer): Promise<string> => {
        try {
          const [reply] = await court.pipeline([['RESTORE', 'k', 0, payload, 'REPLACE']]);
          return String(reply);
        } catch {
          court = await start();
          return 'crash';
        }
      };
      let court = await start();
      const verdicts = new Map<string, number>();
      const findings = new Findings();
      for (const { name, bytes } of dumpFixtures()) {
        await findings.of(name, async () => {
          const { form, value, payload } = mended(bytes);
          const decoded: CanonicalValue[] = [];
          const ours = outcomeOf(() => {
            const raw = value.subarray(0, endOfValue(form, value, 0));
            decoded.push(decodeValue(form, raw, 0, raw.length, 0));
            for (const canonical of decoded) sameInEveryForm({ form, value: canonical, raw, key: name });
          });
          const verdict = payload === null ? 'no type' : await judged(payload);
          verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
          if (verdict === 'OK' && MISREAD[name] === undefined) {
            assert.equal(ours, 'decoded');
            const found = await valueOnWire(court, release, 'k');
            for (const canonical of decoded) {
              assert.deepEqual(asFarAsTold(found, canonical), asFarAsTold(canonical, found));
            }
            return;
          }
          const clear = CLEAR_ALL_THE_SAME[name] !== undefined;
          const passedOver = holdsNothing(form, value, 0, value.length);
          if (!clear && !passedOver) assert.equal(ours, 'rdb-format', verdict);
        });
      }
      t.diagnostic([...verdicts].map(([verdict, count]) => `${count} ${verdict}`).join('; '));
      findings.none();
    });
  }
});
