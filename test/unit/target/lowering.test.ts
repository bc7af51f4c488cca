/**
 * What is sent in the place of each command that an older target does not know: protocol.md 2.4 row by row. That the
 * scripts do what the commands do is run on real servers: test/integration/older-target.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { writeFooter } from '../../../src/rdb/dump-payload.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { type LoweringContext, loweringsFor } from '../../../src/target/write/lowering.ts';
import { missingForms, type ReleaseLevel } from '../../../src/target/write/missing-forms.ts';
import { writesOfScript } from '../../../src/target/write/own-scripts.ts';
import type { Word } from '../../../src/target/write/words.ts';

const NEWEST: Record<'redis' | 'valkey', ReleaseLevel> = {
  redis: { family: 'redis', version: [8, 8, 0] },
  valkey: { family: 'valkey', version: [9, 1, 2] },
};

/** Of a target that takes everything as it is. */
const CONTEXT: LoweringContext = {
  missing: new Set(),
  forms: capabilitiesOf({ major: 9, minor: 0 }).forms,
  ttls: null,
  db: 0,
  lose: () => {},
  lacks: () => {},
};

type Name = `${'redis' | 'valkey'} ${number}.${number}.${number}`;

function level(name: Name): ReleaseLevel {
  const [family, version] = name.split(' ') as ['redis' | 'valkey', string];
  const [major, minor, patch] = version.split('.').map(Number) as [number, number, number];
  return { family, version: [major, minor, patch] };
}

interface Lowered {
  readonly sent: readonly string[];
  readonly lost: readonly string[];
}

/** Of the newest Redis or Valkey to `target`; scripts as `script(keys; arguments)`. */
function lowered(target: Name, from: 'redis' | 'valkey', words: readonly Word[]): Lowered {
  const missing = missingForms(NEWEST[from], level(target));
  const lost: string[] = [];
  const lowering = loweringsFor(missing).get(String(words[0]).toLowerCase());
  const bytes = words.map((word) => (typeof word === 'string' ? Buffer.from(word, 'latin1') : word));
  const { family, version } = level(target);
  const { forms } = capabilitiesOf({ major: version[0], minor: version[1] }, family);
  const lose = ({ what }: { what: string }): number => lost.push(what);
  const commands = lowering?.(bytes, { ...CONTEXT, missing, forms, lose }) ?? [bytes];
  return { sent: commands.map(textOf), lost: lost.map((what) => what.split(' ')[0]!) };
}

function textOf(words: readonly Word[]): string {
  const texts = words.map((word) => (typeof word === 'string' ? word : word.toString('latin1')));
  if (texts[0] !== 'EVAL') return texts.join(' ');
  const keys = Number(texts[2]);
  return `script(${texts.slice(3, 3 + keys).join(' ')}; ${texts.slice(3 + keys).join(' ')})`;
}

type Row = readonly [target: Name, command: string, sent: readonly string[], lost?: readonly string[]];

function check(from: 'redis' | 'valkey', rows: readonly Row[]): void {
  for (const [target, command, sent, lost = []] of rows) {
    assert.deepEqual(lowered(target, from, command.split(' ')), { sent, lost }, `${target}: ${command}`);
  }
}

