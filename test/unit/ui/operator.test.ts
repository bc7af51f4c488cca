import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OperatorCommand } from '../../../src/core/ports.ts';
import { headlessOperator, keysFooter, terminalOperator } from '../../../src/ui/operator.ts';
import type { ViewKey } from '../../../src/ui/view.ts';
import { Recorder } from './fake.ts';

class FakeKeyboard extends PassThrough {
  raw = false;
  setRawMode(raw: boolean): this {
    this.raw = raw;
    return this;
  }
  async type(text: string): Promise<void> {
    this.write(text);
    await sleep(5);
  }
}

function start(hasTable = true) {
  const keyboard = new FakeKeyboard();
  const screen = new Recorder();
  const hints: string[] = [];
  const calls: string[] = [];
  const viewKeys: ViewKey[] = [];
  const operator = terminalOperator(keyboard, screen, {
    onInterrupt: () => calls.push('interrupt'),
    endHard: () => calls.push('hard'),
    screen: {
      hint: (text) => hints.push(text),
      suspend: () => calls.push('suspend'),
      resume: () => calls.push('resume'),
      viewKey: (key) => {
        viewKeys.push(key);
        return hasTable;
      },
      // the first arrow chooses
      chosen: () => (viewKeys.includes('up') ? 'cart' : null),
    },
  });
  return { keyboard, screen, hints, calls, viewKeys, operator };
}

async function until(condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 5) {
    assert.ok(waited < 5_000, 'waited too long');
    await sleep(5);
  }
}

test('allowed keys act once each, others get a hint', async () => {
  const { keyboard, hints, operator } = start();
  const got: (OperatorCommand | 'chosen')[] = [];
  void operator.next(['start', 'quit']).then((command) => got.push(command));
  await keyboard.type('m');
  await keyboard.type('x');
  assert.equal(got.length, 0);
  assert.deepEqual(hints, [
    '[m] does nothing now  [s] start  [q] quit',
    '[x] does nothing now  [s] start  [q] quit',
  ]);
  await keyboard.type('S');
  assert.deepEqual(got, ['start']);
  // nobody waits: the key must not be kept for the next question
  await keyboard.type('q');
  void operator.next(['start', 'quit']).then((command) => got.push(command));
  await sleep(20);
  assert.deepEqual(got, ['start']);
  operator.close();
});

test('a key means what it means now: f before the start, and behind the cutover', async () => {
  const { keyboard, operator } = start();
  const got: (OperatorCommand | 'chosen')[] = [];
  for (const allowed of [['start', 'start-tuned', 'check-again'], ['finish']] as const) {
    const next = operator.next(allowed);
    await keyboard.type('f');
    got.push(await next);
  }
  const again = operator.next(['start', 'start-tuned', 'check-again']);
  await keyboard.type('r');
  assert.deepEqual([...got, await again], ['start-tuned', 'finish', 'check-again']);
  operator.close();
});

test('pasted text, arrows and terminal answers never act; a key that repeats does', async () => {
  const { keyboard, operator } = start();
  const got: (OperatorCommand | 'chosen')[] = [];
  void operator.next(['start', 'enable-writes', 'promote']).then((command) => got.push(command));
  for (const text of ['me', 'ms\r', '\x1b[C', '\x1b[<0;1;1m', '\x1bm', '\r', '\x00'])
    await keyboard.type(text);
  assert.equal(got.length, 0);
  await keyboard.type('eee');
  assert.deepEqual(got, ['enable-writes']);
  operator.close();
});

test('keys of the table go to the screen, whole or in parts, and no letter of theirs acts', async () => {
  const { keyboard, viewKeys, hints, operator } = start();
  const got: (OperatorCommand | 'chosen')[] = [];
  void operator.next(['cut-over', 'roll-back']).then((command) => got.push(command));
  // the last two: a sequence that ends in b or c must not roll back or cut over
  for (const text of [
    '\x1b[A',
    '\x1b[B\x1b[B',
    '\x1b',
    '[6~',
    '\x1b[',
    '5~',
    '\r',
    'o',
    '\x1bO',
    'B',
    '\x1b[',
    'C',
  ]) {
    await keyboard.type(text);
  }
  // other keys may act now
  assert.deepEqual(got.splice(0), ['chosen']);
  void operator.next(['cut-over', 'roll-back']).then((command) => got.push(command));
  const expected: ViewKey[] = ['up', 'down', 'down', 'page-down', 'page-up', 'details', 'sort', 'down'];
  assert.deepEqual(viewKeys, expected);
  assert.deepEqual([got, hints], [[], []]);
  assert.equal(operator.selected(), 'cart');
  await keyboard.type('c');
  assert.deepEqual(got, ['cut-over']);
  operator.close();
});

test('Esc alone lets go; Ctrl-C behind the beginning of a sequence is still Ctrl-C', async () => {
  const { keyboard, viewKeys, calls, operator } = start();
  await keyboard.type('\x1b');
  assert.deepEqual(viewKeys, []);
  await until(() => viewKeys.length > 0);
  assert.deepEqual(viewKeys, ['leave']);
  await keyboard.type('\x1b[');
  await keyboard.type('\x03');
  assert.deepEqual(calls, ['interrupt']);
  await keyboard.type('A');
  assert.deepEqual(viewKeys, ['leave']);
  operator.close();
});

test('without a table these keys do nothing, and say so', async () => {
  const { keyboard, hints, operator } = start(false);
  void operator.next(['quit']);
  await keyboard.type('\r');
  await keyboard.type('o');
  assert.deepEqual(hints, ['[Enter] does nothing now  [q] quit', '[o] does nothing now  [q] quit']);
  operator.close();
});

