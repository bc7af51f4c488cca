/** What the preflight announces as lost, by releases and the source's counters alone. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerInfo } from '../../../src/client/server-info.ts';
import { loss } from '../../../src/migrate/checks/both.ts';
import type { CheckContext } from '../../../src/migrate/checks/context.ts';

function info(release: string, ...lines: string[]): ServerInfo {
  const [family, version] = release.split(' ');
  const names =
    family === 'valkey'
      ? ['redis_version:7.2.4', 'server_name:valkey', `valkey_version:${version}`]
      : [`redis_version:${version}`];
  return ServerInfo.parse([...names, ...lines].join('\r\n'));
}

async function lossOf(source: ServerInfo, target: ServerInfo, allowLoss = false) {
  const context = { sourceInfo: source, targetInfo: target, options: { allowLoss }, feed: 'write' };
  return await loss(context as CheckContext);
}

describe('losses that are known beforehand', () => {
  for (const [source, target, detail] of [
    ['redis 7.0.15', 'redis 7.0.15', /^nothing that is known$/],
    ['redis 7.0.15', 'redis 7.2.4', /^nothing that is known$/],
    ['redis 6.2.14', 'redis 5.0.10', /^nothing that is known$/],
    ['valkey 9.1.2', 'redis 7.2.4', /^nothing that is known$/],
    ['redis 7.0.15', 'redis 6.2.14', /^nothing but counters of streams [^,]*, entries-read\)$/],
    ['redis 7.2.4', 'redis 7.0.15', /^nothing but when consumers of streams were last active$/],
    ['valkey 8.1.8', 'redis 5.0.10', /^nothing but counters of streams .*\), when consumers/],
    // there streams cannot be at all
    ['redis 8.2.3', 'redis 3.2.6', /^nothing that is known$/],
  ] as const) {
    it(`${source} to ${target}`, async () => {
      const found = await lossOf(info(source), info(target));
      assert.equal(found.status, 'ok');
      assert.match(found.detail, detail);
    });
  }

  it('tells all of them, and refuses but for --allow-loss', async () => {
    const source = info('redis 8.2.3', 'db0:keys=9,expires=1,avg_ttl=0,subexpiry=4');
    const old = info('redis 6.2.14');
    const refused = await lossOf(source, old);
    assert.equal(refused.status, 'refuse');
    assert.match(refused.detail, /^fields of 4 hashes expire.*; and counters of streams .*, when consumers/);
    const allowed = await lossOf(source, old, true);
    assert.equal(allowed.status, 'warn');
    assert.equal((await lossOf(source, info('redis 7.4.1'))).status, 'ok');
    assert.equal((await lossOf(source, info('valkey 9.1.2'))).status, 'ok');
  });
});