describe('lowering: strings and expiries', () => {
  it('SET with an absolute expiry: 6.2', () => {
    check('redis', [
      ['redis 6.2.0', 'SET k v PXAT 9000', ['SET k v PXAT 9000']],
      ['redis 6.0.9', 'SET k v PXAT 9000', ['SET k v', 'PEXPIREAT k 9000']],
      ['redis 6.0.9', 'set k v exat 9', ['SET k v', 'PEXPIREAT k 9000']],
      ['redis 6.0.9', 'SET k v NX GET PXAT 9000', ['SET k v', 'PEXPIREAT k 9000']],
      ['redis 6.0.9', 'SET k v NX PX 9000', ['SET k v NX PX 9000']],
      ['redis 6.0.9', 'SET k v', ['SET k v']],
      ['redis 6.0.9', 'SET PXAT PXAT', ['SET PXAT PXAT']],
    ]);
  });

  it('SET KEEPTTL: 6.0', () => {
    check('redis', [
      ['redis 6.0.9', 'SET k v KEEPTTL', ['SET k v KEEPTTL']],
      ['redis 5.0.10', 'SET k v KEEPTTL', ['script(k; v)']],
      ['redis 5.0.10', 'SET k v XX KEEPTTL', ['script(k; v)']],
    ]);
  });

  it('SET IFEQ of Valkey: the source has decided', () => {
    check('valkey', [
      ['valkey 8.1.8', 'SET k w IFEQ v', ['SET k w IFEQ v']],
      ['valkey 8.0.1', 'SET k w IFEQ v', ['SET k w']],
      ['redis 7.2.4', 'SET k w IFEQ v', ['SET k w']],
      ['redis 7.2.4', 'SET k w IFEQ KEEPTTL KEEPTTL', ['SET k w KEEPTTL']],
      ['redis 5.0.10', 'SET k w IFEQ v KEEPTTL', ['script(k; w)']],
      ['redis 6.0.9', 'SET k w IFEQ v PXAT 9000', ['SET k w', 'PEXPIREAT k 9000']],
      ['redis 8.4.0', 'SET k w IFEQ v', ['SET k w IFEQ v']],
    ]);
  });

  it('MSETEX: Redis 8.4, Valkey 9.1', () => {
    const keep = 'MSETEX 2 a 1 b 2 XX KEEPTTL';
    check('valkey', [
      ['valkey 9.1.0', keep, [keep]],
      ['redis 8.4.0', keep, [keep]],
      [
        'redis 7.0.15',
        'MSETEX 2 a 1 b 2 PXAT 9000',
        ['MSET a 1 b 2', 'PEXPIREAT a 9000', 'PEXPIREAT b 9000'],
      ],
      ['valkey 9.0.0', 'MSETEX 1 a 1 NX', ['MSET a 1']],
      ['valkey 9.0.0', keep, ['SET a 1 KEEPTTL', 'SET b 2 KEEPTTL']],
      ['redis 5.0.10', keep, ['script(a; 1)', 'script(b; 2)']],
    ]);
  });

  it('conditions of PEXPIREAT: 7.0', () => {
    check('redis', [
      ['redis 7.0.15', 'PEXPIREAT k 9000 XX GT', ['PEXPIREAT k 9000 XX GT']],
      ['redis 6.2.14', 'PEXPIREAT k 9000 XX GT', ['PEXPIREAT k 9000']],
      ['redis 6.2.14', 'PEXPIREAT k 9000', ['PEXPIREAT k 9000']],
    ]);
  });
});

