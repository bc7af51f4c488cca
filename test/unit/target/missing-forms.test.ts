/** Which forms are missing between two releases: both sides of each border, and the two families. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerInfo } from '../../../src/client/server-info.ts';
import { levelOf, missingForms, type ReleaseLevel } from '../../../src/target/write/missing-forms.ts';

function level(name: string): ReleaseLevel {
  const [family, version] = name.split(' ');
  const field =
    family === 'valkey' ? `redis_version:7.2.4\r\nvalkey_version:${version}` : `redis_version:${version}`;
  return levelOf(ServerInfo.parse(`# Server\r\n${field}\r\n`));
}

function missing(source: string, target: string): string[] {
  return [...missingForms(level(source), level(target))].sort();
}

describe('missingForms()', () => {
  it('none between equal releases, nor to a newer one of the family', () => {
    const redis = [
      '2.6.17',
      '2.8.17',
      '3.0.1',
      '3.2.6',
      '4.0.14',
      '5.0.10',
      '6.0.9',
      '6.2.14',
      '7.0.15',
      '7.2.4',
      '8.2.3',
    ];
    const valkey = ['7.2.5', '8.0.1', '8.1.8', '9.0.0', '9.1.2'];
    for (const [family, versions] of [
      ['redis', redis],
      ['valkey', valkey],
    ] as const) {
      for (const [at, source] of versions.entries()) {
        for (const target of versions.slice(at)) {
          assert.deepEqual(
            missing(`${family} ${source}`, `${family} ${target}`),
            [],
            `${source} to ${target}`,
          );
        }
      }
    }
  });

  it('across each border of Redis, what that release brought', () => {
    const borders: [target: string, source: string, forms: string][] = [
      ['2.8.24', '3.0.0', 'restoreReplace'],
      ['3.0.1', '3.0.2', 'zaddOptions'],
      ['3.0.7', '3.2.0', 'rdb7'],
      ['3.2.13', '4.0.0', 'flushAsync hsetPairs pushxValues rdb8 unlink'],
      ['4.0.14', '5.0.0', 'rdb9 restoreAbsttl zpop'],
      ['5.0.14', '6.0.0', 'setKeepttl'],
      ['6.0.20', '6.2.0', 'copy flushSync lmove popCount setPxat streams62 zaddGt'],
      ['6.2.20', '7.0.0', 'expireFlags functions rdb10 shardedPublish streams70'],
      ['7.0.15', '7.2.0', 'rdb11'],
      ['7.2.11', '7.4.0', 'fieldTtls rdb12'],
      ['7.4.7', '8.0.0', 'hgetdel hsetex'],
      ['8.0.5', '8.2.0', 'streamRefs'],
      ['8.2.3', '8.4.0', 'msetex setIfeq'],
      // no client may send an XADD with IDMP as it stands in the stream, to no release
      ['8.4.0', '8.6.0', 'idmp idmpWithId rdb13'],
      ['8.6.1', '8.6.2', 'idmpWithId xidmprecord'],
      ['8.6.2', '8.8.0', 'idmpWithId rdb14 xnack'],
      ['8.8.0', '8.8.0', 'idmpWithId'],
    ];
    for (const [target, source, forms] of borders) {
      assert.equal(missing(`redis ${source}`, `redis ${target}`).join(' '), forms, `${source} to ${target}`);
    }
  });

  it('between the families', () => {
    assert.equal(missing('valkey 8.0.1', 'redis 7.2.0').join(' '), '');
    assert.equal(missing('valkey 8.1.8', 'redis 8.2.3').join(' '), 'setIfeq');
    assert.equal(missing('valkey 8.1.8', 'redis 8.4.0').join(' '), '');
    assert.equal(
      missing('valkey 9.1.2', 'redis 7.2.4').join(' '),
      'fieldTtls hgetdel hsetex msetex rdb80 setIfeq',
    );
    assert.equal(missing('valkey 9.1.2', 'valkey 8.1.8').join(' '), 'fieldTtls hgetdel hsetex msetex rdb80');
    assert.equal(missing('valkey 9.1.2', 'valkey 9.0.0').join(' '), 'hgetdel msetex');
    assert.equal(missing('redis 8.2.3', 'valkey 9.0.0').join(' '), 'hgetdel rdb12 streamRefs');
    assert.equal(
      missing('redis 8.2.3', 'valkey 8.1.8').join(' '),
      'fieldTtls hgetdel hsetex rdb12 streamRefs',
    );
    assert.equal(missing('redis 7.2.4', 'valkey 8.0.0').join(' '), '');
  });

  it('other servers count as the Redis that they say they are', () => {
    const keydb = ServerInfo.parse('redis_version:6.3.4\r\nmvcc_depth:0\r\n');
    assert.deepEqual(levelOf(keydb), { family: 'redis', version: [6, 3, 4] });
    const dragonfly = ServerInfo.parse('redis_version:7.4.0\r\ndragonfly_version:df-v1.30.0\r\n');
    assert.deepEqual(levelOf(dragonfly), { family: 'redis', version: [7, 4, 0] });
  });
});
