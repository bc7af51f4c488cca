/** Replies that are walked over: counted, errors picked out, nothing built. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { TargetError } from '../../../src/core/errors.ts';
import { ReplyScanner } from '../../../src/resp/reply-scanner.ts';
import { everySplit } from '../../helpers/every-split.ts';

function scanned(chunks: readonly (Buffer | string)[]): string[] {
  const seen: string[] = [];
  const scanner = new ReplyScanner({
    reply: (line) => seen.push(line === null ? 'ok' : `error ${line}`),
    nestedError: (index, line) => seen.push(`nested ${index} ${line}`),
    nullArray: () => seen.push('null array'),
  });
  for (const chunk of chunks) scanner.push(Buffer.from(chunk as string));
  return seen;
}

describe('replies', () => {
  it('of every kind, at every split', async () => {
    const replies: [string, string[]][] = [
      ['+OK\r\n', ['ok']],
      ['+QUEUED\r\n', ['ok']],
      ['+PONG\r\n', ['ok']],
      ['+\r\n', ['ok']],
      ['+x\r\n', ['ok']],
      ['+OKAY\r\n', ['ok']],
      ['+Q\r\n', ['ok']],
      // what looks like the two commonest replies where only some of their bytes are looked at
      ['+O\n+\n', ['ok', 'ok']],
      ['+OKx\n', ['ok']],
      ['+Q\n+E\r\n:1D\r\n', ['ok', 'ok', 'ok']],
      ['+QxExxDx\n', ['ok']],
      ['+QUEUED\n:\r\n', ['ok', 'ok']],
      [':12\r\n', ['ok']],
      [':-1\r\n', ['ok']],
      ['-ERR what\r\n', ['error ERR what']],
      ['-\r\n', ['error ']],
      ['-OOM grüß\r\n', ['error OOM grüß']],
      ['$-1\r\n', ['ok']],
      ['$0\r\n\r\n', ['ok']],
      ['$9\r\n-ERR\r\n+x\n\r\n', ['ok']],
      ['*-1\r\n', ['null array']],
      ['*0\r\n', ['ok']],
      ['*3\r\n+OK\r\n-WRONGTYPE no\r\n:1\r\n', ['nested 1 WRONGTYPE no', 'ok']],
      ['*2\r\n-ERR a\r\n-ERR b\r\n', ['nested 0 ERR a', 'nested 1 ERR b', 'ok']],
      // errors deeper down are values of a command: EVAL may return one
      ['*3\r\n*2\r\n+OK\r\n-ERR deep\r\n*-1\r\n-ERR c\r\n', ['nested 2 ERR c', 'ok']],
      ['*2\r\n*1\r\n*1\r\n*0\r\n$3\r\nabc\r\n', ['ok']],
    ];
    for (const [text, expected] of replies) assert.deepEqual(scanned([text]), expected, JSON.stringify(text));
    const bytes = Buffer.from(replies.map(([text]) => text).join(''));
    const all = replies.flatMap(([, expected]) => expected);
    await everySplit(bytes, (chunks) => assert.deepEqual(scanned(chunks), all));
    // any reply behind any other
    for (const [first, one] of replies)
      for (const [second, two] of replies) assert.deepEqual(scanned([first + second]), [...one, ...two]);
  });

  it('a value of some MB in pieces', () => {
    const value = Buffer.alloc(3 << 20, '\n-x');
    const bytes = Buffer.concat([
      Buffer.from(`*2\r\n$${value.length}\r\n`),
      value,
      Buffer.from('\r\n-ERR x\r\n+OK\r\n'),
    ]);
    const chunks = Array.from({ length: Math.ceil(bytes.length / 65_536) }, (_, i) =>
      bytes.subarray(i * 65_536, (i + 1) * 65_536),
    );
    assert.deepEqual(scanned(chunks), ['nested 1 ERR x', 'ok', 'ok']);
  });
});

describe('hostile input', () => {
  const refuses = (text: string | Buffer): void =>
    assert.throws(
      () => scanned([text]),
      (error) =>
        error instanceof TargetError && error.code === 'target-protocol' && error.recovery === 'reconnect',
      JSON.stringify(String(text).slice(0, 40)),
    );

  it('is a classed error', () => {
    const bad = [
      'HTTP/1.1 400 Bad Request\r\n',
      '\n',
      '\r\n',
      '$\r\n',
      '$x\r\n',
      '$-2\r\n',
      '$-\r\n',
      '*-2\r\n',
      '*1.5\r\n',
      '*1234567890123456\r\n',
      '%1\r\n',
      '_\r\n',
      '*1\r\n!\r\n',
      '\x15\x03\x01\x00\n',
    ];
    for (const text of bad) refuses(text);
  });

  it('a line without end, an array without bottom', () => {
    refuses(Buffer.alloc(70_000, '-'));
    assert.throws(() => scanned(Array.from({ length: 80 }, () => `-${'e'.repeat(1000)}`)), TargetError);
    refuses('*1\r\n'.repeat(40));
    assert.deepEqual(scanned([`${'*1\r\n'.repeat(32)}+OK\r\n`]), ['ok']);
  });

  it('huge counts take no memory', () => {
    const before = process.memoryUsage().arrayBuffers;
    const chunk = ':1\r\n'.repeat(16_384);
    assert.deepEqual(scanned(['*999999999999999\r\n', ...Array.from({ length: 50 }, () => chunk)]), []);
    assert.deepEqual(scanned(['$999999999999999\r\n', ...Array.from({ length: 50 }, () => chunk)]), []);
    assert.ok(process.memoryUsage().arrayBuffers - before < 64 << 20);
  });

  it('any bytes end in calls, a wait or a classed error, the same at a split', () => {
    const piece = fc.oneof(
      fc.constantFrom('+', '-', '*', '$', '1', '2', '-1', '\r\n', '\r\n', 'OK', 'QUEUED'),
      fc.string({ maxLength: 2 }),
    );
    const outcome = (chunks: readonly string[]): string[] | 'refused' => {
      try {
        return scanned(chunks);
      } catch (error) {
        assert.ok(error instanceof TargetError, String(error));
        return 'refused';
      }
    };
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), fc.nat(40), (pieces, cut) => {
        const text = pieces.join('').replace(/[^\x20-\x7e\r\n]/g, '');
        assert.deepEqual(outcome([text.slice(0, cut), text.slice(cut)]), outcome([text]));
      }),
      { numRuns: 3000 },
    );
  });
});
