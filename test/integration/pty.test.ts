/**
 * The live view and the operator on a real terminal: a tmux of our own, keys sent to it, its screen read back.
 * Run with PTY_CHILD set, this same file is the program on that terminal. Needs tmux.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { PairSnapshot } from '../../src/core/events.ts';
import { liveRenderer } from '../../src/ui/live.ts';
import { keysFooter, terminalOperator } from '../../src/ui/operator.ts';

const here = fileURLToPath(import.meta.url);
const root = fileURLToPath(new URL('../..', import.meta.url));

if (process.env['PTY_CHILD'] === undefined) defineTests();
else await runChild();

/** A session in small: a table that changes ten times a second, and one line said per key. */
async function runChild(): Promise<void> {
  const live = liveRenderer(process.stdout);
  const end = live.step('dialling');
  await sleep(300);
  end('ok', 'dialled');
  const operator = terminalOperator(process.stdin, process.stdout, {
    screen: live,
    onInterrupt: () => live.say('interrupted'),
  });
  const allowed = ['start', 'enable-writes', 'quit'] as const;
  let keys = 0;
  const ticker = setInterval(() => {
    keys += 1;
    live.frame([childPair('old-1:6379', keys), childPair('old-2:6379', keys)], keysFooter(allowed));
  }, 100);
  for (;;) {
    const command = await operator.next(allowed);
    live.say(`pressed ${command} at ${keys}`);
    if (command === 'quit') break;
    if (command === 'start') {
      live.say('busy now');
      // the loop stands still, so that what is typed stays in the terminal's own buffer
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000);
      const answer = await operator.confirmByTyping('Cut over old-1?', 'old-1');
      live.say(`confirmed: ${answer}`);
    } else {
      live.say('asking');
      setTimeout(() => live.say('something happened'), 400);
      const answer = await operator.confirmByTyping('Really?', 'old-2');
      live.say(`confirmed: ${answer}`);
      if (answer) setTimeout(() => Promise.reject(new Error('never caught')), 300);
    }
  }
  clearInterval(ticker);
  operator.close();
  live.close();
}

function childPair(pair: string, keys: number): PairSnapshot {
  return {
    pair,
    source: pair,
    target: pair.replace('old', 'new'),
    phase: 'snapshot',
    reason: null,
    snapshotBytes: keys * 1_000_000,
    snapshotTotal: null,
    keys,
    keysTotal: null,
    bytesPerSecond: 1_000_000,
    etaSeconds: null,
    appliedOffset: 0,
    sourceOffset: 0,
    lagBytes: 0,
    lagSeconds: 0,
    commandsPerSecond: 0,
    divergences: 0,
  };
}

