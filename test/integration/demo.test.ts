/**
 * The demo as people and scripts run it: by itself, on a terminal, interrupted at any moment, with a target that
 * somebody has tampered with, without a server. Nothing may be left behind. Needs redis-server; tmux for the terminal.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { testClient } from '../helpers/client.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));
/** A demo that leaves a server running never ends. */
const LIMIT = { timeout: 120_000 };
const PORTS = /old on port (\d+), new on (\d+)/;

/** A folder in which everything temporary ends up, and nothing may stay. */
function scratch(t: TestContext): { folder: string; temporary: string } {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-demo-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const temporary = join(folder, 'tmp');
  mkdirSync(temporary);
  return { folder, temporary };
}

function startDemo(t: TestContext, args: readonly string[], temporary: string): CliRun {
  return runCli(['demo', '--keys', '3000', ...args], { t, env: { TMPDIR: temporary } });
}

async function portsOf(demo: CliRun): Promise<readonly [old: number, fresh: number]> {
  const match = await until(() => PORTS.exec(demo.stderr() + demo.stdout()), {
    what: 'the servers of the demo',
  });
  return [Number(match[1]), Number(match[2])];
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function assertNothingLeft(temporary: string, ports: readonly number[]): Promise<void> {
  assert.deepEqual(readdirSync(temporary), []);
  for (const port of ports) assert.equal(await isOpen(port), false, `port ${port} still answers`);
}

test(
  '--json: by itself to the end; the summary is last, all writes are counted, both sides are equal',
  LIMIT,
  async (t) => {
    const { temporary } = scratch(t);
    const demo = startDemo(t, ['--json'], temporary);
    assert.equal(await demo.exit, 0, demo.stderr());
    const summary = demo.events.at(-1);
    assert.equal(summary?.event, 'summary');
    assert.equal(demo.events.filter(({ event }) => event === 'summary').length, 1);
    assert.deepEqual([summary?.['outcome'], summary?.['exitCode']], ['promoted', 0]);
    const [pair] = (summary?.['pairs'] ?? []) as { pair: string; phase: string; writeOutageMs: number }[];
    assert.deepEqual([pair?.pair, pair?.phase], ['demo', 'promoted']);
    assert.ok((pair?.writeOutageMs ?? 0) > 0);
    const verify = demo.events.find(({ event }) => event === 'verify');
    assert.deepEqual([verify?.['different'], verify?.['missing'], verify?.['extra']], [0, 0, 0]);
    assert.ok(Number(verify?.['compared']) >= 3_000);
    const notes = demo.events
      .filter(({ event }) => event === 'note')
      .map((event) => String(event['message']));
    const counts = notes.map((note) =>
      /acknowledged by the old server: (\S+); refused .*: (\S+)$/.exec(note),
    );
    const [, acknowledged, refused] = counts.find((match) => match !== null) ?? [];
    const number = (text = ''): number => Number(text.replaceAll(',', ''));
    assert.ok(number(acknowledged) > 0 && number(refused) > 0, notes.join('\n'));
    assert.ok(
      notes.some((note) => /^digests .*: equal \([0-9a-f]{40}\)$/.test(note)),
      notes.join('\n'),
    );
    assert.match(notes.at(-1) ?? '', /^EQUAL/);
    await assertNothingLeft(temporary, await portsOf(demo));
  },
);

test('off a terminal: lines for people', LIMIT, async (t) => {
  const { temporary } = scratch(t);
  const demo = startDemo(t, [], temporary);
  assert.equal(await demo.exit, 0, demo.stderr());
  const text = demo.stdout();
  assert.match(text, /^write outage: [\d.]+ m?s$/m);
  assert.match(text, /^EQUAL: /m);
  assert.match(text, /^Both servers and their folders are removed\.$/m);
  assert.match(text, /^promoted \(exit code 0: done\)\n$/m);
  assert.equal(demo.stderr(), '');
});

test('a target that is not equal in the end: exit 5', LIMIT, async (t) => {
  const { temporary } = scratch(t);
  const demo = startDemo(t, ['--json'], temporary);
  const [, fresh] = await portsOf(demo);
  const onTarget = await testClient(t, fresh);
  await demo.phase('snapshot');
  // the fence takes write commands away; DEBUG is none
  await onTarget.call('DEBUG', 'POPULATE', '5', 'tampered');
  assert.equal(await demo.exit, 5, demo.stderr());
  const summary = demo.events.at(-1);
  assert.deepEqual([summary?.['outcome'], summary?.['exitCode']], ['different', 5]);
  assert.equal(demo.events.find(({ event }) => event === 'verify')?.['extra'], 5);
  await assertNothingLeft(temporary, await portsOf(demo));
});

/** For a phase of the demo on a busy machine. */
const SLOW = { timeoutMs: 60_000 };

/** How far the demo has come when the signal is sent. */
const MOMENTS: readonly (readonly [
  when: string,
  keys: string,
  reached: (demo: CliRun) => Promise<unknown>,
])[] = [
  ['while it loads', '2000000', (demo) => until(() => /loading/.test(demo.stderr()), SLOW)],
  ['in the snapshot', '50000', (demo) => demo.phase('snapshot')],
  ['while it compares', '50000', (demo) => until(() => /comparing/.test(demo.stderr()), SLOW)],
];

for (const [when, keys, reached] of MOMENTS) {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`${signal} ${when}: exit 130, servers and folders are gone`, LIMIT, async (t) => {
      const { temporary } = scratch(t);
      const demo = startDemo(t, ['--json', '--keys', keys], temporary);
      const ports = await portsOf(demo);
      await reached(demo);
      demo.kill(signal);
      assert.equal(await demo.exit, 130, demo.stderr());
      const summary = demo.events.at(-1);
      assert.deepEqual([summary?.event, summary?.['exitCode']], ['summary', 130]);
      await assertNothingLeft(temporary, ports);
    });
  }
}

