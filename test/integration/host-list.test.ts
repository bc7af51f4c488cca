/** A host list in a real run: each pair with its own feed and password, and what resume needs of it. Needs redis-server. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCli } from '../helpers/cli.ts';
import { testClient } from '../helpers/client.ts';
import { testServer } from '../helpers/server.ts';

test('own options, passwords by reference and waves, in check, migrate and resume', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-list-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const CANARY = 'cAnArY-5e1f';
  const secured = { args: ['--requirepass', CANARY] };
  const [cart, newCart, geo, newGeo] = await Promise.all([
    testServer(t, secured),
    testServer(t, secured),
    testServer(t),
    testServer(t),
  ]);
  // the target of one pair holds a key, and this pair alone may be emptied
  const other = await testClient(t, newGeo.port);
  await other.call('SET', 'left', 'over');
  const secret = join(folder, 'secret');
  writeFileSync(secret, `${CANARY}\n`, { mode: 0o600 });
  const at = (server: { readonly port: number }): string => `127.0.0.1:${server.port}`;
  const hosts = join(folder, 'fleet.yaml');
  writeFileSync(
    hosts,
    [
      '- name: cart/日本',
      `  source: ${at(cart)}`,
      `  target: ${at(newCart)}`,
      '  wave: canary',
      '  feed: write',
      '  src-auth: env:CART',
      `  dst-auth: file:${secret}`,
      `- {name: geo, source: ${at(geo)}, target: ${at(newGeo)}, feed: attach, flush-target: yes}`,
    ].join('\n'),
  );
  const env = { CART: CANARY };
  const noSecret = (text: string): void => assert.doesNotMatch(text, new RegExp(CANARY));

  const runDir = join(folder, 'run');
  const words = ['--run-dir', runDir, '--stop-at', 'in-sync', '--cutover', 'never', '--json'];
  const run = runCli(['migrate', '--hosts', hosts, ...words], { t, env });
  assert.equal(await run.exit, 0, run.stderr() + run.stdout());
  const feeds = run.events.filter(({ event, name }) => event === 'check' && name === 'feed');
  assert.deepEqual(
    feeds.map(({ pair, detail }) => [pair, /^(attach|write)/.exec(String(detail))?.[0]]).sort(),
    [
      ['cart/日本', 'write'],
      ['geo', 'attach'],
    ],
  );
  assert.equal(await other.call('EXISTS', 'left'), 0);
  noSecret(run.stdout() + run.stderr());

  const stored = readFileSync(join(runDir, 'run.json'), 'utf8');
  noSecret(stored);
  assert.deepEqual(
    JSON.parse(stored).pairs.map(({ name, wave, options, auth }: Record<string, unknown>) => ({
      name,
      wave,
      options,
      auth,
    })),
    [
      {
        name: 'cart/日本',
        wave: 'canary',
        options: { feed: 'write' },
        auth: { source: 'env:CART', target: `file:${secret}` },
      },
      { name: 'geo', wave: undefined, options: { feed: 'attach', flushTarget: true }, auth: undefined },
    ],
  );

  const forgotten = runCli(['resume', runDir, '--stop-at', 'in-sync', '--json'], { t });
  assert.equal(await forgotten.exit, 2);
  assert.match(forgotten.stderr(), /the environment variable CART is not set/);
  const resumed = runCli(['resume', runDir, '--stop-at', 'in-sync', '--json'], { t, env });
  assert.equal(await resumed.exit, 0, resumed.stderr() + resumed.stdout());
  noSecret(resumed.stdout() + resumed.stderr());
});
