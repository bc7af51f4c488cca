/** Feed attach where both servers speak TLS to their masters, with certificates on both sides. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { freePort } from '../../src/demo/server.ts';
import { runCli } from '../helpers/cli.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { makeCertificates } from '../protocol/link-support.ts';
import { ask, assertEqualServers, ends, infoNumber, newRunDir } from './support.ts';

test('TLS everywhere: attached, promoted, and followed back', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-tls-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  makeCertificates(dir);
  const file = (name: string): string => join(dir, name);
  const start = async () => {
    const tlsPort = await freePort();
    const files = ['--tls-cert-file', file('server.crt'), '--tls-key-file', file('server.key')];
    const more = [
      '--tls-ca-cert-file',
      file('ca.crt'),
      '--tls-auth-clients',
      'no',
      '--tls-replication',
      'yes',
    ];
    const server = await testServer(t, { args: ['--tls-port', String(tlsPort), ...files, ...more] });
    return { server, uri: `rediss://127.0.0.1:${tlsPort}` };
  };
  const [source, target] = [await start(), await start()];
  await loadDataset(source.server.port, { keys: 1_000, bigMembers: 500 });
  const own = ['--cacert', file('ca.crt'), '--sni', 'localhost'];
  const pair = ['--src', source.uri, '--dst', target.uri, '--json', '--cutover', 'auto'];

  // without a certificate of its own the program cannot be the target's master
  const refused = runCli(['migrate', ...pair, ...own, '--feed', 'attach', '--run-dir', newRunDir(t)], { t });
  await ends(refused, 3);

  const keys = ['--cert', file('client.crt'), '--key', file('client.key')];
  const run = runCli(['migrate', ...pair, ...own, ...keys, '--feed', 'auto', '--run-dir', newRunDir(t)], {
    t,
  });
  await ends(run, 0);
  assert.ok(run.events.some((event) => event['name'] === 'feed' && /^attach/.test(String(event['detail']))));
  await assertEqualServers(source.server.port, target.server.port);
  await ask(target.server.port, 'SET', 'behind', '1');
  await until(async () => (await ask(source.server.port, 'GET', 'behind')) === '1');
  assert.equal(await infoNumber(target.server.port, 'stats', 'sync_full'), 0);
});
