/** Proves that `serverReleases` lists what starts, once, in order. The servers here are scripts that only know --version. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { serverReleases } from '../../helpers/releases.ts';

const root = mkdtempSync(join(tmpdir(), 'redis-cutover-releases-'));
after(() => rmSync(root, { recursive: true, force: true }));

/** Writes an executable `<root>/<folder>/<name>` that runs the shell command, and returns its path. */
function program(folder: string, name: string, command: string): string {
  mkdirSync(join(root, folder), { recursive: true });
  writeFileSync(join(root, folder, name), `#!/bin/sh\n${command}\n`, { mode: 0o755 });
  return join(root, folder, name);
}

test('lists PATH and .servers, Redis first, older before newer, by number', () => {
  const onPath = program('a-path', 'redis-server', 'echo "Redis server v=7.0.15 sha=00000000:0"');
  const old = program('a-servers/redis-2.8.17', 'redis-server', 'echo "Redis server v=2.8.17 sha=0"');
  const newest = program('a-servers/redis-10.0.0', 'redis-server', 'echo "Redis server v=10.0.0 sha=0"');
  const valkey = program('a-servers/valkey-8.1.8', 'valkey-server', 'echo "Valkey server v=8.1.8 sha=0"');

  assert.deepEqual(serverReleases(join(root, 'a-servers'), { PATH: join(root, 'a-path') }), [
    { kind: 'redis', version: '2.8.17', major: 2, minor: 8, path: old },
    { kind: 'redis', version: '7.0.15', major: 7, minor: 0, path: onPath },
    { kind: 'redis', version: '10.0.0', major: 10, minor: 0, path: newest },
    { kind: 'valkey', version: '8.1.8', major: 8, minor: 1, path: valkey },
  ]);
});

test('a version that is there twice is listed once, REDIS_SERVER before PATH before .servers', () => {
  const chosen = program('b-own', 'my-redis', 'echo "Redis server v=7.0.15 sha=0"');
  const onPath = program('b-path', 'redis-server', 'echo "Redis server v=7.0.15 sha=0"');
  program('b-servers/redis-7.0.15', 'redis-server', 'echo "Redis server v=7.0.15 sha=0"');
  const paths = (env: NodeJS.ProcessEnv) =>
    serverReleases(join(root, 'b-servers'), env).map(({ path }) => path);

  assert.deepEqual(paths({ PATH: join(root, 'b-path'), REDIS_SERVER: chosen }), [chosen]);
  assert.deepEqual(paths({ PATH: join(root, 'b-path') }), [onPath]);
});

test('what does not start, is something else or is half there is left out', () => {
  program(
    'c-servers/redis-7.2.4',
    'redis-server',
    'echo "libssl.so.1.1: cannot open shared object file" >&2; exit 127',
  );
  program('c-servers/redis-9.9.9', 'redis-server', 'echo "hello"');
  program('c-servers/.partial-17', 'redis-server', 'echo "Redis server v=6.2.14 sha=0"');
  mkdirSync(join(root, 'c-servers/redis-1.0.0'));

  assert.deepEqual(serverReleases(join(root, 'c-servers'), { PATH: '' }), []);
  assert.deepEqual(serverReleases(join(root, 'nowhere'), { PATH: '' }), []);
});
