import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WriteStream } from 'node:tty';
import { type LiveRenderer, liveRenderer } from '../../../src/ui/live.ts';
import { until } from '../../helpers/wait.ts';
import { pairSnapshot, Recorder } from './fake.ts';

/** Enough of a terminal for the live view; what it looks like on a real one is seen in integration/pty.test.ts. */
class FakeTerminal extends Recorder {
  isTTY = true;
  columns = 80;
  rows = 24;
  colors = false;
  hasColors(): boolean {
    return this.colors;
  }
  cursorTo(): void {}
  moveCursor(): void {}
  clearLine(): void {}
  take(): string {
    const text = this.text;
    this.text = '';
    return text;
  }
}

function start(change: (terminal: FakeTerminal) => void = () => {}): {
  terminal: FakeTerminal;
  live: LiveRenderer;
} {
  const terminal = new FakeTerminal();
  change(terminal);
  return { terminal, live: liveRenderer(terminal as unknown as WriteStream) };
}

/** The view draws at most every 100 ms: longer than that, so that the next frame is drawn at once. */
const nextFrame = () => sleep(130);

test('an unchanged frame writes nothing, a changed one only its lines', async () => {
  const { terminal, live } = start();
  const idle = pairSnapshot({ pair: 'idle', source: 'idle', phase: 'in-sync' });
  live.frame([pairSnapshot({ keys: 1 }), idle], '[q] quit');
  assert.match(terminal.take(), /SOURCE ==> TARGET[\s\S]*idle ==>[\s\S]*\[q\] quit/);
  await nextFrame();
  live.frame([pairSnapshot({ keys: 1 }), { ...idle }], '[q] quit');
  assert.equal(terminal.take(), '');
  await nextFrame();
  live.frame([pairSnapshot({ keys: 2 }), idle], '[q] quit');
  const update = terminal.take();
  assert.match(update, /10\.0\.0\.1:6379 ==>/);
  assert.doesNotMatch(update, /SOURCE|idle|quit/);
  live.close();
});

test('frames that come faster than ten a second are drawn once, the last of them', async () => {
  const { terminal, live } = start();
  live.frame([pairSnapshot()], 'first');
  terminal.take();
  for (let index = 0; index < 50; index += 1) live.frame([pairSnapshot({ keys: index })], `f${index}`);
  assert.equal(terminal.take(), '');
  await nextFrame();
  const update = terminal.take();
  assert.match(update, /f49/);
  assert.doesNotMatch(update, /f48/);
  live.close();
});

test('messages go above the table in one write, escapes made visible', () => {
  const { terminal, live } = start();
  live.frame([pairSnapshot()], '[q] quit');
  terminal.take();
  live.event({ event: 'note', message: 'evil \x1b[2J' });
  const text = terminal.take();
  // four lines: three up to the first, clear below, the message, the table again
  assert.ok(text.startsWith('\r\x1b[3A\x1b[Jevil \\x1b[2J\nSOURCE'), JSON.stringify(text));
  assert.ok(text.endsWith('[q] quit'));
  live.close();
});

