/** INFO of several families and releases; the texts are shortened from real servers and from their sources. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerInfo } from '../../../src/client/server-info.ts';

const info = (...lines: string[]): ServerInfo => ServerInfo.parse(lines.join('\r\n'));

describe('ServerInfo', () => {
  it('reads a Redis master', () => {
    const redis = info(
      '# Server',
      'redis_version:7.0.15',
      'run_id:0123456789abcdef0123456789abcdef01234567',
      'executable:/usr/bin/redis-server',
      '# Memory',
      'used_memory:1000',
      'maxmemory:0',
      'maxmemory_policy:noeviction',
      'loading:0',
      'role:master',
      'connected_slaves:2',
      'master_replid:aa',
      'master_repl_offset:12345678901',
      'cluster_enabled:0',
      'db10:keys=5,expires=1,avg_ttl=1234',
      'db2:keys=7,expires=0,avg_ttl=0,subexpiry=0',
    );
    assert.deepEqual([redis.family, redis.version, redis.role], ['redis', '7.0.15', 'master']);
    assert.deepEqual([redis.usedMemory, redis.maxmemory, redis.maxmemoryPolicy], [1000, 0, 'noeviction']);
    assert.deepEqual(
      [redis.masterReplid, redis.masterReplOffset, redis.connectedReplicas],
      ['aa', 12345678901, 2],
    );
    assert.deepEqual([redis.loading, redis.clusterEnabled], [false, false]);
    assert.deepEqual(redis.keyspace, [
      { db: 2, keys: 7, expires: 0, averageTtlMs: null, expiringHashes: 0 },
      { db: 10, keys: 5, expires: 1, averageTtlMs: 1234, expiringHashes: 0 },
    ]);
  });

  it('reads a replica with its link down', () => {
    const replica = info(
      'role:slave',
      'master_link_status:down',
      'slave_repl_offset:77',
      'master_repl_offset:5',
    );
    assert.deepEqual([replica.role, replica.masterLinkUp, replica.masterReplOffset], ['replica', false, 77]);
  });

  it('tells the families apart', () => {
    const valkey = info('redis_version:7.2.4', 'server_name:valkey', 'valkey_version:8.1.3');
    assert.deepEqual(
      [valkey.family, valkey.version, valkey.atLeast(8, 1), valkey.atLeast(9, 0)],
      ['valkey', '8.1.3', true, false],
    );
    assert.equal(info('redis_version:6.3.4', 'mvcc_depth:0').family, 'keydb');
    const dragonfly = info('redis_version:7.4.0', 'dragonfly_version:df-v1.23.0');
    assert.deepEqual([dragonfly.family, dragonfly.version], ['dragonfly', '1.23.0']);
    assert.equal(info('redis_version:4.0.0', 'kvrocks_version:2.9').family, 'other');
    assert.equal(info('').family, 'other');
  });

  it('compares releases by number', () => {
    assert.equal(info('redis_version:10.2.1').atLeast(9, 9), true);
    assert.equal(info('redis_version:6.2.14').atLeast(6, 10), false);
    assert.equal(info('redis_version:255.255.255').atLeast(8, 0), true);
  });

  it('gives null for what a server hides', () => {
    const hidden = info('redis_version:7.1.0', `run_id:${'0'.repeat(40)}`, 'used_memory:many');
    assert.deepEqual(
      [hidden.runId, hidden.maxmemory, hidden.masterReplid, hidden.usedMemory],
      [null, null, null, null],
    );
    assert.deepEqual(hidden.keyspace, []);
  });
});
