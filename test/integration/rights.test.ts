/** The ACL lines of README.md are enough: no check complains, and a migration with a cutover ends well. Needs redis-server >= 7.0. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { compareServers } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import { startTraffic } from '../../src/demo/traffic.ts';
import { runCli } from '../helpers/cli.ts';
import { plain, testClient } from '../helpers/client.ts';
import { atEnd, testServer } from '../helpers/server.ts';

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const PASSWORD = 'S3cretCanary';

/** The words of the line for one side, the password filled in. */
function rights(side: 'source' | 'target'): string[] {
  const block = new RegExp(`<!-- ${side} rights -->\n\`\`\`\n(ACL SETUSER .*)\n\`\`\`\n`).exec(README);
  assert.ok(block?.[1], `README.md has no rights for the ${side}`);
  return block[1].replace('PASSWORD', PASSWORD).split(' ');
}

/** Both feeds ask for different things of the source; `auto` takes attach here. */
for (const feed of ['auto', 'write'] as const) {
  test(`the rights that README.md names, --feed ${feed}`, async (t) => {
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
    atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
    const at = (port: number): string => `redis://cutover@127.0.0.1:${port}`;
    const pair = ['--src', at(source.port), '--dst', at(target.port), '--feed', feed];
    const env = { REDISCLI_AUTH: PASSWORD };

    const check = runCli(['check', ...pair], { t, env, cwd: folder });
    assert.equal(await check.exit, 0, check.stdout());
    assert.match(check.stdout(), /^all ok: \d+ checks, nothing was changed$/m);
    assert.doesNotMatch(check.stdout() + check.stderr(), /warning|refused/);

    // the tail check reads the keys that were written last: of every type
    const traffic = await startTraffic({ port: source.port });
    atEnd(t, () => traffic.stop().then(() => undefined));
    const migrate = runCli(['migrate', ...pair, '--cutover', 'auto', '--json'], { t, env, cwd: folder });
    assert.equal(await migrate.exit, 0, migrate.stdout().slice(-2_000));
    await traffic.stop();
    assert.doesNotMatch(migrate.stdout() + migrate.stderr(), new RegExp(PASSWORD));
    const said = migrate.events.flatMap((event) =>
      event.event === 'note' ? [String(event['message'])] : [],
    );
    assert.deepEqual(
      said.filter((message) => /could not be compared|without a pause|not stopped/.test(message)),
      [],
    );
    for (const server of [source, target]) {
      const log = plain(await (await testClient(t, server.port)).call('ACL', 'LOG', 100));
      const refused = (log as unknown[][]).filter((entry) => entry.includes('cutover'));
      assert.deepEqual(refused, []);
    }
    const found = await compareServers(source.port, target.port);
    assert.deepEqual([found.first, found.different, found.missing, found.extra], [null, 0, 0, 0]);
  });
}
