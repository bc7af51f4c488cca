/** The list of the keys that are ours: it outlives kill -9, a torn end, and says when it is no longer complete. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { scanCommand } from '../../../src/resp/command-frame.ts';
import { KeyPositions, noteLibrary } from '../../../src/target/write/key-positions.ts';
import { WrittenKeys } from '../../../src/target/write/written-keys.ts';
import { until } from '../../helpers/wait.ts';
import { command, fakeTarget, Replay } from './support.ts';

function fileOf(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-keys-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'keys');
}

const none = (): void => undefined;

function add(keys: WrittenKeys, db: number, ...names: string[]): void {
  for (const name of names) keys.add(db, Buffer.from(`<${name}>`), 1, name.length + 1);
}

/** `db name`; a library is `- name`. */
function all(keys: WrittenKeys): string[] {
  return [...keys.names()].flatMap(({ db, names }) => names.map((name) => `${db ?? '-'} ${name.toString()}`));
}

describe('the file', () => {
  it('keeps names for the next process, those written again and again once', (t) => {
    const file = fileOf(t);
    const keys = new WrittenKeys(file, false, none);
    for (let round = 0; round < 1_000; round++) add(keys, 0, 'a', 'b');
    add(keys, 7, 'a', '', 'x'.repeat(200_000));
    noteLibrary(Buffer.from('#!lua name=lib\nredis.call()'), keys);
    // killed: nothing is closed
    keys.flush();
    const next = new WrittenKeys(file, true, none);
    const expected = ['0 a', '0 b', '7 a', '7 ', `7 ${'x'.repeat(200_000)}`, '- lib'];
    assert.deepEqual(all(next), expected);
    add(next, 0, 'c');
    assert.deepEqual(all(next), [...expected, '0 c']);
    next.remove();
    keys.close();
    assert.equal(existsSync(file), false);
  });

  it('is cut at a frame that is torn, wherever, and goes on there', (t) => {
    const file = fileOf(t);
    const keys = new WrittenKeys(file, false, none);
    add(keys, 0, 'whole');
    keys.flush();
    const whole = statSync(file).size;
    add(keys, 0, 'torn', 'away');
    keys.close();
    const bytes = readFileSync(file);
    for (let length = whole; length < bytes.length; length++) {
      writeFileSync(file, bytes.subarray(0, length));
      const next = new WrittenKeys(file, true, none);
      assert.equal(next.lostBecause, null);
      assert.deepEqual(all(next), ['0 whole'], `cut at ${length}`);
      add(next, 0, 'later');
      next.close();
      assert.deepEqual(all(new WrittenKeys(file, true, none)), ['0 whole', '0 later']);
    }
    const damaged = Buffer.from(bytes);
    damaged[damaged.length - 1]! ^= 1;
    writeFileSync(file, damaged);
    assert.deepEqual(all(new WrittenKeys(file, true, none)), ['0 whole']);
  });

  it('damaged in the middle, gone, or too long: the keys are lost, and that is said', (t) => {
    const file = fileOf(t);
    const keys = new WrittenKeys(file, false, none);
    add(keys, 0, 'a');
    keys.close();
    truncateSync(file, 5);
    appendFileSync(file, Buffer.alloc(100_000));
    const said: string[] = [];
    const note = (message: string): void => void said.push(message);
    assert.match(new WrittenKeys(file, true, note).lostBecause ?? '', /damaged/);
    assert.match(said[0] ?? '', /second full copy/);
    // the next process must not take the empty place for a list
    assert.match(new WrittenKeys(file, true, none).lostBecause ?? '', /not in the run folder/);

    const small = new WrittenKeys(file, false, note, 50);
    add(small, 0, 'a');
    small.flush();
    assert.equal(small.lostBecause, null);
    add(small, 0, 'b'.repeat(50));
    small.flush();
    assert.equal(small.lostBecause, 'there are too many');
    add(small, 0, 'c');
    assert.deepEqual(all(small), []);
    assert.match(new WrittenKeys(file, true, none).lostBecause ?? '', /not in the run folder/);
  });
});

/** As COMMAND says it: name, arity, flags, first, last, step. */
const COMMANDS = [
  ['set', -3, ['write'], 1, 1, 1],
  ['mset', -3, ['write'], 1, -1, 2],
  ['smove', 4, ['write'], 1, 2, 1],
  ['get', 2, ['readonly'], 1, 1, 1],
  ['sinterstore', -3, ['write'], 1, -1, 1],
  ['zunionstore', -4, ['write'], 0, 0, 0],
  ['bitop', -4, ['write'], 2, -1, 1],
  ['mod.write', -2, ['write'], 0, 0, 0],
  ['script', -2, ['noscript'], 0, 0, 0],
];

