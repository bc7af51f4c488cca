/** Each row of the table, and the rewrites. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { HeldTtls, SHIFT_MS } from '../../../src/target/write/held-ttls.ts';
import {
  ActionTable,
  absoluteExpiry,
  expiryWord,
  rewriteCommand,
  type StreamAction,
} from '../../../src/target/write/stream-rules.ts';

const NOW = 1_700_000_000_000;
const SOON = NOW + 1_000;
const FAR = NOW + 1_000_000;
const NEAR_MS = 30_000;
const HELD_SOON = String(SOON + SHIFT_MS);
const HELD_FAR = String(FAR + SHIFT_MS);

function actionOf(name: string, relativeTtls = true, held = false): StreamAction {
  const bytes = Buffer.from(`..${name}..`, 'latin1');
  return new ActionTable(relativeTtls, held).of(bytes, 2, bytes.length - 2);
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
    ['SET', 'ttl'],
    ['SETEX', 'ttl'],
    ['PSETEX', 'ttl'],
    ['GETEX', 'ttl'],
    ['RESTORE', 'ttl'],
    ['RESTORE-ASKING', 'ttl'],
    ['PFCOUNT', 'aside'],
    ['SCRIPT', 'aside'],
    ['EVAL', 'rewrite'],
    ['EVALSHA', 'rewrite'],
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

  it('where expiries are held back, all that set one or carry one about are looked at', () => {
    const held = ['EXPIREAT', 'PEXPIREAT', 'HPEXPIREAT', 'HSETEX', 'RENAME', 'RENAMENX', 'COPY', 'MOVE'];
    for (const name of held) {
      assert.equal(actionOf(name, false, true), 'rewrite', name);
      assert.equal(actionOf(name.toLowerCase(), true, true), 'rewrite', name);
      assert.equal(actionOf(name, true, false), 'pass', name);
    }
    assert.equal(actionOf('SET', false, true), 'ttl');
    for (const [name, action] of rows) assert.equal(actionOf(name, false, true), action, name);
    for (const name of ['PERSIST', 'HPERSIST', 'HSET', 'DEL'])
      assert.equal(actionOf(name, true, true), 'pass');
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
      'EVAL_RO',
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
      { receivedAtMs: NOW, db, ownKeys: ['own:1', 'own:2'], ttls: null },
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

describe('expiryWord', () => {
  const found = (relativeTtls: boolean, ...words: string[]): string | null => {
    const expiry = expiryWord(words[0]!, words.length, (i) => words[i] ?? null, relativeTtls);
    return expiry === null ? null : `${expiry.index}: ${expiry.atMs} of ${expiry.unitMs}`;
  };

  it('of SET and GETEX, whatever the source', () => {
    const cases: [string[], string | null][] = [
      [['set', 'k', 'v', 'EXAT', '10'], '4: 10000 of 1000'],
      [['set', 'k', 'v', 'pxat', '10'], '4: 10 of 1'],
      [['set', 'k', 'v', 'NX', 'GET', 'PxAt', '10'], '6: 10 of 1'],
      [['set', 'k', 'v', 'PXAT', '10', 'XX', 'GET'], '4: 10 of 1'],
      [['set', 'k', 'v', 'KEEPTTL'], null],
      [['set', 'k', 'v', 'EX', '10'], null],
      [['set', 'k', 'v', 'PX', '10'], null],
      [['set', 'k', 'v'], null],
      [['getex', 'k', 'EXAT', '10'], '3: 10000 of 1000'],
      [['getex', 'k', 'pxat', '10'], '3: 10 of 1'],
      [['getex', 'k', 'EX', '10'], null],
      [['getex', 'k', 'PERSIST'], null],
      [['getex', 'k'], null],
      // words that are a key or a value
      [['set', 'pxat', '10'], null],
      [['set', 'k', 'PXAT', 'PXAT', '10'], '4: 10 of 1'],
      [['set', 'PXAT', '10', 'KEEPTTL'], null],
      [['getex', 'pxat', 'PERSIST'], null],
      [['getex', 'pxat', 'PXAT', '7'], '3: 7 of 1'],
      // nothing that a server would have sent
      [['set', 'k', 'v', 'PXAT'], null],
      [['set', 'k', 'v', 'PXAT', 'soon'], null],
      [['set', 'k', 'v', 'PXAT', ''], null],
      [['set', 'k', 'v', 'PXAT', '0'], null],
      [['set', 'k', 'v', 'PXAT', '-5'], null],
      [['set', 'k', 'v', 'PXAT', '99999999999999999999'], null],
    ];
    for (const relativeTtls of [true, false]) {
      for (const [words, expected] of cases)
        assert.equal(found(relativeTtls, ...words), expected, words.join(' '));
    }
  });

  it('of RESTORE: with ABSTTL; without it only where the source sends nothing else', () => {
    const cases: [string[], string | null, string | null][] = [
      [['restore', 'k', '10', 'p', 'REPLACE', 'AbsTtl'], '2: 10 of 1', '2: 10 of 1'],
      [['restore-asking', 'k', '10', 'p', 'ABSTTL', 'FREQ', '5'], '2: 10 of 1', '2: 10 of 1'],
      [['restore', 'k', '10', 'p', 'REPLACE'], null, '2: 10 of 1'],
      [['restore', 'k', '10', 'absttl'], null, '2: 10 of 1'],
      [['restore', 'k', '0', 'p', 'ABSTTL'], null, null],
      [['restore', 'k', 'x', 'p', 'ABSTTL'], null, null],
    ];
    for (const [words, relative, absolute] of cases) {
      assert.equal(found(true, ...words), relative, words.join(' '));
      assert.equal(found(false, ...words), absolute, words.join(' '));
    }
  });

  it('of nothing else; words too long to be one are passed over', () => {
    assert.equal(found(false, 'setex', 'k', '10', 'v'), null);
    assert.equal(found(false, 'get', 'k', 'PXAT', '10'), null);
    const words = ['set', null, null, 'PXAT', '10'];
    assert.deepEqual(
      expiryWord('set', 5, (i) => words[i] ?? null, true),
      { index: 4, atMs: 10, unitMs: 1 },
    );
  });
});

describe('rewriteCommand, expiries held back', () => {
  /** What goes to the target, and what is noted. */
  interface Rewritten {
    readonly sent: readonly string[];
    readonly noted: readonly string[];
    readonly moved: boolean;
  }
  type Mode = 'all' | 'near' | 'none';

  function rewritten(mode: Mode, db: number, ...words: string[]): Rewritten {
    const ttls = new HeldTtls('/nowhere', () => NOW);
    if (mode === 'near') ttls.holdNear(NEAR_MS);
    if (mode === 'none') ttls.holdNone();
    const commands = rewriteCommand(
      words.map((word) => Buffer.from(word, 'latin1')),
      { receivedAtMs: NOW, db, ownKeys: ['own:1', 'own:2'], ttls },
    );
    return {
      sent: commands.map((command) => command.map((word) => word.toString('latin1')).join(' ')),
      moved: ttls.moved,
      noted: [...ttls.take(10)].map((page) => `${page.kind} ${page.db}: ${page.keys.join(' ')}`),
    };
  }

  /** Of one command in each mode, all in database 5: sent; noted while near ones are held. */
  function assertEach(
    cases: readonly (readonly [words: readonly string[], all: string, near: string, none: string])[],
    notes: string,
  ): void {
    for (const [words, all, near, none] of cases) {
      const what = words.join(' ');
      assert.deepEqual(rewritten('all', 5, ...words), { sent: [all], noted: [], moved: false }, what);
      const noted = near.includes(HELD_SOON) || near.includes(String(1 + SHIFT_MS)) ? [notes] : [];
      assert.deepEqual(rewritten('near', 5, ...words), { sent: [near], noted, moved: false }, what);
      assert.deepEqual(rewritten('none', 5, ...words), { sent: [none], noted: [], moved: false }, what);
    }
  }

  it('EXPIRE and its kin: absolute, later where held, without the condition that the source has decided', () => {
    const far = [`PEXPIREAT k ${HELD_FAR}`, `PEXPIREAT k ${FAR}`, `PEXPIREAT k ${FAR}`] as const;
    const soon = [`PEXPIREAT k ${HELD_SOON}`, `PEXPIREAT k ${HELD_SOON}`, `PEXPIREAT k ${SOON}`] as const;
    const past = [1 + SHIFT_MS, 1 + SHIFT_MS, 1].map((at) => `PEXPIREAT k ${at}`) as [string, string, string];
    assertEach(
      [
        [['PEXPIREAT', 'k', String(FAR)], ...far],
        [['EXPIREAT', 'k', String(FAR / 1000)], ...far],
        [['EXPIRE', 'k', '1000'], ...far],
        [['pexpire', 'k', '1000'], ...soon],
        [['PEXPIREAT', 'k', String(SOON)], ...soon],
        ...['NX', 'XX', 'GT', 'LT', 'lt'].map(
          (condition) => [['PEXPIREAT', 'k', String(SOON), condition], ...soon] as const,
        ),
        [['expireat', 'k', String(FAR / 1000), 'XX', 'GT'], ...far],
        // a past deletes at once; here it is held as well, until the DEL of the source comes
        [['EXPIREAT', 'k', '0'], ...past],
        [['PEXPIREAT', 'k', '-5'], ...past],
      ],
      'keys 5: k',
    );
  });

  it('fields of a hash', () => {
    const fields = ['FIELDS', '2', 'a', 'b'];
    const as = (text: string) => ['HPEXPIREAT', 'h', text, ...fields].join(' ');
    const soon = [as(HELD_SOON), as(HELD_SOON), as(String(SOON))] as const;
    const set = (...text: string[]) => ['HSETEX', 'h', ...text, ...fields, 'x', 'y'].join(' ');
    const keep = set('KEEPTTL');
    assertEach(
      [
        [['HPEXPIREAT', 'h', String(SOON), ...fields], ...soon],
        [['HPEXPIREAT', 'h', String(SOON), 'GT', ...fields], ...soon],
        [['HPEXPIREAT', 'h', String(FAR), 'NX', ...fields], as(HELD_FAR), as(String(FAR)), as(String(FAR))],
        [
          ['HSETEX', 'h', 'PXAT', String(SOON), ...fields, 'x', 'y'],
          set('PXAT', HELD_SOON),
          set('PXAT', HELD_SOON),
          set('PXAT', String(SOON)),
        ],
        [
          ['HSETEX', 'h', 'FXX', 'pxat', String(FAR), ...fields, 'x', 'y'],
          set('FXX', 'pxat', HELD_FAR),
          set('FXX', 'pxat', String(FAR)),
          set('FXX', 'pxat', String(FAR)),
        ],
        [['HSETEX', 'h', 'KEEPTTL', ...fields, 'x', 'y'], keep, keep, keep],
        // a field that is called like an option
        ...[['HSETEX', 'h', 'FIELDS', '1', 'PXAT', String(SOON)]].map(
          (words) => [words, words.join(' '), words.join(' '), words.join(' ')] as const,
        ),
      ],
      'hashes 5: h',
    );
  });

  it('what no server would have sent goes as it is', () => {
    for (const words of [
      ['PEXPIREAT', 'k', 'soon'],
      ['EXPIREAT', 'k'],
      ['HPEXPIREAT', 'h', 'soon', 'FIELDS', '1', 'a'],
      ['HPEXPIREAT', 'h', String(SOON)],
      ['HPEXPIREAT'],
      ['HSETEX', 'h', 'PXAT', 'soon', 'FIELDS', '1', 'a', 'x'],
      ['HSETEX', 'h', 'PXAT'],
      ['RENAME', 'a'],
      ['COPY'],
    ]) {
      for (const mode of ['all', 'near'] as const)
        assert.deepEqual(
          rewritten(mode, 5, ...words),
          { sent: [words.join(' ')], noted: [], moved: false },
          words.join(' '),
        );
    }
  });

  it('keys that are moved about are noted where the others are being set right, in the database that they go to', () => {
    const cases: [words: string[], db: number, key: string][] = [
      [['RENAME', 'a', 'b'], 5, 'b'],
      [['renamenx', 'a', 'b'], 5, 'b'],
      [['COPY', 'a', 'b'], 5, 'b'],
      [['COPY', 'a', 'b', 'REPLACE'], 5, 'b'],
      [['copy', 'a', 'b', 'Db', '9'], 9, 'b'],
      [['COPY', 'a', 'b', 'REPLACE', 'DB', '9'], 9, 'b'],
      [['COPY', 'db', 'db', 'DB', '0', 'REPLACE'], 0, 'db'],
      [['COPY', 'db', '9'], 5, '9'],
      [['MOVE', 'a', '9'], 9, 'a'],
    ];
    for (const [words, db, key] of cases) {
      const sent = [words.join(' ')];
      const noted = [`keys ${db}: ${key}`, `hashes ${db}: ${key}`];
      assert.deepEqual(rewritten('near', 5, ...words), { sent, noted, moved: false }, words.join(' '));
      for (const mode of ['all', 'none'] as const)
        assert.deepEqual(rewritten(mode, 5, ...words), { sent, noted: [], moved: false }, words.join(' '));
    }
  });

  it('SWAPDB and scripts: all keys must be looked at again, where they are being looked at', () => {
    for (const [words, sent] of [
      [['SWAPDB', '3', '5'], ['SWAPDB 3 5']],
      [
        ['swapdb', '5', '0'],
        ['SELECT 0', 'DEL own:1 own:2', 'SELECT 5', 'swapdb 5 0'],
      ],
      [['EVAL', 'script', '0'], ['EVAL script 0']],
      [['evalsha', 'sha', '0'], ['evalsha sha 0']],
    ] as const) {
      for (const mode of ['all', 'near', 'none'] as const)
        assert.deepEqual(
          rewritten(mode, 5, ...words),
          { sent, noted: [], moved: mode === 'near' },
          `${words.join(' ')}, ${mode}`,
        );
    }
  });
});
