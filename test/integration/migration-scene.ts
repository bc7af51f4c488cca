/** A pair on two real servers, in sync, called step by step: for tests of what comes then. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Endpoint } from '../../src/core/endpoint.ts';
import { CutoverError } from '../../src/core/errors.ts';
import type { MigrationEvent } from '../../src/core/events.ts';
import type { RunOptions } from '../../src/core/options.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer, ServerOptions } from '../../src/demo/server.ts';
import { Migration } from '../../src/migrate/migration.ts';
import { RunFolder } from '../../src/migrate/run-folder.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { plain, testClient } from '../helpers/client.ts';
import { RUN_OPTIONS } from '../helpers/run-options.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

export interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly onSource: RespConnection;
  readonly onTarget: RespConnection;
  readonly migration: Migration;
  readonly folder: RunFolder;
  readonly events: MigrationEvent[];
  /** ACL LIST of source and target before the run. */
  readonly acl: readonly [unknown, unknown];
}

export interface SceneServers {
  readonly source?: ServerOptions;
  readonly target?: ServerOptions;
  /** Keys of the source's dataset; 0: the source is empty; left out: 500. */
  readonly keys?: number;
  /** Puts more into the source before the run. */
  readonly fill?: (onSource: RespConnection) => Promise<void>;
  /** Where, and as whom, the run finds the target; left out: at its port, as the default user. */
  readonly access?: (target: DemoServer) => Promise<Partial<Endpoint>>;
}

export const DEFAULT_OPTIONS: RunOptions = {
  ...RUN_OPTIONS,
  feed: 'write',
  cutoverTimeoutMs: 500,
  spoolMemoryBytes: 8 << 20,
};

/** Both servers up, the source filled, the pair in sync; everything ends with the test. */
export async function inSync(
  t: Cleanup,
  more: Partial<RunOptions> = {},
  servers: SceneServers = {},
): Promise<Scene> {
  const scene = await begun(t, more, servers);
  await until(() => scene.migration.phase === 'in-sync', { timeoutMs: 30_000, what: 'in sync' });
  return scene;
}

/** The same, the copy just begun. */
export async function begun(
  t: Cleanup,
  more: Partial<RunOptions> = {},
  servers: SceneServers = {},
): Promise<Scene> {
  const [source, target] = await Promise.all([testServer(t, servers.source), testServer(t, servers.target)]);
  const { keys = 500 } = servers;
  if (keys > 0) await loadDataset(source.port, { keys, bigMembers: 100 });
  const onSource = await testClient(t, source.port);
  const onTarget = await testClient(t, target.port);
  await servers.fill?.(onSource);
  const acl = [await aclOf(onSource), await aclOf(onTarget)] as const;
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-run-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const options: RunOptions = { ...DEFAULT_OPTIONS, runDir: join(dir, 'run'), ...more };
  const access = (await servers.access?.(target)) ?? {};
  const pair = { name: 'cart', source: at(source), target: { ...at(target), ...access } };
  const events: MigrationEvent[] = [];
  const ports = { emit: (event: MigrationEvent) => void events.push(event), phaseChanged: () => {} };
  const migration = new Migration(pair, options, ports, null);
  await migration.check();
  assert.equal(migration.error, null, migration.error?.message);
  const folder = await RunFolder.create(options.runDir, 'test', [pair], options);
  await migration.start(folder);
  t.after(async () => {
    target.process.kill('SIGCONT');
    await migration.stop('the test is over');
    await folder.close();
  });
  return { source, target, onSource, onTarget, migration, folder, events, acl };
}

/** Rights of a server's users; null before 6.0. */
export async function aclOf(client: RespConnection): Promise<unknown> {
  return client.call('ACL', 'LIST').then(plain, () => null);
}

function at(server: DemoServer): Endpoint {
  return { host: '127.0.0.1', port: server.port, username: null, password: null, tls: null };
}

export function steps({ events }: Scene): string[] {
  return events.flatMap((event) => (event.event === 'step' ? [event.name] : []));
}

/** The error of a promise that must fail. */
export async function rejection(promise: Promise<unknown>): Promise<CutoverError> {
  const error = await promise.then(
    () => assert.fail('did not reject'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CutoverError, String(error));
  return error;
}

/** `OK`, or the error that a write was answered. */
export function write(client: RespConnection, key = 'probe'): Promise<string> {
  return client.call('SET', key, '1').then((reply) => String(plain(reply)), String);
}