test('keys typed into a question, or before it, move nothing in the table', async () => {
  const { keyboard, screen, viewKeys, operator } = start();
  await keyboard.type('\x1b[');
  const answer = operator.confirmByTyping('Cut over?', 'old-1');
  await keyboard.type('\x1b[Bo\r');
  await until(() => screen.text.includes('> '));
  await keyboard.type('\x1b[A\x1b[Bo\r');
  assert.equal(await answer, false);
  assert.deepEqual(viewKeys, []);
  // what was begun before the question is forgotten
  const next = operator.next(['quit']);
  await keyboard.type('q');
  assert.equal(await next, 'quit');
  operator.close();
});

test('each key of the cutover has its meaning', async () => {
  const { keyboard, operator } = start();
  for (const [key, command] of [
    ['e', 'enable-writes'],
    ['m', 'promote'],
    ['c', 'cut-over'],
    ['l', 'clients'],
    ['k', 'kill'],
    ['b', 'roll-back'],
    ['f', 'finish'],
    ['q', 'quit'],
    ['?', 'help'],
  ] as const) {
    const next = operator.next([command]);
    await keyboard.type(key);
    assert.equal(await next, command);
  }
  operator.close();
});

test('the latest next() counts', async () => {
  const { keyboard, operator } = start();
  const got: string[] = [];
  void operator.next(['start']).then(() => got.push('first'));
  void operator.next(['quit']).then(() => got.push('second'));
  await keyboard.type('s');
  await keyboard.type('q');
  assert.deepEqual(got, ['second']);
  operator.close();
});

test('Ctrl-C: first the handler of the process, then the hard end with the terminal restored', async () => {
  const { keyboard, calls, operator } = start();
  void operator.next(['quit']);
  assert.equal(keyboard.raw, true);
  await keyboard.type('\x03');
  assert.deepEqual(calls, ['interrupt']);
  assert.equal(keyboard.raw, true);
  await keyboard.type('\x03');
  assert.deepEqual(calls, ['interrupt', 'hard']);
  assert.equal(keyboard.raw, false);
});

test('only the exact name confirms, and what was typed before the question does not', async () => {
  const { keyboard, screen, calls, operator } = start();
  for (const [typed, expected] of [
    ['old-1\r', true],
    ['old-2\r', false],
    ['OLD-1\r', false],
    ['old-1 \r', false],
    ['y\r', false],
    ['\r', false],
    ['\x03', false],
    ['old-1\x03', false],
    ['\x04', false],
  ] as const) {
    screen.text = '';
    const answer = operator.confirmByTyping('Cut over?\x1b[2J Type old-1', 'old-1');
    await keyboard.type('old-1\r');
    await until(() => screen.text.includes('> '));
    assert.equal(screen.text.split('\n')[0], 'Cut over?\\x1b[2J Type old-1', JSON.stringify(typed));
    assert.match(screen.text, /Type old-1\n.*means no/);
    await keyboard.type(typed);
    assert.equal(await answer, expected, JSON.stringify(typed));
    assert.equal(keyboard.raw, true);
  }
  assert.deepEqual(calls.slice(0, 2), ['suspend', 'resume']);
  // keys work again, and the Ctrl-C of an answer was no interrupt
  assert.ok(!calls.includes('interrupt'));
  const next = operator.next(['quit']);
  await keyboard.type('q');
  assert.equal(await next, 'quit');
  operator.close();
});

test('a question breaks between words where the screen is narrow; what is to be copied stays whole', async () => {
  const { keyboard, screen, operator } = start();
  const command = '    redis-cli -h old-1 -p 6379 CONFIG SET maxmemory 0';
  const answer = operator.confirmByTyping(
    `Make new-1:6379 the master of all that was on old-1:6379.\n${command}`,
    'x',
  );
  Object.assign(screen, { columns: 30 });
  await until(() => screen.text.includes('> '));
  assert.deepEqual(screen.text.split('\n').slice(0, 3), [
    'Make new-1:6379 the master of',
    'all that was on old-1:6379.',
    command,
  ]);
  await keyboard.type('\r');
  assert.equal(await answer, false);
  operator.close();
});

test('Ctrl-C while typeahead is thrown away is a no', async () => {
  const { keyboard, screen, operator } = start();
  const answer = operator.confirmByTyping('Cut over?', 'old-1');
  await keyboard.type('\x03');
  assert.equal(await answer, false);
  assert.equal(screen.text, '');
  operator.close();
});

test('close() answers an open question with no and gives the terminal back', async () => {
  const listeners = process.listenerCount('SIGTERM');
  const { keyboard, screen, operator } = start();
  const answer = operator.confirmByTyping('Cut over?', 'old-1');
  await until(() => screen.text.includes('> '));
  operator.close();
  assert.equal(await answer, false);
  assert.equal(keyboard.raw, false);
  assert.equal(process.listenerCount('SIGTERM'), listeners);
  assert.equal(await operator.confirmByTyping('Again?', ''), false);
});

test('without a terminal nobody answers', async () => {
  const operator = headlessOperator();
  assert.equal(await operator.confirmByTyping('Cut over?', ''), false);
  let answered = false;
  void operator.next(['start', 'promote']).then(() => {
    answered = true;
  });
  await sleep(20);
  assert.equal(answered, false);
  operator.close();
});

test('the footer names the keys in a fixed order', () => {
  assert.equal(keysFooter(['quit', 'start']), '[s] start  [q] quit');
  assert.equal(
    keysFooter([
      'quit',
      'finish',
      'kill',
      'cut-over',
      'enable-writes',
      'roll-back',
      'clients',
      'promote',
      'start',
      'help',
    ]),
    '[s] start  [e] enable writes  [m] make masters  [c] cut over  [l] clients  [k] kill clients  [b] roll back  [f] finish  [q] quit  [?] help',
  );
  assert.equal(keysFooter([]), '');
});