test('no colour where the terminal has none, colour where it has', () => {
  const plain = start();
  plain.live.frame([pairSnapshot()], '[q] quit');
  plain.live.event({ event: 'error', code: 'c', message: 'm', hint: 'h', recovery: 'none' });
  assert.doesNotMatch(plain.terminal.take(), /\x1b\[\d*m/);
  plain.live.close();
  const painted = start((terminal) => {
    terminal.colors = true;
  });
  painted.live.frame([pairSnapshot()], '[q] quit');
  assert.match(painted.terminal.take(), /\x1b\[36msnapshot/);
  painted.live.close();
});

test('the cursor is hidden with the table, shown for a question and at the end, and no listener is left', () => {
  const listeners = () =>
    ['exit', 'SIGINT', 'SIGTERM', 'SIGHUP', 'SIGTSTP', 'SIGCONT'].map((name) => process.listenerCount(name));
  const before = listeners();
  const { terminal, live } = start();
  live.frame([pairSnapshot()], '[q] quit');
  assert.ok(terminal.take().includes('\x1b[?25l'));
  let repainted = 0;
  live.suspend(() => {
    repainted += 1;
  });
  assert.ok(terminal.take().endsWith('\x1b[J\x1b[?25h'));
  live.frame([pairSnapshot({ keys: 5 })], '[q] quit');
  live.say('still heard');
  assert.equal(terminal.take(), '\r\x1b[Jstill heard\n');
  assert.equal(repainted, 1);
  live.resume();
  live.close();
  assert.ok(terminal.take().endsWith('\n\x1b[?25h'));
  live.say('after');
  assert.equal(terminal.take(), 'after\n');
  assert.deepEqual(listeners(), before);
});

test('a hint takes the place of the footer', async () => {
  const { terminal, live } = start();
  live.frame([pairSnapshot()], '[q] quit');
  await nextFrame();
  terminal.take();
  live.hint('[x] does nothing now');
  assert.match(terminal.take(), /\[x\] does nothing now$/);
  live.close();
});

test('the summary stands below the last table, and later frames are ignored', () => {
  const { terminal, live } = start();
  live.frame([pairSnapshot()], '[q] quit');
  live.event({ event: 'summary', outcome: 'promoted', exitCode: 0, pairs: [] });
  assert.match(terminal.take(), /pair[\s\S]*\n\x1b\[\?25hpromoted \(exit code 0: done\)\n$/);
  live.frame([pairSnapshot({ keys: 9 })], '[q] quit');
  assert.equal(terminal.take(), '');
  live.close();
});

test('a step spins before the table is there, and never beside it', async () => {
  const { terminal, live } = start();
  const first = live.step('dial \x1b[2J');
  assert.match(terminal.take(), /dial \\x1b\[2J/);
  // the table waits for the spinner
  live.frame([pairSnapshot()], '[q] quit');
  assert.doesNotMatch(terminal.take(), /SOURCE/);
  first('ok', 'dialled');
  assert.match(terminal.take(), /ok dialled\n[\s\S]*SOURCE/);
  await nextFrame();
  const second = live.step('drain');
  await sleep(200);
  assert.doesNotMatch(terminal.take(), /\x1b\[\?2026h/);
  second('failed', 'too slow');
  assert.match(terminal.take(), /FAILED too slow\n/);
  live.close();
});

test('the spinner of a comparison says how far it is', async () => {
  const { terminal, live } = start();
  const end = live.step('cart: comparing');
  terminal.take();
  live.event({ event: 'verify-progress', pair: 'cart', compared: 5, total: 90, suspects: 0, round: 0 });
  let shown = '';
  await until(() => {
    shown += terminal.take();
    return shown.includes('cart: compared 5 of 90 keys');
  });
  end('ok');
  live.close();
});

test('a step that a question interrupts still tells its result', () => {
  const { terminal, live } = start();
  const end = live.step('dial');
  live.suspend(() => {});
  terminal.take();
  end('ok');
  assert.match(terminal.take(), /ok dial\n/);
  live.close();
});

test('before the table a hint is a line; behind it, it takes the place of the footer', () => {
  const { terminal, live } = start();
  live.hint('[x] does nothing now');
  assert.equal(terminal.take(), '[x] does nothing now\n');
  live.frame([pairSnapshot()], '[q] quit');
  terminal.take();
  live.hint('[y] does nothing now');
  live.close();
  assert.doesNotMatch(terminal.take(), /does nothing now\n/);
});

test('a line of prose is broken between words, one with a command is not', () => {
  const { terminal, live } = start((changed) => {
    changed.columns = 20;
  });
  live.say('the targets take writes now\n  -> CONFIG SET maxmemory 0');
  assert.equal(terminal.take(), 'the targets take\nwrites now\n  -> CONFIG SET maxmemory 0\n');
  live.close();
});