describe('lowering: keys', () => {
  it('UNLINK: 4.0; FLUSHALL and FLUSHDB: ASYNC 4.0, SYNC 6.2; SCRIPT FLUSH: both 6.2', () => {
    check('redis', [
      ['redis 4.0.14', 'UNLINK a b', ['UNLINK a b']],
      ['redis 3.2.6', 'UNLINK a b', ['DEL a b']],
      ['redis 6.2.14', 'FLUSHALL SYNC', ['FLUSHALL SYNC']],
      ['redis 6.0.9', 'FLUSHALL SYNC', ['FLUSHALL']],
      ['redis 6.0.9', 'flushdb async', ['flushdb async']],
      ['redis 3.2.6', 'FLUSHDB ASYNC', ['FLUSHDB']],
      ['redis 3.2.6', 'FLUSHALL', ['FLUSHALL']],
      ['redis 6.0.9', 'SCRIPT FLUSH ASYNC', ['SCRIPT FLUSH']],
      ['redis 6.0.9', 'SCRIPT LOAD ASYNC', ['SCRIPT LOAD ASYNC']],
    ]);
  });

  it('COPY: 6.2', () => {
    check('redis', [
      ['redis 6.2.14', 'COPY a b DB 3', ['COPY a b DB 3']],
      ['redis 6.0.9', 'COPY a b', ['script(a b; )']],
      ['redis 6.0.9', 'COPY a b REPLACE DB 3', ['script(a b; 3)']],
      ['redis 6.0.9', 'COPY db db DB 3', ['script(db db; 3)']],
    ]);
  });

  it('functions and sharded channels: 7.0', () => {
    check('redis', [
      ['redis 7.0.15', 'FUNCTION LOAD REPLACE x', ['FUNCTION LOAD REPLACE x']],
      ['redis 6.2.14', 'FUNCTION LOAD REPLACE x', [], ['function']],
      ['redis 6.2.14', 'FUNCTION FLUSH', [], ['function']],
      ['redis 6.2.14', 'SPUBLISH c m', [], ['messages']],
    ]);
  });

  it('RESTORE: its options by release, its payload with the stamp of its type', () => {
    const payload = payloadOf(0, 14);
    const old = payloadOf(0, 6);
    const text = (words: readonly Word[]): string => textOf(words);
    const rows: [Name, Word[], Word[][]][] = [
      ['redis 8.8.0', ['9000', payload, 'REPLACE'], [['RESTORE', 'k', '9000', payload, 'REPLACE']]],
      [
        'redis 7.0.15',
        ['9000', payload, 'REPLACE', 'ABSTTL', 'FREQ', '3'],
        [['RESTORE', 'k', '9000', old, 'REPLACE', 'ABSTTL', 'FREQ', '3']],
      ],
      [
        'redis 4.0.14',
        ['9000', payload, 'replace', 'absttl', 'FREQ', '3'],
        [
          ['RESTORE', 'k', '0', old, 'REPLACE'],
          ['PEXPIREAT', 'k', '9000'],
        ],
      ],
      ['redis 4.0.14', ['9000', payload], [['RESTORE', 'k', '9000', old]]],
      ['redis 4.0.14', ['0', payload, 'ABSTTL'], [['RESTORE', 'k', '0', old]]],
      [
        'redis 2.8.17',
        ['9000', payload, 'REPLACE'],
        [
          ['DEL', 'k'],
          ['RESTORE', 'k', '9000', old],
        ],
      ],
      // the type came with 7.0: as low as it can go
      ['redis 7.0.15', ['0', payloadOf(16, 14)], [['RESTORE', 'k', '0', payloadOf(16, 10)]]],
      // older than its type's stamp, of an unknown type, and no payload at all: as it is
      ['redis 7.0.15', ['0', payloadOf(16, 6)], [['RESTORE', 'k', '0', payloadOf(16, 6)]]],
      ['redis 7.0.15', ['0', payloadOf(200, 14)], [['RESTORE', 'k', '0', payloadOf(200, 14)]]],
      ['redis 7.0.15', ['0', Buffer.from('short')], [['RESTORE', 'k', '0', Buffer.from('short')]]],
    ];
    for (const [target, words, sent] of rows) {
      assert.deepEqual(lowered(target, 'redis', ['RESTORE', 'k', ...words]).sent, sent.map(text), target);
    }
    // the same number means another type in the other family
    const hash = payloadOf(22, 80);
    assert.deepEqual(lowered('redis 8.2.3', 'valkey', ['RESTORE', 'k', '0', hash]).sent, [
      text(['RESTORE', 'k', '0', hash]),
    ]);
    const string = lowered('redis 8.2.3', 'valkey', ['RESTORE', 'k', '0', payloadOf(0, 80)]);
    assert.deepEqual(string.sent, [text(['RESTORE', 'k', '0', old])]);
  });
});

function payloadOf(type: number, version: number): Buffer {
  const payload = Buffer.from([type, 2, 0x61, 0x62, ...Buffer.alloc(10)]);
  const crc = new Crc64();
  crc.update(payload, 0, 4);
  writeFooter(crc, payload, 4, version);
  return payload;
}

