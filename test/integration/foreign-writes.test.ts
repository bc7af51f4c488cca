/**
 * A target from which others cannot be fenced off: what they write while it is filled stops the cutover, whenever it
 * was; what is ours never does, whatever breaks.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Secret } from '../../src/core/endpoint.ts';
import type { MigrationEvent } from '../../src/core/events.ts';
import { compareServers } from '../../src/demo/compare.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic } from '../../src/demo/traffic.ts';
import { leftoversOf } from '../../src/migrate/leftovers.ts';
import { Migration } from '../../src/migrate/migration.ts';
import { type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { until } from '../helpers/wait.ts';
import { withClient } from '../scenarios/support.ts';
import {
  begun,
  DEFAULT_OPTIONS,
  inSync,
  rejection,
  type Scene,
  type SceneServers,
  steps,
  write,
} from './migration-scene.ts';

const releases = serverReleases();
const withoutAcl = releases.find(({ major }) => major === 5);
const withScripts = releases.find(({ major, minor }) => major < 5 && major + minor > 2);
const needs = (release: Release | undefined) =>
  release === undefined ? { skip: 'needs an older release (npm run servers)' } : {};

/** Targets that cannot be fenced: one that knows no ACL, and one whose ACL our user must not touch. */
const kinds: readonly { readonly name: string; readonly skip?: string; readonly servers: SceneServers }[] = [
  { name: 'a target that knows no ACL', ...needs(withoutAcl), servers: bothOf(withoutAcl) },
  { name: 'a target whose ACL is not ours', servers: { access: limitedUser } },
];

function bothOf(release: Release | undefined): SceneServers {
  if (release === undefined) return {};
  return { source: { binary: release.path }, target: { binary: release.path } };
}

async function limitedUser(target: DemoServer): Promise<{ username: string; password: Secret }> {
  await withClient(target.port, (client) =>
    client.call('ACL', 'SETUSER', 'mover', 'on', '>secret', '~*', '&*', '+@all', '-acl'),
  );
  return { username: 'mover', password: new Secret('secret') };
}

/** The pair as `servers`, its target behind a proxy. */
function throughProxy(
  t: TestContext,
  servers: SceneServers,
): { servers: SceneServers; proxy: Promise<FaultProxy> } {
  let made: (proxy: FaultProxy) => void = () => undefined;
  const proxy = new Promise<FaultProxy>((resolve) => {
    made = resolve;
  });
  const access = async (target: DemoServer) => {
    const between = await faultProxy(t, target.port);
    made(between);
    return { ...(await servers.access?.(target)), port: between.port };
  };
  return { servers: { ...servers, access }, proxy };
}

/** A busy source: transactions, three databases, and now and then a command that fails on both sides. */
async function busy(t: TestContext, { source }: Scene, ratePerSecond = 1_000): Promise<() => Promise<void>> {
  const traffic = await startTraffic({ port: source.port, ratePerSecond });
  const stop = async (): Promise<void> => void (await traffic.stop());
  t.after(stop);
  return stop;
}

function notes({ events }: Scene): string {
  return events.flatMap((event) => (event.event === 'note' ? [event.message] : [])).join('\n');
}

async function assertEqual({ source, target }: Scene): Promise<void> {
  const { different, missing, extra, first } = await compareServers(source.port, target.port);
  assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, first ?? '');
}

/** Promotes; where the source is too busy for the short limit of a test, again. */
async function promote(scene: Scene): Promise<void> {
  await until(() => scene.migration.phase === 'in-sync', { timeoutMs: 60_000, what: 'in sync' });
  await scene.migration.promote();
  assert.equal(scene.migration.phase, 'promoted');
}

