/** Bytes as a network cuts them: keep-alives, the announcement, payload and stream arrive whole whatever happens. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { everySplit } from '../helpers/every-split.ts';
import { fakeSource, type Step } from '../helpers/fake-source.ts';
import type { Cleanup } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { CAPTURES, captureWire } from './capture.ts';
import { ReadingSink } from './link-reading-sink.ts';
import { fullResync, MARK, REPLID, RecordingSink, runLink, send, UP_TO_PSYNC } from './link-support.ts';

const UP_TO_SYNC: readonly Step[] = [
  {
    kind: 'serve',
    replies: { PING: '+PONG\r\n', REPLCONF: '+OK\r\n', PSYNC: "-ERR unknown command 'PSYNC'\r\n", SYNC: '' },
    until: 'SYNC',
  },
];

/** One link that is sent `chunks` one after the other; resolves with its sink once `length` bytes arrived. */
async function feed(chunks: readonly Buffer[], length: number, before: readonly Step[] = [UP_TO_PSYNC]) {
  const ends: (() => void | Promise<void>)[] = [];
  const cleanup: Cleanup = { after: (end) => ends.push(end) };
  const cuts: number[] = [];
  for (let at = 0; at < chunks.length - 1; at++) cuts.push((cuts.at(-1) ?? 0) + chunks[at]!.length);
  const source = await fakeSource(cleanup, [...before, send(Buffer.concat(chunks), cuts)]);
  const sink = new RecordingSink();
  const arrived = new Promise<void>((resolve) => {
    sink.looked = () => {
      if (sink.length >= length) resolve();
    };
  });
  const { ended } = runLink(cleanup, source.port, { sink });
  const error = await Promise.race([arrived, ended]);
  for (const end of ends.reverse()) await end();
  if (error instanceof Error) throw error;
  return sink;
}

describe('every way to cut what follows PSYNC', { concurrency: true }, () => {
  it('keep-alives before and behind +FULLRESYNC, in both line ends', async () => {
    const stream = '*1\r\n$4\r\nPING\r\n';
    const bytes = Buffer.from(`\n\n+FULLRESYNC ${REPLID} 100\r\n\n\r\n\n$5\r\nRDB\r\n${stream}`);
    await everySplit(bytes, async (chunks) => {
      const sink = await feed(chunks, 5 + stream.length);
      assert.deepEqual(sink.calls.slice(0, 1), [`full ${REPLID}:100`]);
      assert.deepEqual(sink.framing, { kind: 'length', bytes: 5 });
      assert.equal(sink.bytes.toString(), `RDB\r\n${stream}`, 'a newline of the payload is no keep-alive');
    });
  });

  it('+CONTINUE and the stream glued to it', async () => {
    await everySplit(Buffer.from(`\n+CONTINUE ${'ab12'.repeat(10)}\r\n\nPING\r\n`), async (chunks) => {
      const cleanup: (() => void | Promise<void>)[] = [];
      const t: Cleanup = { after: (end) => cleanup.push(end) };
      const cuts = chunks
        .slice(0, -1)
        .map((_, at) => chunks.slice(0, at + 1).reduce((sum, { length }) => sum + length, 0));
      const source = await fakeSource(t, [UP_TO_PSYNC, send(Buffer.concat(chunks), cuts)]);
      const sink = new RecordingSink();
      sink.resume = { replid: REPLID, offset: 7 };
      const arrived = new Promise<void>((resolve) => {
        sink.looked = () => {
          if (sink.length >= 7) resolve();
        };
      });
      const { ended } = runLink(t, source.port, { sink });
      await Promise.race([arrived, ended]);
      for (const end of cleanup.reverse()) await end();
      assert.deepEqual(
        [sink.calls[0], sink.bytes.toString()],
        [`continued ${'ab12'.repeat(10)}`, '\nPING\r\n'],
      );
    });
  });

  for (const [name, options] of Object.entries(CAPTURES)) {
    it(`a capture of a real server: ${name}`, async (t) => {
      const { whole, body } = await captureWire(t, options);
      const before = options.ask === 'SYNC' ? UP_TO_SYNC : undefined;
      await everySplit(whole, async (chunks) => {
        const sink = await feed(chunks, body.length, before);
        assert.equal(sink.bytes.compare(body), 0);
        assert.match(sink.calls[0]!, before === undefined ? /^full [0-9a-f]{40}:\d+$/ : /^full \?$/);
        const inMark = /\$EOF:([0-9a-f]{40})/.exec(whole.toString('latin1'))?.[1];
        if (inMark !== undefined) assert.deepEqual(sink.framing, { kind: 'mark', mark: Buffer.from(inMark) });
      });
    });
  }
});