describe('lowering: lists, sorted sets, hashes', () => {
  it('LMOVE, LPOP and RPOP with a count: 6.2; LPUSHX with several values: 4.0', () => {
    check('redis', [
      ['redis 6.2.14', 'LMOVE a b LEFT LEFT', ['LMOVE a b LEFT LEFT']],
      ['redis 6.0.9', 'LMOVE a b RIGHT LEFT', ['RPOPLPUSH a b']],
      ['redis 6.0.9', 'LMOVE a b left left', ['script(a b; LPOP LPUSH)']],
      ['redis 6.0.9', 'LMOVE a b LEFT RIGHT', ['script(a b; LPOP RPUSH)']],
      ['redis 6.0.9', 'LMOVE a b RIGHT RIGHT', ['script(a b; RPOP RPUSH)']],
      ['redis 6.2.14', 'LPOP k 3', ['LPOP k 3']],
      ['redis 6.0.9', 'LPOP k', ['LPOP k']],
      ['redis 6.0.9', 'LPOP k 3', ['LTRIM k 3 -1']],
      ['redis 6.0.9', 'RPOP k 3', ['LTRIM k 0 -4']],
      ['redis 4.0.14', 'LPUSHX k a b', ['LPUSHX k a b']],
      ['redis 3.2.6', 'LPUSHX k a b', ['LPUSHX k a', 'LPUSHX k b']],
      ['redis 3.2.6', 'RPUSHX k a b', ['RPUSHX k a', 'RPUSHX k b']],
    ]);
  });

  it('ZPOPMIN and ZPOPMAX: 5.0', () => {
    check('redis', [
      ['redis 5.0.10', 'ZPOPMIN z 2', ['ZPOPMIN z 2']],
      ['redis 4.0.14', 'ZPOPMIN z', ['ZREMRANGEBYRANK z 0 0']],
      ['redis 4.0.14', 'ZPOPMIN z 3', ['ZREMRANGEBYRANK z 0 2']],
      ['redis 4.0.14', 'ZPOPMAX z', ['ZREMRANGEBYRANK z -1 -1']],
      ['redis 4.0.14', 'ZPOPMAX z 3', ['ZREMRANGEBYRANK z -3 -1']],
      ['redis 4.0.14', 'ZPOPMAX z 0', []],
    ]);
  });

  it('ZADD: GT and LT 6.2, the other options 3.0.2', () => {
    check('redis', [
      ['redis 6.2.14', 'ZADD z GT 1 a', ['ZADD z GT 1 a']],
      ['redis 6.0.9', 'ZADD z 1 a', ['ZADD z 1 a']],
      ['redis 6.0.9', 'ZADD z NX CH 1 a', ['ZADD z NX CH 1 a']],
      ['redis 6.0.9', 'ZADD z GT CH 1 a 2 gt', ['script(z; gt 1 a 2 gt)']],
      ['redis 6.0.9', 'ZADD z XX LT INCR 1 a', ['script(z; xx lt incr 1 a)']],
      ['redis 2.8.17', 'ZADD z NX 1 a', ['script(z; nx 1 a)']],
      ['redis 2.8.17', 'ZADD z CH 1 a', ['ZADD z 1 a']],
    ]);
  });

  it('HSET with several pairs: 4.0', () => {
    check('redis', [
      ['redis 4.0.14', 'HSET h a 1 b 2', ['HSET h a 1 b 2']],
      ['redis 3.2.6', 'HSET h a 1 b 2', ['HMSET h a 1 b 2']],
    ]);
  });

  it('fields that expire: Redis 7.4, HSETEX and HGETDEL 8.0; Valkey 9.0, HGETDEL 9.1', () => {
    const set = 'HSETEX h FXX PXAT 9000 FIELDS 2 a 1 b 2';
    const keep = 'HSETEX h KEEPTTL FIELDS 1 a 1';
    const plain = 'HSETEX h FIELDS 1 PXAT 1';
    check('redis', [
      ['redis 8.0.0', set, [set]],
      ['valkey 9.0.0', set, [set]],
      ['redis 7.4.1', set, ['HSET h a 1 b 2', 'HPEXPIREAT h 9000 FIELDS 2 a b']],
      ['redis 7.4.1', keep, ['script(h; a 1)']],
      ['redis 7.4.1', plain, ['HSET h PXAT 1']],
      ['redis 7.2.4', set, ['HSET h a 1 b 2'], ['expiries']],
      ['valkey 8.1.8', set, ['HSET h a 1 b 2'], ['expiries']],
      ['redis 7.2.4', keep, ['HSET h a 1']],
      ['redis 7.2.4', plain, ['HSET h PXAT 1']],
      ['redis 3.2.6', keep, ['HMSET h a 1']],
      ['redis 7.4.1', 'HPEXPIREAT h 9000 GT FIELDS 1 a', ['HPEXPIREAT h 9000 GT FIELDS 1 a']],
      ['redis 7.2.4', 'HPEXPIREAT h 9000 GT FIELDS 1 a', [], ['expiries']],
      ['valkey 8.1.8', 'HPERSIST h FIELDS 1 a', [], ['expiries']],
    ]);
    check('valkey', [
      ['redis 8.0.0', 'HGETDEL h FIELDS 2 a b', ['HGETDEL h FIELDS 2 a b']],
      ['redis 7.4.1', 'HGETDEL h FIELDS 2 a b', ['HDEL h a b']],
      ['valkey 9.0.0', 'HGETDEL h FIELDS 2 a b', ['HDEL h a b']],
    ]);
  });
});

