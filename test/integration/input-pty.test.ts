/**
 * What the program asks a person on a real terminal, and what it does not: --askpass, --no-input, --yes; and NO_COLOR.
 * Runs the built program, on empty servers. Needs tmux and redis-server.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ControlServer } from '../../src/fleet/control-server.ts';
import { testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { pairSnapshot } from '../unit/ui/fake.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));

/** Runs the program with `words` on a new terminal, and then shows its exit code. */
async function start(t: TestContext, words: readonly string[], before = ''): Promise<Terminal> {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-input-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const rest = words[0] === 'migrate' ? ['--run-dir', join(folder, 'run')] : [];
  // a file: the shell would echo a command of several lines
  const script = join(folder, 'start');
  writeFileSync(script, `${before} exec '${process.execPath}' '${BIN}' ${[...words, ...rest].join(' ')}\n`);
  const terminal = new Terminal(t);
  await terminal.start(`sh ${script}; echo "code $?"`);
  return terminal;
}

async function servers(t: TestContext, args: readonly string[] = []): Promise<string[]> {
  const [source, target] = await Promise.all([testServer(t, { args }), testServer(t, { args })]);
  return ['--src', `127.0.0.1:${source.port}`, '--dst', `127.0.0.1:${target.port}`];
}

test('--askpass: what is typed is used and never shown', terminalOptions, async (t) => {
  const [source, target] = await Promise.all([
    testServer(t, { args: ['--requirepass', 'pässword-one'] }),
    testServer(t, { args: ['--requirepass', 'password-two'] }),
  ]);
  const words = ['--src', `127.0.0.1:${source.port}`, '--dst', `127.0.0.1:${target.port}`];
  const terminal = await start(t, ['check', '--askpass', ...words]);
  await terminal.shown(/^Password of the sources \(empty: none\): ?$/m);
  terminal.type('pässword-onX');
  terminal.keys('BSpace');
  terminal.type('e');
  terminal.keys('Enter');
  await terminal.shown(/^Password of the targets \(empty: none\): ?$/m);
  terminal.type('password-two');
  terminal.keys('Enter');
  const text = await terminal.shown(/^code \d+$/m);
  assert.match(text, /^code 0$/m);
  assert.match(text, /nothing was changed/);
  assert.doesNotMatch(text, /word-|\*/);
  await terminal.assertRestored();
});

test('--askpass: Ctrl-C, or a signal, ends it with the terminal restored', terminalOptions, async (t) => {
  const words = ['check', '--askpass', '--src', 'old', '--dst', 'new'];
  const terminal = await start(t, words);
  await terminal.shown(/^Password of the sources/m);
  terminal.type('half');
  terminal.keys('C-c');
  const text = await terminal.shown(/^code 130$/m);
  assert.match(text, /error: no password was given\nhint: /);
  assert.doesNotMatch(text, /half/);
  await terminal.assertRestored();

  const again = await start(t, words);
  await again.shown(/^Password of the sources/m);
  again.tmux('run-shell', 'kill -TERM $(pgrep -P #{pane_pid})');
  await again.shown(/^code 143$/m);
  await again.assertRestored();
});

test('--no-input: nobody is asked on a terminal either; Ctrl-C ends it', terminalOptions, async (t) => {
  const terminal = await start(t, ['migrate', '--no-input', '--feed', 'write', ...(await servers(t))]);
  await terminal.shown(/in-sync/);
  terminal.keys('c');
  assert.doesNotMatch(terminal.screen(), /\[[sc]\] /);
  terminal.keys('C-c');
  await terminal.shown(/^code 130$/m);
  await terminal.assertRestored();

  const refused = await start(t, ['migrate', '--no-input', '--cutover', 'ask', '--src', 'a', '--dst', 'b']);
  await refused.shown(/error: --cutover ask and --no-input[\s\S]*^code 2$/m);
});

test('--yes starts by itself, and never answers what can lose data', terminalOptions, async (t) => {
  const terminal = await start(t, ['migrate', '--yes', '--feed', 'write', ...(await servers(t))]);
  await terminal.shown(/\[c\] cut over/);
  terminal.keys('c');
  await terminal.shown(/^Type "127\.0\.0\.1:\d+" to go on/m);
  await terminal.shown(/^> ?$/m);
  terminal.type('y');
  terminal.keys('Enter');
  await terminal.shown(/Nothing was changed/);
  terminal.keys('q');
  await terminal.shown(/^code 6$/m);
  assert.doesNotMatch(terminal.screen(), /-> promoted/);
});

test('NO_COLOR: no colours; without it there are some', terminalOptions, async (t) => {
  const words = ['check', '--feed', 'write', ...(await servers(t))];
  for (const [env, expected] of [
    ['export NO_COLOR=1;', false],
    ['unset NO_COLOR;', true],
  ] as const) {
    const terminal = await start(t, words, env);
    await terminal.shown(/^code 0$/m);
    const painted = terminal.tmux('capture-pane', '-p', '-e', '-S', '-');
    assert.equal(/\x1b\[[0-9;]*[1-9]m/.test(painted), expected, JSON.stringify(painted));
  }
});

test(
  'cutover from another terminal: the words are asked for, anything else changes nothing',
  terminalOptions,
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-asked-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const confirmed: string[] = [];
    const server = await ControlServer.open(dir, {
      status: () => ({ session: 'running', pairs: [pairSnapshot({ pair: 'cart', phase: 'in-sync' })] }),
      cutOver: async (_, words) => {
        confirmed.push(words);
        return [{ pair: 'cart', phase: 'promoted', error: null }];
      },
      pause: async () => [],
      throttle: async () => [],
    });
    t.after(() => server.close());
    for (const [typed, code] of [
      ['Cart', 6],
      [null, 6],
      ['cart', 0],
    ] as const) {
      assert.deepEqual(confirmed, []);
      const terminal = await start(t, ['cutover', dir]);
      await terminal.shown(/^Type "cart" to go on: ?$/m);
      if (typed === null) terminal.keys('C-c');
      else terminal.type(typed);
      if (typed !== null) terminal.keys('Enter');
      const text = await terminal.shown(/^code \d+$/m);
      assert.match(text, new RegExp(`^code ${code}$`, 'm'));
      assert.match(text, code === 0 ? /^cart: promoted$/m : /^Nothing was changed\.$/m);
      await terminal.assertRestored();
    }
    assert.deepEqual(confirmed, ['cart']);
    const mute = await start(t, ['cutover', dir, '--no-input']);
    assert.match(await mute.shown(/^code \d+$/m), /hint: --confirm "cart"\ncode 2/);
  },
);
