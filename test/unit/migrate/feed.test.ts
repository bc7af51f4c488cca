/** Which releases, modes and options let the target be our replica: what INFO shows without a question. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerInfo } from '../../../src/client/server-info.ts';
import { NO_THROTTLE } from '../../../src/core/throttle.ts';
import { knownObstacle } from '../../../src/migrate/checks/feed.ts';

/** INFO of `redis 7.0.15` or `valkey 8.1.8`, with further lines. */
function info(release: string, ...lines: string[]): ServerInfo {
  const [family, version] = release.split(' ');
  const names =
    family === 'valkey'
      ? ['redis_version:7.2.4', 'server_name:valkey', `valkey_version:${version}`]
      : [`redis_version:${version}`];
  return ServerInfo.parse([...names, ...lines].join('\r\n'));
}

const obstacle = (source: ServerInfo, target: ServerInfo, allowNonempty = false): string | null =>
  knownObstacle({ source, target, options: { allowNonempty, throttle: NO_THROTTLE } });

const ATTACH = [
  ['redis 4.0.14', 'redis 4.0.14'],
  ['redis 4.0.14', 'valkey 8.0.1'],
  ['redis 5.0.10', 'redis 8.2.3'],
  ['redis 6.0.4', 'redis 6.0.20'],
  ['redis 7.0.15', 'redis 7.2.4'],
  ['redis 7.2.4', 'valkey 7.2.5'],
  ['redis 7.2.4', 'valkey 9.1.2'],
  ['redis 7.4.1', 'redis 8.2.3'],
  ['valkey 7.2.5', 'redis 7.2.4'],
  ['valkey 8.0.1', 'redis 7.4.1'],
  ['valkey 8.1.8', 'valkey 9.1.2'],
] as const;

const WRITE = [
  ['redis 3.2.13', 'redis 7.0.15', /source is older than 4\.0/],
  ['redis 4.0.14', 'redis 3.2.13', /target is older than 4\.0/],
  ['redis 6.0.3', 'redis 7.0.15', /offsets cannot be trusted/],
  ['redis 7.0.15', 'redis 6.2.14', /older than the source/],
  ['redis 8.6.2', 'redis 8.6.1', /older than the source/],
  ['valkey 9.1.2', 'valkey 8.1.8', /older than the source/],
  ['redis 7.4.1', 'valkey 9.1.2', /Valkey cannot load/],
  ['redis 8.2.3', 'valkey 9.1.2', /Valkey cannot load/],
  ['valkey 8.0.1', 'redis 7.0.15', /Redis before 7\.2 cannot load/],
  ['valkey 8.1.8', 'redis 8.2.3', /Redis would skip/],
  ['valkey 9.1.2', 'redis 8.2.3', /Redis would skip/],
] as const;

describe('obstacles to attach', () => {
  for (const [source, target] of ATTACH) {
    it(`${source} to ${target}: none`, () => assert.equal(obstacle(info(source), info(target)), null));
  }
  for (const [source, target, reason] of WRITE) {
    it(`${source} to ${target}: ${reason.source}`, () =>
      assert.match(obstacle(info(source), info(target)) ?? 'none', reason));
  }

  it('other families, clusters, and keys that have to stay', () => {
    const seven = info('redis 7.0.15');
    const keydb = info('redis 6.3.4', 'mvcc_depth:0');
    const dragonfly = info('redis 7.4.0', 'dragonfly_version:df-v1.30.0');
    for (const other of [keydb, dragonfly]) {
      assert.match(obstacle(other, seven) ?? 'none', /only Redis and Valkey/);
      assert.match(obstacle(seven, other) ?? 'none', /only Redis and Valkey/);
    }
    const cluster = info('redis 7.0.15', 'cluster_enabled:1');
    assert.match(obstacle(cluster, seven) ?? 'none', /source is in cluster mode/);
    assert.match(obstacle(seven, cluster) ?? 'none', /target is in cluster mode/);
    assert.match(obstacle(seven, seven, true) ?? 'none', /--allow-nonempty/);
  });
});
