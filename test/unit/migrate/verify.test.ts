/** What needs no server of a comparison: equality of values, the list of keys, the throttle. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../../../src/client/reply-error.ts';
import type { ServerSession } from '../../../src/client/session.ts';
import type { BulkConnection } from '../../../src/migrate/verify/bulk-connection.ts';
import { compareKeys } from '../../../src/migrate/verify/compare-keys.ts';
import { registersOf } from '../../../src/migrate/verify/hyperloglog.ts';
import { type Mismatch, mismatchLine, mismatchText } from '../../../src/migrate/verify/mismatches.ts';
import { compareInPieces } from '../../../src/migrate/verify/pieces.ts';
import type { Side, Sides } from '../../../src/migrate/verify/side.ts';
import { Throttle } from '../../../src/migrate/verify/throttle.ts';
import { isSameValue } from '../../../src/migrate/verify/values.ts';
import { Replies, ReplyCollector } from '../../../src/resp/reply-batch.ts';
import { until } from '../../helpers/wait.ts';

const words = (...texts: string[]): Buffer[] => texts.map((text) => Buffer.from(text));

describe('equality of values', () => {
  it('does not depend on the order of what has none', () => {
    assert.equal(isSameValue('set', words('a', 'b'), words('b', 'a')), true);
    assert.equal(isSameValue('set', words('a', 'b'), words('b', 'c')), false);
    assert.equal(isSameValue('set', words('a', 'b'), words('a')), false);
    assert.equal(isSameValue('hash', words('f', '1', 'g', '2'), words('g', '2', 'f', '1')), true);
    assert.equal(isSameValue('hash', words('f', '1', 'g', '2'), words('f', '2', 'g', '1')), false);
    assert.equal(isSameValue('list', words('a', 'b'), words('b', 'a')), false);
  });

  it('takes scores as numbers, and members as they are', () => {
    const score = (text: string, other: string): boolean =>
      isSameValue('zset', words('m', text), words('m', other));
    assert.equal(score('0.1', '0.10000000000000001'), true);
    assert.equal(score('-0', '0'), true);
    assert.equal(score('inf', 'inf'), true);
    assert.equal(score('inf', '-inf'), false);
    assert.equal(score('1', '1.0000000000000002'), false);
    assert.equal(isSameValue('zset', words('1', '5'), words('1.0', '5')), false);
  });

  it('takes payloads of other types without version and checksum', () => {
    const payload = (value: string, footer: string): Buffer => Buffer.from(value + footer.repeat(10));
    assert.equal(isSameValue('ReJSON-RL', payload('x', '1'), payload('x', '2')), true);
    assert.equal(isSameValue('ReJSON-RL', payload('x', '1'), payload('y', '1')), false);
  });

  it('knows the registers of a HyperLogLog in both forms', () => {
    const header = (form: number): Buffer =>
      Buffer.concat([Buffer.from('HYLL'), Buffer.from([form, 0, 0, 0]), Buffer.alloc(8, form)]);
    // 100 zeros in two runs, a run of two registers of 5, and zeros to the end
    const sparse = Buffer.concat([header(1), Buffer.from([63, 35, 0x80 | (4 << 2) | 1, 0x40 | 0x3f, 0x99])]);
    const registers = registersOf(sparse);
    assert.deepEqual(
      [99, 100, 101, 102].map((at) => registers?.[at]),
      [0, 5, 5, 0],
    );
    const dense = Buffer.concat([header(0), Buffer.alloc(12_288)]);
    for (const at of [100, 101]) {
      const bit = at * 6;
      dense.writeUInt16LE(dense.readUInt16LE(16 + (bit >> 3)) | (5 << (bit & 7)), 16 + (bit >> 3));
    }
    assert.equal(isSameValue('string', sparse, dense), true);
    dense[5000] = 1;
    assert.equal(isSameValue('string', sparse, dense), false);
    for (const none of [sparse.subarray(0, -1), dense.subarray(0, -1), header(7), Buffer.from('HYLL')]) {
      assert.equal(registersOf(none), null);
    }
  });
});

/** A connection that answers one request after the other with these bytes. */
function answering(...answers: readonly string[]): BulkConnection {
  const queue = [...answers];
  return {
    ask: (count: number) => {
      if (count === 0) return Promise.resolve(new Replies(Buffer.alloc(0), []));
      const collector = new ReplyCollector();
      assert.equal(collector.push(Buffer.from(queue.shift() ?? '', 'latin1')), null);
      assert.equal(collector.complete, count);
      return Promise.resolve(collector.take(count));
    },
    check: (replies: Replies, at: number, command: string) => {
      const line = replies.error(at);
      if (line !== null) throw new ReplyError(command, 'the server', line);
    },
  } as unknown as BulkConnection;
}

