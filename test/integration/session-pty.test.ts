/**
 * The operator's day on a real terminal of 80 x 24: the built program, real servers under traffic, keys pressed and
 * the screen read. Needs tmux and redis-server >= 6.0.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compareServers } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic } from '../../src/demo/traffic.ts';
import { ReplyError, type RespConnection } from '../../src/resp/connection.ts';
import { infoField, plain, testClient } from '../helpers/client.ts';
import { testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));

interface Pair {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
  readonly onSource: RespConnection;
  /** An application's connection, as user default. */
  readonly onTarget: RespConnection;
}

async function makePair(t: TestContext): Promise<Pair> {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 3_000, bigMembers: 2_000 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 300 });
  t.after(() => traffic.stop());
  const onSource = await testClient(t, source.port);
  const onTarget = await testClient(t, target.port);
  return { source, target, traffic, onSource, onTarget };
}

/** Starts `redis-cutover migrate` for the pairs and waits until it asks for s. */
async function startMigrate(
  t: TestContext,
  pairs: readonly Pair[],
  feed: 'attach' | 'write' = 'write',
): Promise<Terminal> {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-session-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const words = [
    ...['--src', ...pairs.map(({ source }) => source.uri)],
    ...['--dst', ...pairs.map(({ target }) => target.uri)],
    ...['--run-dir', join(folder, 'run'), '--feed', feed],
  ];
  // a file: the shell would echo a command of several lines
  const script = join(folder, 'migrate');
  writeFileSync(script, `exec '${process.execPath}' '${BIN}' migrate ${words.join(' ')}\n`);
  const terminal = new Terminal(t);
  await terminal.start(`sh ${script}; echo "code $?"`);
  await terminal.shown(/\[s\] start {2}\[q\] quit/);
  return terminal;
}

async function inSync(terminal: Terminal): Promise<void> {
  terminal.keys('s');
  await terminal.shown(/\[e\] enable writes {2}\[m\] make masters/);
}

async function aclOf(client: RespConnection): Promise<unknown> {
  return plain(await client.call('ACL', 'LIST'));
}

async function writeError(client: RespConnection): Promise<string | null> {
  const [reply] = await client.pipeline([['SET', 'an:application', 'writes']]);
  return reply instanceof ReplyError ? reply.message : null;
}

/** No key, no user, no right of ours is left on the target, and the source has lost its replica only. */
async function assertGivenBack(pair: Pair, sourceAcl: unknown, targetAcl: unknown): Promise<void> {
  assert.deepEqual(await aclOf(pair.onTarget), targetAcl);
  assert.equal(await pair.onTarget.call('EXISTS', 'redis-cutover:lease'), 0);
  assert.equal(await writeError(pair.onTarget), null);
  assert.deepEqual(await aclOf(pair.onSource), sourceAcl);
  await until(async () => (await infoField(pair.onSource, 'replication', 'connected_slaves')) === '0');
  const before = pair.traffic.stats();
  await until(() => pair.traffic.stats().acknowledged > before.acknowledged + 50);
  assert.equal(pair.traffic.stats().refused, 0);
}

