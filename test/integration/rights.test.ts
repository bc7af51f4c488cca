/** The ACL lines of README.md are enough: no check complains, and a migration with a cutover ends well. Needs redis-server >= 7.0. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { compareServers } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import { runCli } from '../helpers/cli.ts';
import { plain, testClient } from '../helpers/client.ts';
import { testServer } from '../helpers/server.ts';

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const PASSWORD = 'S3cretCanary';

/** The words of the line for one side, the password filled in. */
function rights(side: 'source' | 'target'): string[] {
  const block = new RegExp(`<!-- ${side} rights -->\n\`\`\`\n(ACL SETUSER .*)\n\`\`\`\n`).exec(README);
  assert.ok(block?.[1], `README.md has no rights for the ${side}`);
  return block[1].replace('PASSWORD', PASSWORD).split(' ');
}

test('the rights that README.md names', async (t) => {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 2_000, bigMembers: 1_000 });
  for (const [server, side] of [
    [source, 'source'],
    [target, 'target'],
  ] as const) {
    const client = await testClient(t, server.port);
    assert.equal(plain(await client.call(...(rights(side) as [string]))), 'OK');
  }
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-rights-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const at = (port: number): string => `redis://cutover@127.0.0.1:${port}`;
  const pair = ['--src', at(source.port), '--dst', at(target.port)];
  const env = { REDISCLI_AUTH: PASSWORD };

  const check = runCli(['check', ...pair], { t, env, cwd: folder });
  assert.equal(await check.exit, 0, check.stdout());
  assert.match(check.stdout(), /^all ok: \d+ checks, nothing was changed$/m);
  assert.doesNotMatch(check.stdout() + check.stderr(), /warning|refused/);

  const migrate = runCli(['migrate', ...pair, '--cutover', 'auto', '--json'], { t, env, cwd: folder });
  assert.equal(await migrate.exit, 0, migrate.stderr());
  assert.doesNotMatch(migrate.stdout() + migrate.stderr(), new RegExp(PASSWORD));
  const found = await compareServers(source.port, target.port);
  assert.deepEqual([found.first, found.different, found.missing, found.extra], [null, 0, 0, 0]);
});