for (const { name, skip, servers } of kinds) {
  const options = skip === undefined ? {} : { skip };

  test(`${name}: nobody else writes, and the cutover goes through`, options, async (t) => {
    const scene = await inSync(t, { cutoverTimeoutMs: 10_000 }, servers);
    const stop = await busy(t, scene);
    await scene.onSource.call('EVAL', "return redis.call('INCR', KEYS[1])", 1, 'counted-by-script');
    await scene.onSource.call('PFADD', 'visitors', 'a');
    await scene.onSource.call('PFCOUNT', 'visitors');
    await scene.onSource.call('PUBLISH', 'news', 'x');
    await until(() => scene.migration.snapshot().commandsPerSecond > 100);
    await promote(scene);
    await stop();
    assert.match(steps(scene).join(), /stream ended,.*no foreign writes,target writable/);
    assert.doesNotMatch(notes(scene), /others write|counts fewer|not noticed/);
    await assertEqual(scene);
  });

  test(`${name}: a write while it is quiet is named, and stops e and promote`, options, async (t) => {
    const scene = await inSync(t, {}, servers);
    await scene.onTarget.call('CLIENT', 'SETNAME', 'worker');
    for (let i = 0; i < 3; i++) await scene.onTarget.call('INCR', 'orders');
    const error = await rejection(scene.migration.promote());
    assert.equal(error.code, 'foreign-writes');
    assert.equal(error.exitCode, 1);
    assert.match(
      error.message,
      /3 writes since \S+ \(.*incr 3.*\); clients there: 127\.0\.0\.1:\d+ worker incr/,
    );
    assert.equal((await rejection(scene.migration.enableWrites())).code, 'foreign-writes');
    assert.equal(scene.migration.phase, 'in-sync');
    // the source was not touched
    assert.equal(steps(scene).length, 0);
    assert.equal(await write(scene.onSource), 'OK');
  });

  test(`${name}: a write in the middle of the snapshot is found`, options, async (t) => {
    const { servers: slow, proxy } = throughProxy(t, servers);
    const scene = await begun(t, {}, { ...slow, keys: 20_000 });
    const between = await proxy;
    between.hold(true);
    assert.equal(scene.migration.phase, 'snapshot');
    await scene.onTarget.call('INCR', 'orders');
    between.hold(false);
    await until(() => scene.migration.snapshot().keys > 0);
    await scene.onTarget.call('INCR', 'orders');
    await found(scene, /2 writes since/);
  });

  test(`${name}: writes among many of ours are found, and do not go by`, options, async (t) => {
    const scene = await inSync(t, {}, servers);
    await busy(t, scene, 3_000);
    await until(() => scene.migration.snapshot().commandsPerSecond > 500);
    await scene.onTarget.call('INCR', 'orders');
    await scene.onTarget.call('DEL', 'orders');
    await found(scene, /2 writes since/);
  });

  test(
    `${name}: a write behind the first look stops the cutover before the target is opened`,
    options,
    async (t) => {
      const port = { now: 0 };
      const access = async (target: DemoServer) => {
        port.now = target.port;
        return servers.access?.(target) ?? {};
      };
      const before = () =>
        `"${process.execPath}" -e "require('net').connect(${port.now}, '127.0.0.1', function () { this.write('INCR orders\\r\\n') }).on('data', () => process.exit())"`;
      const hooks = {
        get before() {
          return before();
        },
      };
      const scene = await inSync(t, { hooks, cutoverTimeoutMs: 10_000 }, { ...servers, access });
      const error = await rejection(scene.migration.promote());
      assert.equal(error.code, 'foreign-writes', error.message);
      assert.match(error.message, /\(.*incr 1.*\)/);
      assert.match(steps(scene).join(), /stream ended,.*stream goes on/);
      assert.doesNotMatch(steps(scene).join(), /target writable/);
      assert.equal(await write(scene.onSource), 'OK');
      await until(() => scene.migration.phase === 'in-sync');
      assert.equal((await rejection(scene.migration.promote())).code, 'foreign-writes');
    },
  );

  test(`${name}: a link that breaks again and again is no stranger`, options, async (t) => {
    const { servers: broken, proxy } = throughProxy(t, servers);
    const scene = await begun(t, { cutoverTimeoutMs: 10_000 }, { ...broken, keys: 5_000 });
    const stop = await busy(t, scene);
    const between = await proxy;
    for (let cut = 0; cut < 15; cut++) await cutOnTheWay(scene, between, cut);
    assert.doesNotMatch(notes(scene), /others write|counts fewer/);
    await promote(scene);
    await stop();
    assert.doesNotMatch(notes(scene), /others write|counts fewer/);
    await assertEqual(scene);
  });
}

