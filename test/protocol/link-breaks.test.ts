/** Connections that end, at every step, and orders from this side: dial again, stop. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fakeSource, handshake, type Step } from '../helpers/fake-source.ts';
import { until } from '../helpers/wait.ts';
import { fullResync, MARK, REPLID, RecordingSink, runLink, send, UP_TO_PSYNC } from './link-support.ts';

const CLOSE: Step = { kind: 'close' };
const RESET: Step = { kind: 'reset' };
const WORKS: readonly Step[] = [UP_TO_PSYNC, send(fullResync('again'))];

/** Answers up to `name`, which gets no answer. */
function before(name: string): Step {
  return {
    kind: 'serve',
    replies: { AUTH: '+OK\r\n', PING: '+PONG\r\n', REPLCONF: '+OK\r\n', [name]: '' },
    until: name,
  };
}

describe('a connection that ends: dialled again', { concurrency: true }, () => {
  const places: Readonly<Record<string, readonly Step[]>> = {
    'before PING is answered': [before('PING')],
    'before an option is answered': [before('REPLCONF IP-ADDRESS')],
    'within a reply': [before('REPLCONF CAPA'), send('+O')],
    'before PSYNC is answered': [before('PSYNC')],
    'within the keep-alives': [before('PSYNC'), send('\n\n\n')],
    'within +FULLRESYNC': [before('PSYNC'), send(`+FULLRESYNC ${REPLID} 1`)],
    'behind +FULLRESYNC': [before('PSYNC'), send(`+FULLRESYNC ${REPLID} 1\r\n`)],
    'within the announcement': [before('PSYNC'), send(`+FULLRESYNC ${REPLID} 1\r\n$EOF:1234`)],
    'behind the announcement': [before('PSYNC'), send(`+FULLRESYNC ${REPLID} 1\r\n$5\r\n`)],
    'within the payload': [before('PSYNC'), send(`+FULLRESYNC ${REPLID} 1\r\n$5\r\nRD`)],
    'within the mark': [
      before('PSYNC'),
      send(`+FULLRESYNC ${REPLID} 1\r\n$EOF:${MARK}\r\nRDB${MARK.slice(5)}`),
    ],
    'within the stream': [before('PSYNC'), send(`${fullResync('RDB')}*1\r\n$4\r\nPI`)],
    'before SYNC is answered': [
      handshake("-ERR unknown command 'PSYNC'\r\n"),
      { kind: 'expect', name: 'SYNC' },
    ],
  };
  for (const [name, script] of Object.entries(places)) {
    for (const end of [CLOSE, RESET]) {
      it(`${name} (${end.kind})`, async (t) => {
        const source = await fakeSource(t, [...script, end], WORKS);
        // the connection that asks whether the port wants TLS is none of the link's, so a first reply is given here
        const { sink } = runLink(t, source.port, { password: 'pw' });
        await until(() => sink.bytes.toString() === 'again');
        assert.equal(sink.interruptions.length, 1);
        const { code, recovery } = sink.interruptions[0]!;
        assert.ok(code === 'source-lost' || (end === RESET && code === 'source-unreachable'), code);
        assert.equal(recovery, 'reconnect');
        assert.equal(source.connections(), 2);
      });
    }
  }

  it('a very first connection that ends without a word may want TLS: asked once, then dialled again', async (t) => {
    const source = await fakeSource(t, [CLOSE], [CLOSE], WORKS);
    const { sink } = runLink(t, source.port);
    await until(() => sink.bytes.toString() === 'again');
    assert.equal(source.connections(), 3);
    // the second connection is the question; nothing of ours was said on it
    assert.ok(!source.received.some(({ connection, name }) => connection === 1 && name === 'PING'));
  });

  it('a source that is down, and comes back', async (t) => {
    const gone = await fakeSource(t);
    await gone.stop();
    const { sink } = runLink(t, gone.port);
    await until(() => sink.calls.length >= 2);
    assert.deepEqual([...new Set(sink.calls)], ['interrupted source-refused']);
  });

  it('goes on from where the sink then is', async (t) => {
    const source = await fakeSource(
      t,
      [UP_TO_PSYNC, send(fullResync('RDB')), CLOSE],
      [UP_TO_PSYNC, send('+CONTINUE\r\n'), send('stream')],
    );
    const { sink } = runLink(t, source.port);
    await until(() => sink.length === 3);
    sink.resume = { replid: REPLID, offset: 123 };
    await until(() => sink.bytes.toString() === 'RDBstream');
    assert.deepEqual(source.received.findLast(({ name }) => name === 'PSYNC')!.args.map(String), [
      'PSYNC',
      REPLID,
      '124',
    ]);
    assert.deepEqual(sink.calls, [`full ${REPLID}:100`, 'interrupted source-lost', 'continued null']);
  });

  it('full copies that break at once come at growing distances: each costs the source a fork', async (t) => {
    const breaks: Step[] = [UP_TO_PSYNC, send(fullResync('RDB')), CLOSE];
    const source = await fakeSource(t, breaks, breaks, breaks, WORKS);
    const times: number[] = [];
    const sink = new RecordingSink();
    sink.prepare = async () => {
      times.push(performance.now());
    };
    runLink(t, source.port, { sink });
    await until(() => times.length === 4);
    const pauses = times.slice(1).map((time, index) => time - times[index]!);
    // 100, 300 and 1000 ms; a timer never fires early by more than a rounding
    assert.ok(pauses[1]! >= 290 && pauses[2]! >= 990, pauses.join());
  });
});