describe('captures of a real server through spool and RDB reader', { concurrency: true }, () => {
  for (const [name, options] of Object.entries(CAPTURES)) {
    it(name, async (t) => {
      const { whole } = await captureWire(t, options);
      const before = options.ask === 'SYNC' ? UP_TO_SYNC : [UP_TO_PSYNC];
      const source = await fakeSource(t, [...before, send(whole, 'every-byte')]);
      const sink = new ReadingSink(t);
      runLink(t, source.port, { sink });
      await source.finished();
      await until(() => sink.loaded);
      assert.equal(
        sink.framing?.kind,
        options.capabilities.length > 0 && options.diskless ? 'mark' : 'length',
      );
      assert.ok(sink.keys > 0);
      assert.match(sink.position!.replid, /^[0-9a-f]{40}$/, 'SYNC takes it from the AUX fields');
      await until(() => sink.appliedOffset() === sink.receivedOffset);
      const names = new Set(sink.commands.map(([word]) => word!.toUpperCase()));
      for (const command of ['SELECT', 'PING', 'MULTI', 'EXEC', 'SET', 'REPLCONF'])
        assert.ok(names.has(command), `${command} of ${[...names].join()}`);
    });
  }

  it('a value that holds the mark, at every place where a read may end, ends nothing', async (t) => {
    // one string key, the checksum left out (0)
    const value = `x${MARK}y`;
    const rdb = `REDIS0009\u00fe\u0000\u0000\u0001k${String.fromCharCode(value.length)}${value}\u00ff${'\u0000'.repeat(8)}`;
    const all = `+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\n${rdb}${MARK}*1\r\n$4\r\nPING\r\n`;
    const inValue = all.indexOf(`x${MARK}y`) + 1 + MARK.length;
    for (const cuts of [
      [inValue],
      [inValue, inValue + 1],
      [inValue - 1, inValue],
      [],
      [all.lastIndexOf(MARK)],
    ]) {
      const source = await fakeSource(t, [UP_TO_PSYNC, send(all, cuts)]);
      const sink = new ReadingSink(t);
      runLink(t, source.port, { sink });
      await until(() => sink.receivedOffset === 114);
      assert.equal(sink.strings.get('k'), value);
      assert.deepEqual(sink.commands, [['PING']]);
      assert.deepEqual(sink.calls, ['full']);
    }
  });
});

describe('what comes while the sink prepares', { concurrency: true }, () => {
  it('bytes behind the announcement wait, in order, however many', async (t) => {
    const payload = Buffer.alloc(24 << 20);
    for (let at = 0; at < payload.length; at += 4) payload.writeUInt32LE(at, at);
    const head = Buffer.from(`+FULLRESYNC ${REPLID} 100\r\n$${payload.length}\r\n`);
    let sent = false;
    const source = await fakeSource(t, [
      UP_TO_PSYNC,
      send(Buffer.concat([head, payload])),
      {
        kind: 'call',
        run: () => {
          sent = true;
        },
      },
    ]);
    const sink = new RecordingSink();
    sink.prepare = async () => {
      // as many turns of the loop as would do to take all of it in, were it read: it must not be
      for (let turn = 0; turn < 5_000; turn++) await new Promise((resolve) => setImmediate(resolve));
      assert.equal(sent, false, 'all was read into memory');
    };
    const { ended } = runLink(t, source.port, { sink });
    await Promise.race([until(() => sink.length === payload.length), ended]);
    assert.equal(sink.bytes.compare(payload), 0);
  });

  it('a connection that ends meanwhile still delivers what had come', async (t) => {
    const source = await fakeSource(
      t,
      [UP_TO_PSYNC, send(fullResync('RDB')), { kind: 'close' }],
      [UP_TO_PSYNC],
    );
    const sink = new RecordingSink();
    sink.prepare = async () => {
      await source.finished();
      for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    runLink(t, source.port, { sink });
    await until(() => sink.calls.length === 2);
    assert.deepEqual(
      [...sink.calls, sink.bytes.toString()],
      [`full ${REPLID}:100`, 'interrupted source-lost', 'RDB'],
    );
  });

  it('a sink that cannot take a byte ends the link, with its own error', async (t) => {
    for (const pieces of [[], [fullResync('').length]]) {
      const source = await fakeSource(t, [UP_TO_PSYNC, send(fullResync('RDB'), pieces)]);
      const sink = new RecordingSink();
      sink.looked = () => {
        throw new Error('the disk is full');
      };
      const { ended } = runLink(t, source.port, { sink });
      assert.equal((await ended)?.message, 'the disk is full');
    }
  });
});
