/**
 * Acknowledgements and silence. The link's clock (setInterval) is the test's own here: an acknowledgement that
 * comes without a tick was not sent by the clock.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { type FakeSource, fakeSource, type Step } from '../helpers/fake-source.ts';
import { until } from '../helpers/wait.ts';
import { ReadingSink } from './link-reading-sink.ts';
import { fullResync, MARK, REPLID, RecordingSink, runLink, send, UP_TO_PSYNC } from './link-support.ts';

const BEAT_MS = 1_000;
const ACK: Step = { kind: 'expect', name: 'REPLCONF ACK' };

function ownClock(t: TestContext): { beat: () => void } {
  t.mock.timers.enable({ apis: ['setInterval'] });
  return { beat: () => t.mock.timers.tick(BEAT_MS) };
}

/** The offsets acknowledged so far. */
function acks(source: FakeSource): number[] {
  return source.received
    .filter(({ name }) => name === 'REPLCONF ACK')
    .map(({ args }) => {
      assert.equal(args.length, 3, 'no FACK');
      return Number(args[2]);
    });
}

/** What this process has sent to itself by now has arrived after these turns of the loop. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('the first acknowledgement behind a diskless payload', () => {
  it('comes at once, wherever the mark is split, and only then the stream', async (t) => {
    ownClock(t);
    const head = `+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\n`;
    const all = `${head}payload${MARK}`;
    const places = Array.from({ length: MARK.length }, (_, at) => all.length - MARK.length + at);
    const cuts: (readonly number[] | 'every-byte')[] = [
      [],
      [head.length],
      'every-byte',
      ...places.map((at) => [at]),
    ];
    // three reads for one mark: begun glued to the payload, and ended byte by byte
    cuts.push([all.length - 30, all.length - 2, all.length - 1]);
    const source = await fakeSource(
      t,
      ...cuts.map((cut): Step[] => [UP_TO_PSYNC, send(all, cut), ACK, send('stream')]),
    );
    for (let index = 0; index < cuts.length; index++) {
      const sink = new RecordingSink();
      sink.applied = 100;
      const { stop } = runLink(t, source.port, { sink });
      await until(() => sink.length === all.length - head.length + 6, {
        what: `the stream after a cut at ${cuts[index]}`,
      });
      assert.equal(sink.bytes.toString(), `payload${MARK}stream`);
      await stop();
    }
    // on a busy machine the stream may take so long that there is a second one
    assert.ok(acks(source).length >= cuts.length);
    assert.ok(acks(source).every((offset) => offset === 100));
  });

  it('comes again until the stream does: a source whose child has not ended yet takes no notice', async (t) => {
    ownClock(t);
    const head = `+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\n`;
    const source = await fakeSource(t, [
      UP_TO_PSYNC,
      send(`${head}payload${MARK}`),
      ACK,
      ACK,
      ACK,
      send('stream'),
    ]);
    const sink = new RecordingSink();
    runLink(t, source.port, { sink });
    await until(() => sink.bytes.toString() === `payload${MARK}stream`);
  });

  it('comes while the sink still loads what came before, and when TLS or a slow start brings it in pieces', async (t) => {
    ownClock(t);
    const head = `+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\n`;
    // all of it is there before the sink is ready
    const source = await fakeSource(t, [UP_TO_PSYNC, send(`${head}payload${MARK}`), ACK, send('stream')]);
    const sink = new RecordingSink();
    sink.prepare = turns;
    runLink(t, source.port, { sink });
    await until(() => sink.bytes.toString() === `payload${MARK}stream`);
  });

  it('is not sent for a mark inside the payload, nor for one that differs in its last byte', async (t) => {
    ownClock(t);
    const near = `${MARK.slice(0, -1)}!`;
    const source = await fakeSource(t, [
      UP_TO_PSYNC,
      send(`+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\n${MARK}payload${near}`),
    ]);
    const { sink } = runLink(t, source.port);
    await until(() => sink.length === 87);
    await turns();
    assert.deepEqual(acks(source), []);
  });

  it('is not needed behind a payload of known length', async (t) => {
    ownClock(t);
    const source = await fakeSource(t, [UP_TO_PSYNC, send(fullResync('RDB')), send('stream')]);
    const { sink } = runLink(t, source.port);
    await until(() => sink.bytes.toString() === 'RDBstream');
    await turns();
    assert.deepEqual(acks(source), []);
  });
});

describe('acknowledgements', () => {
  it('carry what the sink has applied, each second, and never less than 0', async (t) => {
    const clock = ownClock(t);
    const source = await fakeSource(t, [UP_TO_PSYNC, send(fullResync('RDB'))]);
    const { sink } = runLink(t, source.port);
    await until(() => sink.length === 3);
    for (const [index, applied] of [100, 100, 4_294_967_296_123, 7, -1].entries()) {
      sink.applied = applied;
      clock.beat();
      await until(() => acks(source).length === index + 1);
    }
    assert.deepEqual(acks(source), [100, 100, 4_294_967_296_123, 7, 0]);
  });

  it('go on while the payload pauses, and begin only behind the answer to PSYNC', async (t) => {
    const clock = ownClock(t);
    let answered = (): void => {};
    const held = new Promise<void>((resolve) => {
      answered = resolve;
    });
    const source = await fakeSource(t, [
      UP_TO_PSYNC,
      { kind: 'call', run: () => held },
      send(`+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\nhalf`),
      { kind: 'wait', name: 'REPLCONF ACK' },
      send(' and half'),
    ]);
    const { sink } = runLink(t, source.port);
    await until(() => source.received.at(-1)?.name === 'PSYNC');
    clock.beat();
    await turns();
    assert.deepEqual(acks(source), []);
    answered();
    await until(() => sink.length === 4);
    clock.beat();
    await until(() => sink.bytes.toString() === 'half and half');
  });

  it('answer GETACK at once', async (t) => {
    ownClock(t);
    const rdb = `REDIS0009\u00ff${'\u0000'.repeat(8)}`;
    const getack = '*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n';
    const source = await fakeSource(t, [
      UP_TO_PSYNC,
      send(fullResync(rdb)),
      send(`*1\r\n$4\r\nPING\r\n${getack}`),
      ACK,
      send(getack.repeat(2)),
      ACK,
      ACK,
    ]);
    const sink = new ReadingSink(t);
    const { link } = runLink(t, source.port, { sink });
    sink.ackWanted = () => link.acknowledge();
    await source.finished();
    const behind = 100 + 14 + getack.length;
    assert.deepEqual(acks(source), [behind, behind + getack.length, behind + 2 * getack.length]);
  });

  it('are not sent while there is no link', async (t) => {
    const clock = ownClock(t);
    const source = await fakeSource(t, [UP_TO_PSYNC, send(fullResync('RDB'))]);
    const { link, sink, stop } = runLink(t, source.port);
    link.acknowledge();
    assert.equal(link.connected, false);
    await until(() => sink.length === 3);
    assert.equal(link.connected, true);
    await stop();
    link.acknowledge();
    clock.beat();
    await turns();
    assert.deepEqual(acks(source), []);
    assert.equal(link.connected, false);
  });
});

describe('silence', () => {
  const places: Readonly<Record<string, readonly Step[]>> = {
    'from the first reply on': [{ kind: 'hang' }],
    'upon PSYNC': [UP_TO_PSYNC],
    'behind +FULLRESYNC': [UP_TO_PSYNC, send(`+FULLRESYNC ${REPLID} 100\r\n`)],
    'within the payload': [UP_TO_PSYNC, send(`+FULLRESYNC ${REPLID} 100\r\n$9\r\nhalf`)],
    'within the stream': [UP_TO_PSYNC, send(fullResync('RDB'))],
  };
  for (const [name, script] of Object.entries(places)) {
    it(`${name}: the link is dialled again`, async (t) => {
      const clock = ownClock(t);
      const source = await fakeSource(t, script, [UP_TO_PSYNC, send(fullResync('again'))]);
      const sink = new RecordingSink();
      runLink(t, source.port, { sink, silenceMs: 40 });
      const settled =
        script.length === 1 ? source.finished() : until(() => source.received.at(-1)?.name === 'PSYNC');
      await settled;
      await until(() => {
        clock.beat();
        return sink.interruptions.length > 0;
      });
      assert.equal(sink.interruptions[0]!.code, 'source-silent');
      assert.equal(sink.interruptions[0]!.recovery, 'reconnect');
      await until(() => sink.bytes.toString() === 'again');
    });
  }

  it('is no silence: a keep-alive, or that nobody reads because the target is being prepared', async (t) => {
    const clock = ownClock(t);
    const keepAlives = Array.from({ length: 20 }, (): Step[] => [
      { kind: 'call', run: () => new Promise((resolve) => setTimeout(resolve, 25)) },
      send('\n'),
      { kind: 'call', run: clock.beat },
    ]).flat();
    const source = await fakeSource(t, [UP_TO_PSYNC, ...keepAlives, send(fullResync('RDB'))]);
    const sink = new RecordingSink();
    sink.prepare = async () => {
      const began = Date.now();
      await until(() => Date.now() - began > 450);
      clock.beat();
      await turns();
    };
    runLink(t, source.port, { sink, silenceMs: 300 });
    await until(() => sink.length === 3);
    clock.beat();
    assert.deepEqual(sink.calls, [`full ${REPLID}:100`]);
  });
});
