/**
 * A source with values of a module that the target does not have (vector sets are one, Redis 8.0): refused before
 * anything is touched; with --skip-unknown everything else arrives, and what was left out is counted and named.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { keyDigest } from '../../src/core/key-digest.ts';
import { compareServers } from '../../src/demo/compare.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { plain } from '../helpers/client.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { until } from '../helpers/wait.ts';
import { begun, inSync, type Scene } from './migration-scene.ts';

const RELEASES = serverReleases();
const found = (name: string): Release | undefined =>
  RELEASES.find(({ kind, version }) => `${kind} ${version}`.startsWith(name));
const NEW = found('redis 8.2');
/** Before 6.2 RESTORE of a module's value that is not known ends the server: there none may be sent. */
const TARGETS = ['redis 3.2', 'redis 5.0', 'redis 6.0', 'redis 7.2', 'valkey 8.1'];
const VECTORS = 30;
const VECTOR_KEYS = [
  'vectors',
  'vectors:huge',
  'replaced',
  'restored',
  ...named('vectors'),
  ...named('later'),
];

function named(prefix: string): string[] {
  return Array.from({ length: VECTORS }, (_, i) => `${prefix}:${i}`);
}

function notes({ events }: Scene): string[] {
  return events.flatMap((event) => (event.event === 'note' ? [event.message] : []));
}

async function addVectors(client: RespConnection, prefix: string): Promise<void> {
  for (const key of named(prefix)) {
    await client.call('VADD', key, 'VALUES', 3, 3, 2, 1, 'element');
    await client.call('INCR', 'between');
  }
}

async function fill(client: RespConnection): Promise<void> {
  await addVectors(client, 'vectors');
  await client.call('PEXPIRE', 'vectors:3', 900_000);
  // above a MiB: passes through in pieces
  for (let i = 0; i < 4; i++) {
    await client.call('VADD', 'vectors:huge', 'VALUES', 2, i, 1, `${i}`.padEnd(400_000, 'x'));
  }
  await client.call('SELECT', 3);
  await client.call('SET', 'a key behind them', 'v');
  await client.call('VADD', 'vectors', 'VALUES', 2, 1, 2, 'element');
  await client.call('SELECT', 0);
}

/** DUMP of a set of one vector on 8.2.3, where its value had been added as `VALUES 3 1 2 3`. */
const VECTORS_OF_ONE = Buffer.from(
  '0781bde72da2bb1eb4000203020102500102000504656c656d05032a557f02060201028001000000020002200200' +
    '02813f4d41b2406f7751000c00e5ab1cca1a23bfe0',
  'hex',
);

const skip = NEW === undefined ? 'npm run servers' : false;

describe('a module that the target does not have', { skip, concurrency: 2 }, () => {
  for (const name of TARGETS) {
    const target = found(name);
    const missing = target === undefined ? 'npm run servers' : false;
    it(`${name}: what belongs to it is skipped, the rest arrives`, { skip: missing }, async (t) => {
      const scene = await inSync(
        t,
        { skipUnknown: true, allowLoss: true, cutoverTimeoutMs: 30_000 },
        { source: { binary: NEW!.path }, target: { binary: target!.path }, keys: 0, fill },
      );
      const { onSource, onTarget, migration } = scene;
      const skipped = notes(scene).filter((note) => note.startsWith('skipped'));
      assert.deepEqual(skipped, [
        'skipped, since --skip-unknown was given: 32 values of the module type vectorset (the first keys by the start ' +
          `of their SHA-1: ${/: ([0-9a-f, ]+)\)$/.exec(skipped[0] ?? '')?.[1]})`,
      ]);
      await addVectors(onSource, 'later');
      await onSource.call('VREM', 'vectors:1', 'element');
      await onSource.call('DEL', 'vectors:2');
      const payload = await onSource.call('DUMP', 'vectors:4');
      assert.ok(Buffer.isBuffer(payload), String(payload));
      await onSource.call('SET', 'replaced', 'v');
      await onSource.call('RESTORE', 'replaced', 0, payload, 'REPLACE');
      await onSource.call('RESTORE', 'restored', 0, payload);
      await migration.cutOver();
      assert.equal(migration.phase, 'promoted', migration.error?.message);
      assert.equal(migration.snapshot().divergences, 0);
      const told = notes(scene).join('\n');
      const digest = keyDigest(Buffer.from('later:0'));
      assert.match(told, new RegExp(`skipped from here on, .*: VADD, .* \\(the first of key ${digest} at `));
      assert.match(told, new RegExp(`: ${VECTORS} times VADD, which .*: ${digest}, `));
      assert.match(told, /: 1 times VREM, which/);
      assert.match(told, /: 2 times RESTORE of values of the module type vectorset \(/);
      assert.equal(await onTarget.call('EXISTS', 'replaced'), 0);
      assert.equal(plain(await onTarget.call('GET', 'between')), String(2 * VECTORS));
      const {
        different,
        missing: lost,
        extra,
        first,
      } = await compareServers(scene.source.port, scene.target.port, { exclude: VECTOR_KEYS });
      assert.deepEqual({ different, lost, extra }, { different: 0, lost: 0, extra: 0 }, first ?? '');
    });
  }

  it('is refused before anything is touched where it is not to be skipped', async (t) => {
    const target = found('redis 6.0') ?? found('redis 7.0');
    const run = begun(
      t,
      { flushTarget: true },
      { source: { binary: NEW!.path }, target: { binary: target!.path }, keys: 0, fill },
    );
    await assert.rejects(run, /not on the target: vectorset; of 34 keys looked at 32 of type vectorset/);
  });

  it('a source that has the module, and no such key, needs nothing', async (t) => {
    const scene = await begun(
      t,
      {},
      { source: { binary: NEW!.path }, target: { binary: found('redis 7.2')!.path }, keys: 0 },
    );
    assert.equal(scene.migration.error, null);
  });

  it('its commands and values end the run where they are not to be skipped', async (t) => {
    for (const name of ['redis 6.0', 'redis 7.2']) {
      const scene = await inSync(
        t,
        {},
        { source: { binary: NEW!.path }, target: { binary: found(name)!.path }, keys: 0 },
      );
      const { onSource, migration, target } = scene;
      await onSource.call('VADD', 'vectors', 'VALUES', 3, 3, 2, 1, 'element');
      await until(() => migration.phase === 'failed', { timeoutMs: 30_000, what: 'the end of the run' });
      assert.equal(migration.error?.code, 'target-unknown-command');
      assert.match(migration.error.hint, /--skip-unknown/);
      assert.equal(target.process.exitCode, null);
    }
  });

  it('a value of one in RESTORE never reaches a target that it would end', async (t) => {
    const { onSource, migration, target } = await inSync(
      t,
      {},
      {
        source: { binary: NEW!.path },
        target: { binary: found('redis 6.0')!.path },
        keys: 0,
      },
    );
    await onSource.call('RESTORE', 'vectors', 0, VECTORS_OF_ONE);
    await until(() => migration.phase === 'failed', { timeoutMs: 30_000, what: 'the end of the run' });
    assert.equal(migration.error?.code, 'target-lacks-type');
    assert.match(migration.error.message, /RESTORE of values of the module type vectorset/);
    assert.match(migration.error.hint, /--skip-unknown/);
    assert.equal(target.process.exitCode, null);
  });
});
