/**
 * The live view and the operator on a real terminal: a tmux of our own, keys sent to it, its screen read back.
 * Run with PTY_CHILD set, this same file is the program on that terminal. Needs tmux.
 */
import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { PairSnapshot } from '../../src/core/events.ts';
import { liveRenderer } from '../../src/ui/live.ts';
import { keysFooter, terminalOperator } from '../../src/ui/operator.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';

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
      const answer = await operator.confirmByTyping('Cut over? Type old-1', 'old-1');
      live.say(`confirmed: ${answer}`);
    } else {
      live.say('asking');
      setTimeout(() => live.say('something happened'), 400);
      const answer = await operator.confirmByTyping('Really? Type old-2', 'old-2');
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
    wave: null,
    phase: 'snapshot',
    feed: 'write',
    reason: null,
    paused: false,
    throttle: null,
    wayBack: null,
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
  const terminal = new Terminal({ after });
  const count = (text: string, part: string): number => text.split(part).length - 1;

  beforeEach(async () => {
    if (terminalOptions.skip !== undefined) return;
    // a fresh shell, so that one failure is not all of them
    await terminal.start(`cd '${root}' && PTY_CHILD=1 '${process.execPath}' --import tsx '${here}'`);
    await terminal.shown(/old-2:6379 ==> new-2:6379[\s\S]*\[q\] quit/);
  });

  test(
    'the table is redrawn in place, messages scroll above it, other keys get a hint',
    terminalOptions,
    async () => {
      assert.equal(terminal.tmux('display-message', '-p', '#{cursor_flag}').trim(), '0');
      terminal.keys('x');
      await terminal.shown(/\[x\] does nothing now/);
      // more text than the screen has rows, while the table goes on
      for (const _ of Array.from({ length: 6 })) {
        terminal.keys('e');
        await terminal.shown(/\n> ?$/m);
        terminal.type('no');
        terminal.keys('Enter');
        await terminal.shown(/\[q\] quit/);
      }
      await terminal.shown(/ 3\d |[4-9]\d /);
      const text = terminal.screen();
      assert.match(text, /ok dialled/);
      assert.equal(count(text, 'SOURCE ==> TARGET'), 1, text);
      assert.equal(count(text, 'old-1:6379 ==>'), 1, text);
      assert.equal(count(text, 'confirmed: false'), 6, text);
      assert.ok(text.indexOf('confirmed: false') < text.indexOf('SOURCE ==> TARGET'));
      terminal.keys('q');
      await terminal.shown(/pressed quit/);
      await terminal.assertRestored();
      assert.equal(count(terminal.screen(), 'SOURCE ==> TARGET'), 1);
    },
  );

  test(
    'what was typed before the question confirms nothing; the name typed after it does',
    terminalOptions,
    async () => {
      terminal.keys('s');
      await terminal.shown(/busy now/);
      terminal.type('old-1');
      terminal.keys('Enter');
      const asked = await terminal.shown(/Type old-1\n[\s\S]*\n> ?$/m);
      assert.doesNotMatch(asked, /confirmed/);
      assert.doesNotMatch(asked, /==>/);
      terminal.type('old-1');
      terminal.keys('Enter');
      const done = await terminal.shown(/confirmed: true[\s\S]*\[q\] quit/);
      assert.equal(count(done, 'SOURCE ==> TARGET'), 1);
      terminal.keys('q');
      await terminal.assertRestored();
    },
  );

  test(
    'a message during a question leaves the question whole; Ctrl-C there means no',
    terminalOptions,
    async () => {
      terminal.keys('e');
      await terminal.shown(/Type old-2\n[\s\S]*\n> ?$/m);
      terminal.type('old');
      await terminal.shown(/something happened\n> old$/m);
      terminal.keys('C-c');
      await terminal.shown(/confirmed: false[\s\S]*\[q\] quit/);
      assert.doesNotMatch(terminal.screen(), /interrupted/);
      terminal.keys('q');
      await terminal.assertRestored();
    },
  );

  test('Ctrl-C: the handler first, then the end, with the terminal restored', terminalOptions, async () => {
    terminal.keys('C-c');
    await terminal.shown(/interrupted[\s\S]*\[q\] quit/);
    terminal.keys('C-c');
    const text = await terminal.runInShell('echo "code $?"');
    assert.match(text, /code 130/);
    await terminal.assertRestored();
  });

  for (const signal of ['TERM', 'HUP', 'INT']) {
    test(`SIG${signal} ends the process and restores the terminal`, terminalOptions, async () => {
      terminal.tmux('run-shell', `kill -${signal} $(pgrep -P #{pane_pid})`);
      await terminal.assertRestored();
    });
  }

  test('Ctrl-Z gives the terminal to the shell, fg takes it again', terminalOptions, async () => {
    terminal.keys('C-z');
    await terminal.shown(/Stopped/);
    await terminal.assertRestored();
    terminal.type('clear; fg');
    terminal.keys('Enter');
    await terminal.shown(/old-2:6379 ==> new-2:6379[\s\S]*\[q\] quit/);
    assert.equal(terminal.tmux('display-message', '-p', '#{cursor_flag}').trim(), '0');
    terminal.keys('q');
    await terminal.shown(/pressed quit/);
    await terminal.assertRestored();
  });

  test('a resize leaves one whole table', terminalOptions, async () => {
    for (const [columns, rows] of [
      [30, 10],
      [20, 8],
      [120, 30],
      [80, 24],
    ]) {
      terminal.tmux('resize-window', '-x', String(columns), '-y', String(rows));
      const header = Number(columns) < 40 ? /^PAIR +/m : /^SOURCE ==> TARGET +PHASE/m;
      await terminal.shown(header);
      await sleep(250);
      const text = terminal.visible();
      assert.equal(count(text, '[q]'), 1, `${columns}x${rows}:\n${text}`);
      assert.equal(count(text, '2 pairs'), 1, `${columns}x${rows}:\n${text}`);
    }
    terminal.keys('q');
    await terminal.assertRestored();
  });

  test(
    'an error nobody caught is printed below the table, on a terminal that works',
    terminalOptions,
    async () => {
      terminal.keys('e');
      await terminal.shown(/Really/);
      terminal.type('old-2');
      terminal.keys('Enter');
      const text = await terminal.shown(/Error: never caught[\s\S]*ready> ?$/m);
      assert.ok(text.indexOf('[q] quit') < text.indexOf('never caught'));
      await terminal.assertRestored();
    },
  );
}