describe('strings read together', () => {
  const keys = words('a', 'b', 'c');
  const heads = `${'+string\r\n:50\r\n:-1\r\n'.repeat(3)}*2\r\n$1\r\n1\r\n$1\r\n1\r\n`;
  const sidesOf = (clusterEnabled: boolean, ...answers: readonly string[]): Sides => {
    const info = { atLeast: () => true, clusterEnabled } as unknown as Side['info'];
    const side = (): Side => ({ connection: answering(heads, ...answers), info, holdsExpiries: false });
    return {
      source: side(),
      target: side(),
      ttlToleranceMs: 0,
      fieldsExpire: false,
      pace: () => Promise.resolve(),
    };
  };

  it('a key that became something else on both sides meanwhile is not taken for equal', async () => {
    // MGET is silent about b, which is a list now, and about c, which is gone
    const sides = sidesOf(
      false,
      '*3\r\n$1\r\nx\r\n$-1\r\n$-1\r\n',
      '-WRONGTYPE Operation against a key holding the wrong kind of value\r\n$-1\r\n',
    );
    const { different } = await compareKeys(sides, keys);
    assert.deepEqual(
      different.map(({ key, kind }) => `${key}: ${kind}`),
      ['b: value'],
    );
  });

  it('in cluster mode one by one: no command may ask for keys of several slots', async () => {
    const sides = sidesOf(true, '$1\r\nx\r\n'.repeat(3));
    assert.deepEqual((await compareKeys(sides, keys)).different, []);
  });
});

describe('the list of keys', () => {
  const found: Mismatch = { db: 0, key: Buffer.from('cart:1'), kind: 'value', type: 'hash' };

  it('names keys that can be typed as they are, others in base64', () => {
    assert.equal(mismatchLine('p', found), '{"pair":"p","db":0,"key":"cart:1","kind":"value","type":"hash"}');
    for (const hostile of ['\x1b]52;c;x\x07', '\u202ea', 'a\n']) {
      const line = mismatchLine('p', { ...found, key: Buffer.from(hostile) });
      assert.equal(Buffer.from(JSON.parse(line).keyBase64, 'base64').toString(), hostile);
    }
    const binary = Buffer.from([0xff]);
    assert.equal(
      JSON.parse(mismatchLine('p', { ...found, key: binary })).keyBase64,
      binary.toString('base64'),
    );
  });

  it('says what became of a repair', () => {
    assert.equal(JSON.parse(mismatchLine('p', { ...found, repaired: true })).repaired, true);
    assert.equal(
      mismatchText({ ...found, repaired: 'OOM\x1b' }),
      'db0 "cart:1" (value, hash): not repaired: OOM\\x1b',
    );
    assert.equal(mismatchText({ ...found, db: null, kind: 'library', type: '' }), '"cart:1" (library)');
  });
});

describe('the throttle', () => {
  it('slows down while the source answers late, and no longer', async () => {
    let answerMs = 30;
    const source = { call: () => delay(answerMs) } as unknown as ServerSession;
    const throttle = new Throttle(source, 20);
    const waits = async (): Promise<boolean> => {
      const began = performance.now();
      await throttle.wait();
      return performance.now() - began > 5;
    };
    await until(waits, { what: 'a pause' });
    const warned = once(process, 'warning').then(([warning]) => String(warning));
    await Promise.all(Array.from({ length: 50 }, () => throttle.wait()));
    assert.equal(await Promise.race([warned, delay(20, 'quiet')]), 'quiet', 'however many wait');
    answerMs = 0;
    await until(async () => !(await waits()), { what: 'no pause' });
    throttle.stop();
  });

  it('is asked before each piece of a large value', async () => {
    const asked: string[] = [];
    /** Both sides: one field. */
    const connection = {
      commands: ([name = '']: readonly string[]) => {
        asked.push(name);
        const walked = '*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n';
        const bytes = Buffer.from(
          name === 'HSCAN' ? walked : name === 'HMGET' ? '*1\r\n$1\r\nb\r\n' : ':1\r\n',
        );
        return Promise.resolve(new Replies(bytes, [bytes.length]));
      },
    } as unknown as BulkConnection;
    const side: Side = { connection, info: {} as Side['info'], holdsExpiries: false };
    let opened = (): void => undefined;
    let waiting = 0;
    const sides: Sides = {
      source: side,
      target: side,
      ttlToleranceMs: 0,
      fieldsExpire: false,
      pace: () =>
        new Promise((resolve) => {
          waiting++;
          opened = resolve;
        }),
    };
    const comparing = compareInPieces(sides, Buffer.from('big'), 'hash', null);
    for (const [turn, before] of [[], ['HLEN', 'HLEN']].entries()) {
      await until(async () => waiting === turn + 1, { what: 'a wait' });
      assert.deepEqual(asked, before);
      opened();
    }
    assert.equal(await comparing, null);
    assert.deepEqual(asked, ['HLEN', 'HLEN', 'HSCAN', 'HMGET']);
  });
});
