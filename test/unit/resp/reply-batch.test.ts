/** Replies kept as bytes: where each ends, whatever the network cuts, and what they say when somebody looks. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Replies, ReplyCollector, ReplyLine } from '../../../src/resp/reply-batch.ts';
import { everySplit } from '../../helpers/every-split.ts';

function collected(chunks: readonly (string | Buffer)[]): Replies {
  const collector = new ReplyCollector();
  for (const chunk of chunks) assert.equal(collector.push(Buffer.from(chunk as string)), null);
  return collector.take(collector.complete);
}

function fault(text: string): string | null {
  return new ReplyCollector().push(Buffer.from(text));
}

describe('replies of a pipeline', () => {
  const cases: [string, unknown][] = [
    ['+OK\r\n', Buffer.from('OK')],
    ['+\r\n', Buffer.from('')],
    [':-12\r\n', -12],
    [':9007199254740991\r\n', Number.MAX_SAFE_INTEGER],
    ['$-1\r\n', null],
    ['$0\r\n\r\n', Buffer.from('')],
    ['$7\r\na\r\n*2\r\n\r\n', Buffer.from('a\r\n*2\r\n')],
    ['*0\r\n', []],
    ['*-1\r\n', null],
    [
      '*3\r\n*2\r\n:1\r\n*0\r\n-ERR deep\r\n$1\r\nx\r\n',
      [[1, []], new ReplyLine('ERR deep'), Buffer.from('x')],
    ],
    ['-WRONGTYPE no\r\n', new ReplyLine('WRONGTYPE no')],
  ];

  it('are found at every split', async () => {
    const bytes = Buffer.from(cases.map(([text]) => text).join(''));
    await everySplit(bytes, (chunks) => {
      const replies = collected(chunks);
      assert.equal(replies.count, cases.length);
      for (const [at, [text, value]] of cases.entries()) {
        assert.deepEqual(replies.value(at), value);
        assert.equal(replies.raw(at).toString(), text);
      }
    });
  });

  it('are handed out in parts, and stay what they were', () => {
    const collector = new ReplyCollector();
    collector.push(Buffer.from(':1\r\n:2\r\n$3\r\nab'));
    const first = collector.take(1);
    collector.push(Buffer.from('c\r\n:4\r\n'));
    const rest = collector.take(3);
    assert.deepEqual(
      [first.value(0), rest.value(0), rest.value(1), rest.value(2)],
      [1, 2, Buffer.from('abc'), 4],
    );
    assert.equal(collector.complete, 0);
  });

  it('larger than any buffer', () => {
    const value = Buffer.alloc(3_000_000, 'large ');
    const bytes = Buffer.concat([
      Buffer.from(`*2\r\n$${value.length}\r\n`),
      value,
      Buffer.from('\r\n:1\r\n'),
    ]);
    const chunks = Array.from({ length: 100 }, (_, at) => bytes.subarray(at * 30_001, (at + 1) * 30_001));
    assert.deepEqual(collected(chunks).value(0), [value, 1]);
  });

  it('answer single questions', () => {
    const replies = collected(['+string\r\n', ':5\r\n', '-ERR no\r\n', '$1\r\n5\r\n', ':5\r\n']);
    assert.equal(replies.line(0), 'string');
    assert.equal(replies.line(1), '');
    assert.equal(replies.integer(1), 5);
    assert.ok(Number.isNaN(replies.integer(3)));
    assert.equal(replies.error(2), 'ERR no');
    assert.equal(replies.error(0), null);
    assert.deepEqual(
      [0, 1].map((at) => collected(['*3\r\n:1\r\n:2\r\n*0\r\n:1\r\n']).elements(at)),
      [3, 0],
    );
    assert.equal(replies.isSame(1, replies, 4), true);
    assert.equal(replies.isSame(1, replies, 3), false);
  });

  it('that are none are told', () => {
    assert.match(fault('HTTP/1.1 400\r\n') ?? '', /begins with byte 72/);
    assert.match(fault('$12x\r\n') ?? '', /bad length/);
    assert.match(fault('$99999999999\r\n') ?? '', /bad length/);
    assert.match(fault('*1\r\n'.repeat(40)) ?? '', /too deeply/);
    assert.match(fault(`+${'x'.repeat(70_000)}`) ?? '', /no end/);
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 5 }), (chunks) => {
        const collector = new ReplyCollector();
        for (const chunk of chunks) if (collector.push(Buffer.from(chunk)) !== null) return;
        const replies = collector.take(collector.complete);
        for (let at = 0; at < replies.count; at++) replies.value(at);
      }),
    );
  });
});
