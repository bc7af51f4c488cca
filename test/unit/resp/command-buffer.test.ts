/** Commands encoded into blocks: the bytes are the same wherever a block ends, and blocks are used again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CommandBuffer } from '../../../src/resp/command-buffer.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';

/** `late`: blocks come back only when asked for. */
function collecting(late = false): { out: CommandBuffer; bytes: () => Buffer; giveBack: () => void } {
  const parts: Buffer[] = [];
  const waiting: (() => void)[] = [];
  const out = new CommandBuffer((block, done) => {
    parts.push(Buffer.from(block));
    const taken = (): void => {
      block.fill(0xee);
      done();
    };
    if (late) waiting.push(taken);
    else taken();
  });
  const giveBack = (): void => {
    for (const taken of waiting.splice(0)) taken();
  };
  const bytes = (): Buffer => {
    out.flush();
    return Buffer.concat(parts);
  };
  return { out, bytes, giveBack };
}

describe('CommandBuffer', () => {
  it('encodes as RESP, at any place in a block', () => {
    const word = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc
        .constantFrom(0, 39, 40, 41, 999, 1000, 262_143, 262_144, 600_000)
        .map((size) => Buffer.alloc(size, 'v')),
    );
    fc.assert(
      fc.property(
        fc.array(fc.array(word, { minLength: 1, maxLength: 4 }), { maxLength: 12 }),
        fc.nat(262_200),
        fc.boolean(),
        (commands, offset, late) => {
          const { out, bytes, giveBack } = collecting(late);
          const filler = Buffer.alloc(offset, 'f');
          out.raw(filler, 0, offset);
          let expected = offset;
          for (const words of commands) {
            out.begin(words.length);
            for (const bulk of words)
              out.bulk(Buffer.concat([Buffer.from('<<'), bulk, Buffer.from('>>')]), 2, 2 + bulk.length);
            expected += encodeCommand(words).length;
            assert.equal(out.totalBytes, expected);
            giveBack();
          }
          assert.ok(bytes().equals(Buffer.concat([filler, ...commands.map(encodeCommand)])));
          assert.equal(out.totalBytes, expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('numbers, also where a block ends', () => {
    const numbers = [0, 9, 10, 99, 100, 999, 1000, 4_102_444_800_123, Number.MAX_SAFE_INTEGER];
    for (let offset = 262_100; offset <= 262_144; offset++) {
      const { out, bytes } = collecting();
      out.raw(Buffer.alloc(offset), 0, offset);
      for (const number of numbers) out.bulkNumber(number);
      out.command('SET', 1, Buffer.from('x'));
      const text = numbers.map((number) => `$${String(number).length}\r\n${number}\r\n`).join('');
      assert.equal(bytes().subarray(offset).toString(), `${text}*3\r\n$3\r\nSET\r\n$1\r\n1\r\n$1\r\nx\r\n`);
    }
  });

  it('flushes nothing where there is nothing', () => {
    let flushed = 0;
    const out = new CommandBuffer(() => flushed++);
    out.flush();
    out.begin(1);
    out.flush();
    out.flush();
    assert.equal(flushed, 1);
  });
});