test('two pairs: s, l, e, m with a wrong name and with the right one', terminalOptions, async (t) => {
  const pairs = [await makePair(t), await makePair(t)] as const;
  const targetAcl = await aclOf(pairs[0].onTarget);
  const terminal = await startMigrate(t, pairs);
  const checked = terminal.screen();
  assert.match(checked, /^Syncing [\d.]+ MB and [\d,]+ keys from 2 redises$/m);
  for (const { source } of pairs)
    assert.match(checked, new RegExp(`^ok checking 127.0.0.1:${source.port}$`, 'm'));
  terminal.keys('m');
  await terminal.shown(/^\[m\] does nothing now {2}\[s\] start {2}\[q\] quit$/m);

  await inSync(terminal);
  const table = terminal.visible();
  assert.match(table, /^SOURCE ==> TARGET +PHASE +SNAPSHOT\/LAG +KEYS +RATE$/m);
  for (const { target } of pairs) assert.match(table, new RegExp(`==> .*:${target.port} +in-sync`));
  for (const { source } of pairs) {
    assert.match(terminal.screen(), new RegExp(`^127.0.0.1:${source.port}: catching-up -> in-sync$`, 'm'));
  }

  terminal.keys('l');
  for (const { source } of pairs) {
    const name = `127.0.0.1:${source.port}`;
    // the traffic and onSource; our own connections are left out
    const text = await terminal.shown(
      new RegExp(`(^${name}: client .* user default .*\\n(?: *writing\\n)?){2}`, 'm'),
    );
    assert.doesNotMatch(text, new RegExp(`^${name}: client .*redis-cutover`, 'm'));
  }
  assert.match((await writeError(pairs[0].onTarget)) ?? '', /^NOPERM/);
  // one line however long it is, to be copied
  assert.match(terminal.screen(), /^After a crash or a quit:\n {2}redis-cutover resume \//m);

  terminal.keys('e');
  await terminal.shown(/Type "enable writes 2" to go on[\s\S]*means no\.\n> ?$/m);
  terminal.type('enable writes 2');
  terminal.keys('Enter');
  await terminal.shown(/^The targets take writes now[\s\S]*^\[m\] make masters/m);
  for (const { target } of pairs) assert.match(terminal.visible(), new RegExp(`:${target.port} +writable`));
  assert.equal(await writeError(pairs[0].onTarget), null);
  await pairs[0].onTarget.call('DEL', 'an:application');

  terminal.keys('m');
  await terminal.shown(/Type "promote 2" to go on[\s\S]*means no\.\n> ?$/m);
  terminal.type('promote');
  terminal.keys('Enter');
  await terminal.shown(/^Nothing was changed\.[\s\S]*^\[m\] make masters/m);
  for (const { traffic } of pairs) {
    const { acknowledged } = traffic.stats();
    await until(() => traffic.stats().acknowledged > acknowledged + 50);
    assert.equal(traffic.stats().refused, 0);
  }

  terminal.keys('m');
  await terminal.shown(/Nothing was changed[\s\S]*Type "promote 2" to go on[\s\S]*\n> ?$/m);
  terminal.type('promote 2');
  terminal.keys('Enter');
  await terminal.shown(/^Promoted: [\s\S]*\[b\] roll back {2}\[f\] finish/m);
  terminal.keys('f');
  const end = await terminal.shown(/^promoted \(exit code 0: done\)\ncode 0$/m);
  for (const { source } of pairs) {
    const name = `127.0.0.1:${source.port}`;
    assert.match(end, new RegExp(`^${name}: promoted, [\\d,]+ keys`, 'm'));
    assert.match(end, new RegExp(`the source ${name} stays fenced`));
  }
  // the command that lifts the fence is whole, to be copied
  assert.match(end, /^ {4}ACL SETUSER default -@all \+@all$/m);
  await terminal.assertRestored();

  for (const { source, target, traffic, onTarget } of pairs) {
    const stats = await traffic.stop();
    assert.ok(stats.refused > 0, 'the source still took writes');
    assert.match(stats.lastError ?? '', /NOPERM|EXECABORT/);
    const found = await compareServers(source.port, target.port);
    assert.deepEqual([found.first, found.different, found.missing, found.extra], [null, 0, 0, 0]);
    assert.equal(found.digestA, found.digestB);
    assert.deepEqual(await aclOf(onTarget), targetAcl);
    assert.equal(await writeError(onTarget), null);
  }
});

test('q: exit 6, the target given back, the source as it was', terminalOptions, async (t) => {
  const pair = await makePair(t);
  const [sourceAcl, targetAcl] = [await aclOf(pair.onSource), await aclOf(pair.onTarget)];
  const terminal = await startMigrate(t, [pair]);
  await inSync(terminal);
  terminal.keys('q');
  const end = await terminal.shown(/^code \d+$/m);
  assert.match(end, /^cancelled \(exit code 6: cancelled or rolled back\)\ncode 6$/m);
  assert.match(end, /the source is as it was; the target is given back/);
  await terminal.assertRestored();
  await assertGivenBack(pair, sourceAcl, targetAcl);
});

test('Ctrl-C: exit 130, the target given back, the terminal restored', terminalOptions, async (t) => {
  const pair = await makePair(t);
  const [sourceAcl, targetAcl] = [await aclOf(pair.onSource), await aclOf(pair.onTarget)];
  const terminal = await startMigrate(t, [pair]);
  await inSync(terminal);
  terminal.keys('C-c');
  const end = await terminal.shown(/^code \d+$/m);
  assert.match(end, /^stopping; Ctrl-C again leaves at once/m);
  assert.match(end, /^interrupted \(exit code 130: interrupted\)\ncode 130$/m);
  await terminal.assertRestored();
  await assertGivenBack(pair, sourceAcl, targetAcl);
});

async function confirm(terminal: Terminal, words: string): Promise<void> {
  await terminal.shown(new RegExp(`Type "${words}" to go on\\n.*means no\\.\\n> ?$`, 'm'));
  terminal.type(words);
  terminal.keys('Enter');
}

for (const feed of ['attach', 'write'] as const) {
  test(`${feed}: c keeps the way back, b goes it, and nothing is lost`, terminalOptions, async (t) => {
    const pair = await makePair(t);
    const name = `127.0.0.1:${pair.source.port}`;
    const terminal = await startMigrate(t, [pair], feed);
    await inSync(terminal);
    terminal.keys('c');
    await confirm(terminal, name);
    await terminal.shown(
      /^Promoted: point the applications[\s\S]*^\[l\] clients.*\[b\] roll back {2}\[f\] finish/m,
    );
    // asked for before and after
    assert.equal(terminal.screen().match(/^\d clients? on 127\.0\.0\.1:\d+'s source/gm)?.length, 2);
    assert.match((await writeError(pair.onSource)) ?? '', feed === 'attach' ? /^READONLY/ : /^NOPERM/);
    await pair.onTarget.call('SET', 'behind:the:cutover', 'written');
    terminal.keys('b');
    await confirm(terminal, name);
    const end = await terminal.shown(/^code \d+$/m);
    assert.match(end, /^rolled-back \(exit code 6: cancelled or rolled back\)\ncode 6$/m);
    await terminal.assertRestored();
    assert.equal(String(await pair.onSource.call('GET', 'behind:the:cutover')), 'written');
    assert.equal(await writeError(pair.onSource), null);
  });
}