test('counters that are set back are no stranger, and one who comes then is found', async (t) => {
  const scene = await inSync(t, { cutoverTimeoutMs: 10_000 }, { access: limitedUser });
  const stop = await busy(t, scene);
  await until(() => scene.migration.snapshot().commandsPerSecond > 100);
  await scene.onTarget.call('CONFIG', 'RESETSTAT');
  await until(() => /counts fewer writes than before \(CONFIG RESETSTAT/.test(notes(scene)), {
    timeoutMs: 30_000,
  });
  await stop();
  await until(() => scene.migration.phase === 'in-sync');
  await scene.onTarget.call('INCR', 'orders');
  await found(scene, /1 write since/);
});

test(
  'scripts that come as they are: nothing can be told, and the cutover goes through',
  needs(withScripts),
  async (t) => {
    const scene = await inSync(t, { cutoverTimeoutMs: 10_000 }, bothOf(withScripts));
    await scene.onSource.call('EVAL', "return redis.call('INCR', KEYS[1])", 1, 'counted-by-script');
    await until(() => /not noticed from now on: the source sends scripts/.test(notes(scene)));
    await promote(scene);
    await assertEqual(scene);
  },
);

test('a stranger does not hide behind a link that breaks', async (t) => {
  const { servers, proxy } = throughProxy(t, { access: limitedUser });
  const scene = await inSync(t, {}, servers);
  const stop = await busy(t, scene);
  const between = await proxy;
  for (let cut = 0; cut < 6; cut++) await cutOnTheWay(scene, between, cut);
  await scene.onTarget.call('INCR', 'orders');
  for (let cut = 0; cut < 6; cut++) await cutOnTheWay(scene, between, cut);
  await stop();
  await found(scene, /1 write since/);
});

test('what was found is not forgotten by a resume that promotes by itself; one with a person says it', async (t) => {
  const scene = await inSync(t, {}, { access: limitedUser });
  await scene.onTarget.call('INCR', 'orders');
  await found(scene, /1 write since/);
  const auto = await resumed(t, scene, 'auto');
  const error = await rejection(auto.promote());
  assert.equal(error.code, 'foreign-writes', error.message);
  assert.match(error.message, /1 write since/);
  await auto.stop('the operator looks at it');
  const asked = await resumed(t, scene, 'ask');
  assert.match(notes(scene), /others had written to the target before the resume: 1 write since/);
  await asked.promote();
  assert.equal(asked.phase, 'promoted');
});

/** The pair of `scene`, gone on with by another process. */
async function resumed(t: TestContext, scene: Scene, cutover: 'auto' | 'ask'): Promise<Migration> {
  const { migration, folder } = scene;
  await migration.stop('quit');
  const options = {
    ...DEFAULT_OPTIONS,
    cutover,
    reverse: false,
    runDir: folder.dir,
    resumes: folder.run.runId,
  };
  const emit = (event: MigrationEvent) => void scene.events.push(event);
  const left = leftoversOf(await folder.readJournal(), migration.pair.name);
  const again = new Migration(migration.pair, options, { emit, phaseChanged: () => {} }, left);
  t.after(() => again.stop('the test is over'));
  await again.check();
  await again.start(folder);
  await until(() => again.phase === 'in-sync', { timeoutMs: 30_000, what: 'in sync again' });
  return again;
}

/** Breaks all connections with the target as soon as some more has come to it. */
async function cutOnTheWay({ migration }: Scene, between: FaultProxy, cut: number): Promise<void> {
  const before = migration.snapshot();
  await until(
    () => {
      const now = migration.snapshot();
      return now.appliedOffset > before.appliedOffset + 2_000 || now.keys > before.keys;
    },
    { timeoutMs: 30_000, what: 'the target comes on' },
  );
  between.cutAll(cut % 2 === 0 ? 'reset' : 'close');
}

/** Noted by itself, and refused. */
async function found(scene: Scene, what: RegExp): Promise<void> {
  await until(() => what.test(/others write to the target: .*/.exec(notes(scene))?.[0] ?? ''), {
    timeoutMs: 30_000,
    what: 'the foreign writes are noted',
  });
  await until(() => scene.migration.phase === 'in-sync', { timeoutMs: 60_000, what: 'in sync' });
  const error = await rejection(scene.migration.promote());
  assert.equal(error.code, 'foreign-writes', error.message);
  assert.match(error.message, what);
}
