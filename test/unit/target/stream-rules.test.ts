/** Each row of the table, and the rewrites. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  ActionTable,
  absoluteExpiry,
  rewriteCommand,
  type StreamAction,
} from '../../../src/target/write/stream-rules.ts';

const NOW = 1_700_000_000_000;

function actionOf(name: string, relativeTtls = true): StreamAction {
  const bytes = Buffer.from(`..${name}..`, 'latin1');
  return new ActionTable(relativeTtls).of(bytes, 2, bytes.length - 2);
}

describe('ActionTable', () => {
  const rows: [string, StreamAction][] = [
    ['SELECT', 'select'],
    ['MULTI', 'multi'],
    ['EXEC', 'exec'],
    ['PING', 'consume'],
    ['REPLCONF', 'replconf'],
    ['PUBLISH', 'publish'],
    ['SPUBLISH', 'publish'],
    ['EXPIRE', 'rewrite'],
    ['PEXPIRE', 'rewrite'],
    ['FUNCTION', 'rewrite'],
    ['SWAPDB', 'rewrite'],
    ['SET', 'relative-ttl'],
    ['SETEX', 'relative-ttl'],
    ['PSETEX', 'relative-ttl'],
    ['GETEX', 'relative-ttl'],
    ['RESTORE', 'relative-ttl'],
    ['RESTORE-ASKING', 'relative-ttl'],
  ];

  it('knows names in any case', () => {
    for (const [name, action] of rows) {
      const mixed = name.replace(/./g, (letter, at: number) =>
        at % 2 === 0 ? letter.toLowerCase() : letter,
      );
      for (const form of [name, name.toLowerCase(), mixed]) assert.equal(actionOf(form), action, form);
    }
  });

  it('lets SET pass where the source sends no relative TTLs', () => {
    assert.equal(actionOf('SET', false), 'pass');
    assert.equal(actionOf('set', false), 'pass');
    for (const [name, action] of rows) if (name !== 'SET') assert.equal(actionOf(name, false), action);
  });

  it('lets everything else pass', () => {
    const others = [
      '',
      'S',
      'SE',
      'SETT',
      'GET',
      'PEXPIREAT',
      'EXPIREAT',
      'FLUSHALL',
      'SCRIPT',
      'EVAL',
      'restore_asking',
      'RESTORE-ASKINGS',
      'XADD',
      'a'.repeat(40),
    ];
    for (const name of others) assert.equal(actionOf(name), 'pass', name);
    const known = new Set(rows.map(([name]) => name));
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), (name) => {
        const text = Buffer.from(name, 'latin1').toString('latin1');
        fc.pre(/^[a-z-]*$/i.test(text) && !known.has(text.toUpperCase()));
        assert.equal(actionOf(text), 'pass');
      }),
    );
  });
});

describe('rewriteCommand', () => {
  const rewritten = (db: number, ...words: string[]): string[] =>
    rewriteCommand(
      words.map((word) => Buffer.from(word, 'latin1')),
      { receivedAtMs: NOW, db, ownKeys: ['own:1', 'own:2'] },
    ).map((command) => command.map((word) => word.toString('latin1')).join(' '));

  it('relative TTLs', () => {
    const cases: [string[], string][] = [
      [['EXPIRE', 'k', '10'], `PEXPIREAT k ${NOW + 10_000}`],
      [['pexpire', 'k', '10'], `PEXPIREAT k ${NOW + 10}`],
      [['Expire', 'k', '10', 'NX', 'GT'], `PEXPIREAT k ${NOW + 10_000} NX GT`],
      [['EXPIRE', 'k', '0'], `PEXPIREAT k ${NOW}`],
      [['EXPIRE', 'k', '-10'], `PEXPIREAT k ${NOW - 10_000}`],
      [['EXPIRE', 'k', '-9000000000000'], 'PEXPIREAT k 1'],
      // nothing that a server would have sent: as it is
      [['EXPIRE', 'k', 'soon'], 'EXPIRE k soon'],
      [['EXPIRE', 'k', '99999999999999999999'], 'EXPIRE k 99999999999999999999'],
      [['EXPIRE', 'k', '1.5'], 'EXPIRE k 1.5'],
      [['EXPIRE', 'k'], 'EXPIRE k'],
      [['EXPIRE'], 'EXPIRE'],
    ];
    for (const [words, expected] of cases) assert.deepEqual(rewritten(0, ...words), [expected]);
  });

  it('FUNCTION LOAD replaces', () => {
    const cases: [string[], string][] = [
      [['FUNCTION', 'LOAD', '#!lua name=x'], 'FUNCTION LOAD REPLACE #!lua name=x'],
      [['function', 'load', 'replace', 'code'], 'function load replace code'],
      [['FUNCTION', 'Load', 'REPLACE', 'code'], 'FUNCTION Load REPLACE code'],
      [['FUNCTION', 'DELETE', 'lib'], 'FUNCTION DELETE lib'],
      [['FUNCTION', 'FLUSH'], 'FUNCTION FLUSH'],
      [['FUNCTION', 'RESTORE', 'load', 'FLUSH'], 'FUNCTION RESTORE load FLUSH'],
      [['FUNCTION'], 'FUNCTION'],
    ];
    for (const [words, expected] of cases) assert.deepEqual(rewritten(0, ...words), [expected]);
  });

  it('SWAPDB must not carry our keys away', () => {
    const guarded = ['SELECT 0', 'DEL own:1 own:2', 'SELECT 7'];
    assert.deepEqual(rewritten(7, 'SWAPDB', '0', '3'), [...guarded, 'SWAPDB 0 3']);
    assert.deepEqual(rewritten(7, 'swapdb', '3', '0'), [...guarded, 'swapdb 3 0']);
    assert.deepEqual(rewritten(7, 'SWAPDB', '3', '10'), ['SWAPDB 3 10']);
  });

  it('keeps keys of any bytes', () => {
    assert.deepEqual(rewritten(0, 'EXPIRE', '\xff\0\r\n', '1'), [`PEXPIREAT \xff\0\r\n ${NOW + 1000}`]);
  });
});

describe('absoluteExpiry', () => {
  const expiry = (...words: string[]): number | null =>
    absoluteExpiry(words[0]!, words.length, (i) => words[i] ?? null, NOW);

  it('of commands with a fixed place for it', () => {
    assert.equal(expiry('setex', 'k', '10', 'v'), NOW + 10_000);
    assert.equal(expiry('psetex', 'k', '10', 'v'), NOW + 10);
    assert.equal(expiry('restore', 'k', '10', 'payload'), NOW + 10);
    assert.equal(expiry('restore', 'k', '0', 'payload', 'REPLACE'), null);
    assert.equal(expiry('restore', 'k', '10', 'payload', 'REPLACE', 'absttl'), null);
    assert.equal(expiry('restore', 'k', '10', 'ABSTTL'), NOW + 10);
    assert.equal(expiry('restore-asking', 'k', '10', 'payload', 'IDLETIME', '5'), NOW + 10);
    assert.equal(expiry('setex', 'k', 'x', 'v'), null);
    assert.equal(expiry('setex', 'k', '', 'v'), null);
  });

  it('of SET, wherever the option stands', () => {
    const at = NOW + 10_000;
    const cases: [string[], number | null][] = [
      [['set', 'k', 'v', 'EX', '10'], at],
      [['set', 'k', 'v', 'px', '10000'], at],
      [['set', 'k', 'v', 'NX', 'GET', 'Ex', '10'], at],
      [['set', 'k', 'v', 'EX', '10', 'XX', 'GET'], at],
      [['set', 'k', 'v', 'KEEPTTL'], null],
      [['set', 'k', 'v', 'KEEPTTL', 'GET', 'XX'], null],
      [['set', 'k', 'v', 'PXAT', '1'], null],
      [['set', 'k', 'v', 'EXAT', '1'], null],
      [['set', 'k', 'v'], null],
      // words that are a key or a value
      [['set', 'px', '10'], null],
      [['set', 'ex', 'px', 'NX'], null],
      [['set', 'px', 'EX'], null],
      [['set', 'px', 'EX', 'PX', '7'], NOW + 7],
      [['set', 'EX', '10', 'KEEPTTL'], null],
      [['set', 'k', 'EX', 'EX', '10'], at],
      [['set', 'k', 'v', 'EX'], null],
    ];
    for (const [words, expected] of cases) assert.equal(expiry(...words), expected, words.join(' '));
  });

  it('of GETEX', () => {
    assert.equal(expiry('getex', 'k', 'EX', '10'), NOW + 10_000);
    assert.equal(expiry('getex', 'k', 'px', '10'), NOW + 10);
    assert.equal(expiry('getex', 'ex', 'PERSIST'), null);
    assert.equal(expiry('getex', 'k', 'PXAT', '10'), null);
    assert.equal(expiry('getex', 'k'), null);
  });

  it('a past of any age is 1, which deletes as well; values too long for a word are passed over', () => {
    assert.equal(expiry('restore', 'k', '-9000000000000', 'p'), 1);
    assert.equal(
      absoluteExpiry('set', 5, (i) => ['set', null, null, 'EX', '10'][i] ?? null, NOW),
      NOW + 10_000,
    );
    assert.equal(expiry('get', 'k', '10'), null);
  });
});