describe('orders from this side', { concurrency: true }, () => {
  const places: Readonly<Record<string, readonly Step[]>> = {
    'while a reply is awaited': [before('PING')],
    'while PSYNC waits': [before('PSYNC'), send('\n')],
    'within the payload': [before('PSYNC'), send(`+FULLRESYNC ${REPLID} 1\r\n$5\r\nRD`)],
    'within the stream': [before('PSYNC'), send(fullResync('RDB'))],
  };
  for (const [name, script] of Object.entries(places)) {
    it(`stop ${name}: run() ends, and nothing is dialled`, async (t) => {
      const source = await fakeSource(t, script);
      const { sink, stop } = runLink(t, source.port);
      await source.finished();
      assert.equal(await stop(), null);
      assert.equal(sink.interruptions.length, 0);
      assert.equal(source.connections(), 1);
    });
  }

  it('stop before the connection stands, while the sink thinks, and while it waits to dial again', async (t) => {
    const source = await fakeSource(t, [UP_TO_PSYNC]);
    assert.equal(await runLink(t, source.port).stop(), null);

    const sink = new RecordingSink();
    let asked = (): void => {};
    const wasAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    let answer = (): void => {};
    sink.resumePosition = () =>
      new Promise((resolve) => {
        asked();
        answer = () => resolve(null);
      });
    const thinking = runLink(t, source.port, { sink });
    await wasAsked;
    const stopped = thinking.stop();
    answer();
    assert.equal(await stopped, null);

    const gone = await fakeSource(t);
    await gone.stop();
    const down = runLink(t, gone.port);
    await until(() => down.sink.interruptions.length >= 4);
    // the pause before the next attempt, 2 s, is not waited for; a busy machine holds both up
    assert.equal(await Promise.race([down.stop(), delay(1_500, 'late', { ref: false })]), null);
  });

  it('redial: what had been asked for before it is not asked for afterwards, wherever the link was', async (t) => {
    // the position changes, and redial() is called, while the connection is being made
    const source = await fakeSource(
      t,
      [UP_TO_PSYNC, send('+CONTINUE\r\nstream')],
      [UP_TO_PSYNC, send('+CONTINUE\r\nstream')],
    );
    const sink = new RecordingSink();
    sink.resume = { replid: REPLID, offset: 500 };
    const { link } = runLink(t, source.port, { sink });
    await Promise.resolve(); // resumePosition() has been answered; the name is being looked up
    sink.resume = { replid: REPLID, offset: 200 };
    link.redial();
    await until(() => sink.length === 6);
    const asked = source.received.filter(({ name }) => name === 'PSYNC').map(({ args }) => String(args[2]));
    assert.deepEqual(asked, ['201']);
  });

  it('redial while the sink prepares: what had come and waits is dropped', async (t) => {
    const source = await fakeSource(
      t,
      [UP_TO_PSYNC, send(fullResync('late'))],
      [UP_TO_PSYNC, send('+CONTINUE\r\nstream')],
    );
    const sink = new RecordingSink();
    sink.prepare = async () => {
      await source.finished();
      sink.resume = { replid: REPLID, offset: 100 };
      link.redial();
    };
    const { link } = runLink(t, source.port, { sink });
    await until(() => sink.calls.length === 3);
    await until(() => sink.bytes.toString() === 'stream');
  });

  it('redial within the stream: no byte of the old connection comes behind it', async (t) => {
    const source = await fakeSource(
      t,
      [UP_TO_PSYNC, send(fullResync('RDB')), { kind: 'wait', name: 'REPLCONF ACK' }, send('late')],
      [UP_TO_PSYNC, send('+CONTINUE\r\nstream')],
    );
    const { link, sink } = runLink(t, source.port);
    await until(() => sink.length === 3);
    sink.resume = { replid: REPLID, offset: 100 };
    link.acknowledge();
    link.redial();
    await until(() => sink.bytes.toString() === 'RDBstream');
    assert.deepEqual(sink.calls, [`full ${REPLID}:100`, 'interrupted source-lost', 'continued null']);
  });
});