describe('lowering: streams', () => {
  it('NOMKSTREAM, MINID and CREATECONSUMER: 6.2', () => {
    const add = 'XADD s NOMKSTREAM MINID = 5-1 9-1 f v';
    check('redis', [
      ['redis 8.4.0', add, [add]],
      ['redis 6.2.14', add, ['XADD s NOMKSTREAM MINID = 5-1 9-1 f v']],
      ['redis 6.0.9', add, ['XADD s 9-1 f v', 'script(s; 5-0)']],
      ['redis 6.0.9', 'XADD s MAXLEN = 7 9-1 MINID 5', ['XADD s MAXLEN = 7 9-1 MINID 5']],
      ['redis 6.0.9', 'XADD s MINID 0 9-1 f v', ['XADD s 9-1 f v']],
      ['redis 6.0.9', 'XTRIM s MINID = 5', ['script(s; 4-18446744073709551615)']],
      ['redis 6.0.9', 'XTRIM s MINID 5-18446744073709551615', ['script(s; 5-18446744073709551614)']],
      ['redis 6.0.9', 'XTRIM s MINID 0-0', []],
      ['redis 6.0.9', 'XTRIM s MAXLEN = 5', ['XTRIM s MAXLEN = 5']],
      ['redis 6.2.14', 'XGROUP CREATECONSUMER s g c', ['XGROUP CREATECONSUMER s g c']],
      ['redis 6.0.9', 'XGROUP CREATECONSUMER s g c', ['XREADGROUP GROUP g c COUNT 1 STREAMS s 0']],
      ['redis 6.0.9', 'XGROUP DELCONSUMER s g c', ['XGROUP DELCONSUMER s g c']],
    ]);
  });

  it('counters: 7.0', () => {
    check('redis', [
      [
        'redis 7.0.15',
        'XGROUP CREATE s g 0 MKSTREAM ENTRIESREAD 3',
        ['XGROUP CREATE s g 0 MKSTREAM ENTRIESREAD 3'],
      ],
      [
        'redis 6.2.14',
        'XGROUP CREATE s g 0 MKSTREAM ENTRIESREAD 3',
        ['XGROUP CREATE s g 0 MKSTREAM'],
        ['counters'],
      ],
      ['redis 6.2.14', 'xgroup setid s g 5-1 entriesread 3', ['xgroup setid s g 5-1'], ['counters']],
      ['redis 6.2.14', 'XGROUP SETID s entriesread 5-1', ['XGROUP SETID s entriesread 5-1']],
      ['redis 6.2.14', 'XSETID s 9-9', ['XSETID s 9-9']],
      ['redis 6.2.14', 'XSETID s 9-9 ENTRIESADDED 3 MAXDELETEDID 1-1', ['XSETID s 9-9'], ['counters']],
    ]);
  });

  it('KEEPREF, DELREF, ACKED, XDELEX, XACKDEL: 8.2', () => {
    check('redis', [
      ['redis 8.2.3', 'XDELEX s DELREF IDS 1 1-1', ['XDELEX s DELREF IDS 1 1-1']],
      ['redis 8.0.0', 'XDELEX s IDS 2 1-1 2-1', ['XDEL s 1-1 2-1']],
      ['redis 8.0.0', 'XDELEX s KEEPREF IDS 1 1-1', ['XDEL s 1-1']],
      ['redis 8.0.0', 'XDELEX s DELREF IDS 2 1-1 2-1', ['script(s; delref  1-1 2-1)']],
      ['valkey 9.1.2', 'XDELEX s acked IDS 1 1-1', ['script(s; acked  1-1)']],
      ['redis 8.0.0', 'XACKDEL s g IDS 1 1-1', ['script(s; keepref g 1-1)']],
      ['redis 8.0.0', 'XACKDEL s IDS ACKED IDS 2 1-1 2-1', ['script(s; acked IDS 1-1 2-1)']],
      ['redis 8.0.0', 'XADD s KEEPREF MAXLEN = 3 9-1 f v', ['XADD s MAXLEN = 3 9-1 f v']],
      ['redis 8.0.0', 'XADD s DELREF MAXLEN 3 9-1 f v', ['XADD s MAXLEN 3 9-1 f v'], ['removal']],
      ['redis 8.0.0', 'XADD s ACKED MAXLEN 3 9-1 f v', ['XADD s 9-1 f v'], ['trimming']],
      [
        'redis 6.0.9',
        'XADD s NOMKSTREAM DELREF MINID 3 9-1 f v',
        ['XADD s 9-1 f v', 'script(s; 2-18446744073709551615)'],
        ['removal'],
      ],
      ['redis 8.0.0', 'XTRIM s MAXLEN 3 KEEPREF', ['XTRIM s MAXLEN 3']],
      ['redis 8.0.0', 'XTRIM s MINID 3 DELREF', ['XTRIM s MINID 3'], ['removal']],
      ['redis 8.0.0', 'XTRIM s MAXLEN = 3 ACKED', [], ['trimming']],
    ]);
  });

  it('IDMP: 8.6, by XIDMPRECORD from 8.6.2 on, since no client may send it with an id', () => {
    const add = 'XADD s NOMKSTREAM IDMP pid iid MAXLEN = 3 9-1 f v';
    check('redis', [
      ['redis 8.8.0', add, ['XADD s NOMKSTREAM MAXLEN = 3 9-1 f v', 'XIDMPRECORD s pid iid 9-1']],
      ['redis 8.6.1', add, ['XADD s NOMKSTREAM MAXLEN = 3 9-1 f v'], ['ids']],
      ['redis 6.0.9', add, ['XADD s MAXLEN = 3 9-1 f v'], ['ids']],
      ['redis 8.8.0', 'XADD s IDMPAUTO pid 9-1 f v', ['XADD s 9-1 f v'], ['ids']],
      ['redis 8.6.0', 'XCFGSET s IDMP-DURATION 3', ['XCFGSET s IDMP-DURATION 3']],
      ['redis 8.4.0', 'XCFGSET s IDMP-DURATION 3', [], ['ids']],
      ['redis 8.6.1', 'XIDMPRECORD s pid iid 1-1', [], ['ids']],
      ['redis 8.6.2', 'XIDMPRECORD s pid iid 1-1', ['XIDMPRECORD s pid iid 1-1']],
    ]);
  });

  it('XNACK: 8.8', () => {
    check('redis', [
      ['redis 8.8.0', 'XNACK s g FAIL IDS 1 1-1', ['XNACK s g FAIL IDS 1 1-1']],
      ['redis 8.6.2', 'XNACK s g FAIL IDS 1 1-1', [], ['given-back']],
    ]);
  });
});