test('no redis-server anywhere: exit 2 and how to get one', LIMIT, async (t) => {
  const { temporary } = scratch(t);
  const demo = runCli(['demo'], { t, env: { TMPDIR: temporary, PATH: temporary, REDIS_SERVER: undefined } });
  assert.equal(await demo.exit, 2);
  assert.match(
    demo.stderr(),
    /^error: the demo needs a redis-server: .*\nhint: install one .*REDIS_SERVER=/m,
  );
  await assertNothingLeft(temporary, []);
});

test('on a terminal it asks, and says what the keys do', { ...LIMIT, ...terminalOptions }, async (t) => {
  const { folder, temporary } = scratch(t);
  const script = join(folder, 'demo');
  writeFileSync(script, `TMPDIR='${temporary}' exec '${process.execPath}' '${BIN}' demo --keys 3000\n`);
  const terminal = new Terminal(t);
  await terminal.start(`sh ${script}; echo "code $?"`);
  await terminal.shown(/Nothing is changed yet[\s\S]*^\[s\] start {2}\[q\] quit$/m);
  terminal.keys('s');
  await terminal.shown(/^c {2}cuts over[\s\S]*^\[e\] enable writes {2}\[m\] make masters/m);
  terminal.keys('l');
  await terminal.shown(/^demo: client 127\.0\.0\.1:\d+/m);
  terminal.keys('c');
  await terminal.shown(/Type "demo" to go on[\s\S]*\n> ?$/m);
  terminal.type('demo');
  terminal.keys('Enter');
  const end = await terminal.shown(/^code \d+$/m);
  assert.match(end, /^EQUAL: [\s\S]*^promoted \(exit code 0: done\)\ncode 0$/m);
  await terminal.assertRestored();
  await assertNothingLeft(temporary, (PORTS.exec(end) ?? []).slice(1).map(Number));
});