function defineTests(): void {
  const missing = ['tmux', 'sh'].filter(
    (program) => spawnSync(program, ['-c', ':'], { stdio: 'ignore' }).error,
  );
  const options = missing.length > 0 ? { skip: `needs ${missing.join(' and ')}` } : {};
  // sh: bash would put terminal modes right by itself, and hide what we left behind
  // a server of its own, so that nobody else's session is touched
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-pty-'));
  const tmux = (...args: string[]): string =>
    execFileSync('tmux', ['-S', join(folder, 'socket'), '-f', '/dev/null', ...args], { encoding: 'utf8' });
  const keys = (...names: string[]): string => tmux('send-keys', ...names);
  const typed = (text: string): string => tmux('send-keys', '-l', text);
  /** The screen with what scrolled off it. */
  const screen = (): string => tmux('capture-pane', '-p', '-S', '-');
  const shown = async (pattern: RegExp): Promise<string> => {
    for (let waited = 0; ; waited += 50) {
      const text = screen();
      if (pattern.test(text)) return text;
      assert.ok(waited < 15_000, `never saw ${pattern} on:\n${text}`);
      await sleep(50);
    }
  };
  const count = (text: string, part: string): number => text.split(part).length - 1;

  before(() => {
    if (missing.length > 0) return;
    tmux('new-session', '-d', '-x', '80', '-y', '24', 'env -u NO_COLOR -u ENV PS1="ready> " sh -i');
  });
  after(() => {
    if (missing.length === 0) tmux('kill-server');
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    if (missing.length > 0) return;
    // a fresh shell, so that one failure is not all of them
    tmux('respawn-pane', '-k');
    tmux('resize-window', '-x', '80', '-y', '24');
    await shown(/ready> ?$/m);
    tmux('clear-history');
    typed(`cd '${root}' && clear && PTY_CHILD=1 '${process.execPath}' --import tsx '${here}'`);
    keys('Enter');
    await shown(/old-2:6379 ==> new-2:6379[\s\S]*\[q\] quit/);
  });

  let marks = 0;
  /** Runs one command in the shell of the pane, and thereby proves that the shell has its terminal back. */
  async function runInShell(command: string): Promise<string> {
    marks += 1;
    await shown(/ready> ?$/m);
    typed(`${command}; echo "mark"-${marks}`);
    keys('Enter');
    const text = await shown(new RegExp(`^mark-${marks}$`, 'm'));
    return text.slice(text.lastIndexOf(command));
  }

  async function assertRestored(): Promise<void> {
    const text = await runInShell('stty -a');
    for (const flag of ['icanon', 'echo', 'isig', 'icrnl'])
      assert.match(text, new RegExp(`(?<!-)\\b${flag}\\b`));
    assert.equal(tmux('display-message', '-p', '#{cursor_flag}').trim(), '1', 'the cursor is hidden');
  }

  test(
    'the table is redrawn in place, messages scroll above it, other keys get a hint',
    options,
    async () => {
      assert.equal(tmux('display-message', '-p', '#{cursor_flag}').trim(), '0');
      keys('x');
      await shown(/\[x\] does nothing now/);
      // more text than the screen has rows, while the table goes on
      for (const _ of Array.from({ length: 6 })) {
        keys('e');
        await shown(/\n> ?$/m);
        typed('no');
        keys('Enter');
        await shown(/\[q\] quit/);
      }
      await shown(/ 3\d |[4-9]\d /);
      const text = screen();
      assert.match(text, /ok dialled/);
      assert.equal(count(text, 'SOURCE ==> TARGET'), 1, text);
      assert.equal(count(text, 'old-1:6379 ==>'), 1, text);
      assert.equal(count(text, 'confirmed: false'), 6, text);
      assert.ok(text.indexOf('confirmed: false') < text.indexOf('SOURCE ==> TARGET'));
      keys('q');
      await shown(/pressed quit/);
      await assertRestored();
      assert.equal(count(screen(), 'SOURCE ==> TARGET'), 1);
    },
  );

  test(
    'what was typed before the question confirms nothing; the name typed after it does',
    options,
    async () => {
      keys('s');
      await shown(/busy now/);
      typed('old-1');
      keys('Enter');
      const asked = await shown(/Type old-1 to go on[\s\S]*\n> ?$/m);
      assert.doesNotMatch(asked, /confirmed/);
      assert.doesNotMatch(asked, /==>/);
      typed('old-1');
      keys('Enter');
      const done = await shown(/confirmed: true[\s\S]*\[q\] quit/);
      assert.equal(count(done, 'SOURCE ==> TARGET'), 1);
      keys('q');
      await assertRestored();
    },
  );

  test('a message during a question leaves the question whole; Ctrl-C there means no', options, async () => {
    keys('e');
    await shown(/Type old-2 to go on[\s\S]*\n> ?$/m);
    typed('old');
    await shown(/something happened\n> old$/m);
    keys('C-c');
    await shown(/confirmed: false[\s\S]*\[q\] quit/);
    assert.doesNotMatch(screen(), /interrupted/);
    keys('q');
    await assertRestored();
  });

  test('Ctrl-C: the handler first, then the end, with the terminal restored', options, async () => {
    keys('C-c');
    await shown(/interrupted[\s\S]*\[q\] quit/);
    keys('C-c');
    const text = await runInShell('echo "code $?"');
    assert.match(text, /code 130/);
    await assertRestored();
  });

  for (const signal of ['TERM', 'HUP', 'INT']) {
    test(`SIG${signal} ends the process and restores the terminal`, options, async () => {
      tmux('run-shell', `kill -${signal} $(pgrep -P #{pane_pid})`);
      await assertRestored();
    });
  }

  test('Ctrl-Z gives the terminal to the shell, fg takes it again', options, async () => {
    keys('C-z');
    await shown(/Stopped/);
    await assertRestored();
    typed('clear; fg');
    keys('Enter');
    await shown(/old-2:6379 ==> new-2:6379[\s\S]*\[q\] quit/);
    assert.equal(tmux('display-message', '-p', '#{cursor_flag}').trim(), '0');
    keys('q');
    await shown(/pressed quit/);
    await assertRestored();
  });

  test('a resize leaves one whole table', options, async () => {
    for (const [columns, rows] of [
      [30, 10],
      [20, 8],
      [120, 30],
      [80, 24],
    ]) {
      tmux('resize-window', '-x', String(columns), '-y', String(rows));
      const header = Number(columns) < 40 ? /^PAIR +/m : /^SOURCE ==> TARGET +PHASE/m;
      await shown(header);
      await sleep(250);
      const text = tmux('capture-pane', '-p');
      assert.equal(count(text, '[q]'), 1, `${columns}x${rows}:\n${text}`);
      assert.equal(count(text, '2 pairs'), 1, `${columns}x${rows}:\n${text}`);
    }
    keys('q');
    await assertRestored();
  });

  test('an error nobody caught is printed below the table, on a terminal that works', options, async () => {
    keys('e');
    await shown(/Really/);
    typed('old-2');
    keys('Enter');
    const text = await shown(/Error: never caught[\s\S]*ready> ?$/m);
    assert.ok(text.indexOf('[q] quit') < text.indexOf('never caught'));
    await assertRestored();
  });
}