describe('lowering', () => {
  it('does nothing between equal releases, and looks at nothing else', () => {
    const level: ReleaseLevel = { family: 'valkey', version: [9, 1, 2] };
    assert.equal(loweringsFor(missingForms(level, level)).size, 0);
    const names = [
      ...loweringsFor(missingForms(NEWEST.redis, { family: 'redis', version: [7, 4, 1] })).keys(),
    ];
    assert.deepEqual(
      names.sort().join(' '),
      'hgetdel hsetex msetex restore restore-asking set xackdel xadd xcfgset xdelex xidmprecord xnack xtrim',
    );
  });

  it('what is cut short goes as it is, or as far as it can; nothing throws', () => {
    const missing = missingForms(NEWEST.redis, { family: 'redis', version: [2, 8, 0] });
    for (const [name, lowering] of loweringsFor(missing)) {
      for (const rest of [
        [],
        ['k'],
        ['k', 'FIELDS'],
        ['k', 'IDS'],
        ['k', 'MAXLEN'],
        ['k', 'x', 'ENTRIESREAD'],
      ]) {
        lowering(
          [name, ...rest].map((word) => Buffer.from(word)),
          { ...CONTEXT, missing },
        );
      }
    }
  });

  it('a script of the source is not taken for one of ours', () => {
    assert.equal(writesOfScript(['EVAL', 'return 1', '0']), null);
    const ours = lowerOne('redis 5.0.10', 'SET k v KEEPTTL');
    assert.equal(writesOfScript(ours), 2);
    assert.equal(writesOfScript(ours.map((word) => Buffer.from(word))), null);
  });
});

function lowerOne(target: Name, command: string): Word[] {
  const missing = missingForms(NEWEST.redis, level(target));
  const words = command.split(' ').map((word) => Buffer.from(word));
  const [first] = loweringsFor(missing).get(command.split(' ')[0]!.toLowerCase())!(words, {
    ...CONTEXT,
    missing,
  });
  return first!;
}
