/** Where the commands of a stream end, in any pieces; and what is refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SourceError } from '../../../src/core/errors.ts';
import { commandArguments } from '../../../src/resp/arguments.ts';
import { frame, scanArgument, scanCommand } from '../../../src/resp/command-frame.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { everySplit } from '../../helpers/every-split.ts';

interface Found {
  readonly words: readonly string[];
  readonly name: string;
  readonly inline: boolean;
  readonly count: number;
}

/** Frames what arrives as the stream writer does: not before as many bytes are there as were asked for. */
function framed(chunks: readonly Buffer[]): Found[] {
  const found: Found[] = [];
  let rest = Buffer.alloc(0);
  let needed = 0;
  for (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    let pos = 0;
    while (pos < rest.length && rest.length - pos >= needed) {
      const next = scanCommand(rest, pos, rest.length, 0);
      if (next < 0) {
        assert.ok(frame.needed > rest.length - pos, 'asks for more than there is');
        needed = frame.needed;
        break;
      }
      needed = 0;
      const name = rest.toString('latin1', frame.nameStart, frame.nameEnd);
      const { inline, argumentCount } = frame;
      const words = argumentCount === 0 ? [] : commandArguments(rest.subarray(pos, next));
      found.push({ words: words.map((word) => word.toString('latin1')), name, inline, count: argumentCount });
      pos = next;
    }
    rest = rest.subarray(pos);
  }
  assert.equal(rest.length, 0, 'nothing is left');
  return found;
}

const command = (...words: string[]): Buffer =>
  encodeCommand(words.map((word) => Buffer.from(word, 'latin1')));