/** What is noted of one command in database 3, and whether all is lost by it. */
function noted(t: TestContext, ...words: string[]): { keys: string[]; lost: boolean } {
  const keys = new WrittenKeys(fileOf(t), false, none);
  const bytes = Buffer.concat([Buffer.from('..'), command(...words)]);
  assert.equal(scanCommand(bytes, 2, bytes.length, 0), bytes.length);
  new KeyPositions(keys, COMMANDS).note(bytes, 2, bytes.length, 3);
  return { keys: all(keys), lost: keys.lostBecause !== null };
}

describe('which keys a command writes', () => {
  const CASES: readonly (readonly [string, readonly string[]])[] = [
    ['SET k v', ['3 k']],
    ['mset a 1 b 2', ['3 a', '3 b']],
    ['SMOVE a b m', ['3 a', '3 b']],
    ['GET k', []],
    ['DEL k', []],
    ['FLUSHALL', []],
    ['SCRIPT LOAD x', []],
    ['SINTERSTORE dst a b', ['3 dst']],
    ['ZUNIONSTORE dst 2 a b', ['3 dst']],
    ['BITOP AND dst a b', ['3 dst']],
    ['XGROUP CREATE k g $ MKSTREAM', ['3 k']],
    ['SORT k BY nosort GET # STORE dst', ['3 dst']],
    ['SORT k', []],
    ['GEORADIUS k 1 2 3 km STOREDIST dst', ['3 dst']],
    ['EVAL script 2 a b arg', ['3 a', '3 b']],
    ['EVALSHA sha 0 arg', []],
    ['MSETEX 2 a 1 b 2 PXAT 5', ['3 a', '3 b']],
    ['MOVE k 5', ['5 k']],
    ['COPY a b', ['3 b']],
    ['COPY a b DB 9 REPLACE', ['9 b']],
  ];
  for (const [words, expected] of CASES) {
    it(words, (t) => {
      assert.deepEqual(noted(t, ...words.split(' ')), { keys: [...expected], lost: false });
    });
  }

  it('libraries of functions', (t) => {
    const code = '#!lua  name="my lib"\nredis.register_function()';
    assert.deepEqual(noted(t, 'FUNCTION', 'LOAD', 'REPLACE', code).keys, ['- my lib']);
    assert.deepEqual(noted(t, 'FUNCTION', 'DELETE', 'lib'), { keys: [], lost: false });
  });

  for (const words of ['SWAPDB 0 1', 'FUNCTION RESTORE payload', 'mod.write k', 'UNKNOWN k']) {
    it(`${words}: nobody knows`, (t) => {
      assert.equal(noted(t, ...words.split(' ')).lost, true);
    });
  }
});

it('commands that are left out are counted, not sent, and write no key', async (t) => {
  const keys = new WrittenKeys(fileOf(t), false, none);
  const target = await fakeTarget(t);
  const commands = new Set(['mod.write', 'a.module.with.a.very.long.name']);
  const replay = new Replay({
    skip: { modules: true, commands },
    written: new KeyPositions(keys, COMMANDS, commands),
  });
  await replay.attach(t, target.port);
  replay.arrive(
    command('SET', 'a', '1'),
    command('MOD.WRITE', 'k', 'v'),
    command('a.module.with.a.very.long.name'),
    command('Mod.Write', 'big', 'x'.repeat(2 << 20)),
    command('SET', 'b', '2'),
  );
  await until(() => replay.complete);
  assert.deepEqual(
    replay.skips.map((skip) => skip.replace(/ \d+$/, '')),
    [
      'MOD.WRITE, which the target does not know k',
      'A.MODULE.WITH.A.VERY.LONG.NAME, which the target does not know null',
      'MOD.WRITE, which the target does not know big',
    ],
  );
  assert.deepEqual(all(keys), ['0 a', '0 b']);
  assert.equal(keys.lostBecause, null);
  const sent = target.received.filter(([name]) => /^(set|mod)/i.test(name ?? ''));
  assert.deepEqual(sent, [
    ['SET', 'a', '1'],
    ['SET', 'b', '2'],
  ]);
});

it('the stream: every form of command, in its database; huge ones in pieces, too', async (t) => {
  const keys = new WrittenKeys(fileOf(t), false, none);
  const target = await fakeTarget(t);
  const replay = new Replay({
    written: new KeyPositions(keys, [...COMMANDS, ['expire', 3, ['write'], 1, 1, 1]]),
  });
  await replay.attach(t, target.port);
  const big = 'x'.repeat(3 << 20);
  replay.arrive(
    command('PING'),
    command('SET', 'a', '1'),
    Buffer.from('set inline 1\r\n'),
    command('SELECT', 2),
    command('MULTI'),
    command('SELECT', 4),
    command('EXPIRE', 'ttl', 100),
    command('EXEC'),
    command('MSET', 'big:1', big, 'big:2', big),
    command('MOVE', 'moved', 6),
    command('EVAL', big, 1, 'script:key'),
  );
  await until(() => replay.complete);
  assert.deepEqual(all(keys), ['0 a', '0 inline', '4 ttl', '4 big:1', '4 big:2', '6 moved', '4 script:key']);
  assert.equal(keys.lostBecause, null);
});