describe('scanCommand', () => {
  it('finds commands at every split', async () => {
    const commands = [
      ['PING'],
      ['SET', 'key', 'value'],
      ['set', '', ''],
      ['MSET', 'a', '*3\r\n$3\r\n', 'b', '\r\n', '\xff\0', '$-1\r\n'],
      ['RPUSH', 'k', ...Array.from({ length: 12 }, (_, i) => String(i))],
    ];
    const bytes = Buffer.concat([
      ...commands.map((words) => command(...words)),
      Buffer.from('select 15\r\nPING\n\n\r\nset a  b\r\n'),
      command('EXEC'),
    ]);
    const whole = framed([bytes]);
    assert.deepEqual(
      whole.map(({ words }) => words),
      [...commands, ['select', '15'], ['PING'], [], [], ['set', 'a', 'b'], ['EXEC']],
    );
    assert.deepEqual(
      whole.map(({ inline }) => inline),
      [...commands.map(() => false), true, true, true, true, true, false],
    );
    for (const { words, count, name } of whole) {
      assert.equal(count, words.length);
      assert.equal(name, words[0] ?? '');
    }
    await everySplit(bytes, (chunks) => assert.deepEqual(framed(chunks), whole));
  });

  it('any words, cut anywhere', () => {
    const words = fc.array(fc.uint8Array({ maxLength: 20 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(fc.array(words, { minLength: 1, maxLength: 5 }), fc.array(fc.nat(400)), (list, cuts) => {
        const bytes = Buffer.concat(list.map((one) => encodeCommand(one.map((word) => Buffer.from(word)))));
        const places = [0, ...cuts.filter((at) => at < bytes.length).sort((a, b) => a - b), bytes.length];
        const chunks = places.slice(1).map((to, i) => bytes.subarray(places[i]!, to));
        assert.deepEqual(
          framed(chunks).map((one) => one.words),
          list.map((one) => one.map((word) => Buffer.from(word).toString('latin1'))),
        );
      }),
    );
  });

  it('says how much is missing', () => {
    const needed = (text: string): number => {
      assert.equal(scanCommand(Buffer.from(text), 0, text.length, 0), -1);
      return frame.needed;
    };
    assert.equal(needed(''), 1);
    assert.equal(needed('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\nabc'), 13 + 7 + 10 + 3_000_000 + 2);
    assert.equal(needed('*2\r\n$3\r\nGET\r\n'), 14);
    assert.equal(needed('*2\r\n$3\r'), 8);
  });

  it('does not look behind the end that it is given', () => {
    const bytes = command('SET', 'key', 'value');
    for (let end = 0; end < bytes.length; end++) assert.equal(scanCommand(bytes, 0, end, 0), -1, String(end));
    const line = Buffer.from('ping\r\n');
    for (let end = 0; end < line.length; end++) assert.equal(scanCommand(line, 0, end, 0), -1, String(end));
  });
});

describe('hostile input', () => {
  const refusal = (bytes: Buffer | string): SourceError => {
    const buf = Buffer.from(bytes as string);
    try {
      const next = scanCommand(buf, 0, buf.length, 5000);
      assert.fail(`came to ${next}`);
    } catch (error) {
      assert.ok(error instanceof SourceError, String(error));
      assert.equal(error.code, 'stream-garbage');
      assert.equal(error.recovery, 'resync');
      return error;
    }
  };

  it('is named, with its offset', () => {
    const garbage: [string, number][] = [
      ['*-1\r\n', 5001],
      ['*0\r\n', 5000],
      ['*x\r\n', 5001],
      ['*\r\n', 5001],
      ['*2147483649\r\n', 5000],
      ['*1\n$4\r\nPING\r\n', 5002],
      ['*1\rx', 5003],
      ['*1\n', 5002],
      [`*${'9'.repeat(40)}`, 5001],
      ['*1\r\n$-1\r\n', 5005],
      ['*1\r\n$-2\r\n', 5005],
      ['*1\r\n:1\r\n', 5004],
      ['*1\r\n*1\r\n$4\r\nPING\r\n', 5004],
      ['*2\r\n$3\r\nGET\r\n$1099511627777\r\n', 5013],
      [`*1\r\n$${'0'.repeat(50)}`, 5005],
      ['*1\r\n$1025\r\n', 5004],
      ['*1\r\n$4\r\nPINGxx', 5012],
      ['*2\r\n$2\r\nGET\r\n$1\r\nk\r\n', 5010],
      ['\x00\x01', 5000],
      ['+OK\r\n', 5000],
      ['-ERR no\r\n', 5000],
      ['$5\r\n', 5000],
      ['\u00ff', 5000],
    ];
    for (const [text, offset] of garbage) {
      assert.match(refusal(text).message, new RegExp(`at offset ${offset}$`), JSON.stringify(text));
    }
  });

  it('is the same error, wherever the bytes are cut', () => {
    const line = `${'a'.repeat(65_537)}\r\n`;
    for (const text of ['*1x3\r\n', '*\n1\r\n', '*1\r\r\n$1\r\n', '*1\r\n$1\nx\r\n', '*1\r\n$\r\n', line]) {
      const { message } = refusal(text);
      for (let end = Math.max(1, text.length - 50); end <= text.length; end++) {
        let cut: unknown = null;
        try {
          scanCommand(Buffer.from(text), 0, end, 5000);
        } catch (error) {
          cut = error;
        }
        if (cut !== null)
          assert.equal(cut instanceof SourceError && cut.message, message, JSON.stringify(text));
      }
    }
    assert.ok(scanCommand(Buffer.from(line.slice(2)), 0, line.length - 2, 0) > 0, 'the longest line');
  });

  it('an endless line and endless numbers end', () => {
    refusal(Buffer.alloc(70_000, 'a'));
    assert.equal(scanCommand(Buffer.alloc(60_000, 'a'), 0, 60_000, 0), -1);
    refusal(`*1\r\n$${'1'.repeat(70_000)}`);
  });

  it('huge counts and lengths cost nothing', () => {
    const text = '*2147483648\r\n$1\r\nx\r\n$1099511627776\r\n';
    const before = process.memoryUsage().arrayBuffers;
    assert.equal(scanCommand(Buffer.from(text), 0, text.length, 0), -1);
    assert.ok(frame.needed > 2 ** 40);
    assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20);
  });

  it('any bytes come to an end, to a wait or to an error', () => {
    const piece = fc.oneof(
      fc.constantFrom('*', '$', '1', '2', '-', '\r\n', '\n', 'PING', ' '),
      fc.string({ maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const buf = Buffer.from(pieces.join(''), 'latin1');
        try {
          const next = scanCommand(buf, 0, buf.length, 0);
          if (next < 0) assert.ok(frame.needed > buf.length);
          else assert.ok(next > 0 && next <= buf.length);
        } catch (error) {
          assert.ok(error instanceof SourceError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});

it('scanArgument', () => {
  const header = Buffer.from('xx$12\r\n');
  for (let end = 2; end < header.length; end++) assert.equal(scanArgument(header, 2, end, 0), -1);
  assert.equal(scanArgument(header, 2, header.length, 0), 12);
  assert.equal(frame.bodyStart, 7);
  for (const bad of ['x', '$x', '$-1\r\n', '$\r\n', '*1\r\n']) {
    assert.throws(() => scanArgument(Buffer.from(bad), 0, bad.length, 0), SourceError);
  }
});

describe('commandArguments', () => {
  it('takes words of any bytes and size', () => {
    const words = ['SET', '', 'a b\r\n\xff\0', 'x'.repeat(200_000), '$3\r\n'];
    assert.deepEqual(
      commandArguments(command(...words)).map((word) => word.toString('latin1')),
      words,
    );
  });

  it('takes lines', () => {
    for (const line of ['select 5\r\n', 'select  5 \n', 'select 5'])
      assert.deepEqual(commandArguments(Buffer.from(line)).map(String), ['select', '5']);
  });
});
