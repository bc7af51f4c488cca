/**
 * What exactly-once costs: the same commands to a real server, once as the stream writer sends them, in transactions
 * that end with the checkpoint, once as they are. In turns; commands per second, medians.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import { frame, scanCommand } from '../../src/resp/command-frame.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import { TargetConnection } from '../../src/target/write/connection.ts';
import { StreamWriter } from '../../src/target/write/stream-writer.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { fixed, median, type Section, spread, thousands } from './figures.ts';
import { asRound } from './round.ts';
import type { Effort } from './turns.ts';

/** At scale 1. */
const COMMANDS = 1_000_000;
const PIECE_BYTES = 1 << 20;

/** `count` SETs of 100 B and INCRs in turn, as a source would send them. */
function commands(count: number): Buffer {
  const value = 'v'.repeat(100);
  const parts: Buffer[] = [];
  for (let i = 0; i < count; i++) {
    parts.push(
      encodeCommand(i % 2 === 0 ? ['SET', `key:${i % 100_000}`, value] : ['INCR', `count:${i % 1000}`]),
    );
  }
  return Buffer.concat(parts);
}

const WAYS = ['plain', 'with checkpoint'] as const;
type Way = (typeof WAYS)[number];

/** Seconds until everything is answered. */
async function time(round: Cleanup, way: Way, stream: Buffer): Promise<number> {
  const server = await testServer(round);
  const socket = connect({ port: server.port, noDelay: true });
  atEnd(round, () => void socket.destroy());
  await once(socket, 'connect');
  const began = performance.now();
  await new Promise<void>((resolve, reject) => {
    let applied = 0;
    const writer = new StreamWriter(
      {
        relativeTtls: false,
        forwardPublish: false,
        execIsWhole: true,
        run: 'bench',
        receivedAt: () => 0,
        forms: new Set(),
      },
      {
        applied: (position) => {
          applied = position;
        },
        ackWanted: () => undefined,
        loses: ({ what }) => reject(new Error(what)),
        skips: (name) => reject(new Error(name)),
        divergence: (_position, line) => reject(new Error(line)),
        rejected: (_position, line) => reject(new Error(line)),
      },
    );
    let at = 0;
    const sendPlain = (): void => {
      while (at < stream.length && !connection.full) {
        const end = Math.min(stream.length, at + PIECE_BYTES);
        let next = at;
        for (let pos = at; pos < end; pos = next) {
          next = scanCommand(stream, pos, stream.length, 0);
          connection.expect(frame.argumentCount);
        }
        connection.out.raw(stream, at, next);
        at = next;
      }
      connection.out.flush();
      if (at === stream.length && connection.unanswered === 0) resolve();
    };
    const sendBatches = (): void => {
      while (writer.position < stream.length) {
        const end = Math.min(stream.length, writer.position + Math.max(writer.want, PIECE_BYTES));
        if (!writer.consume(stream.subarray(writer.position, end))) break;
      }
      writer.settle();
      if (applied === stream.length) resolve();
    };
    const progress = way === 'plain' ? sendPlain : sendBatches;
    const connection = new TargetConnection(socket, {
      reply: (tag, line) => {
        if (way === 'with checkpoint') writer.reply(tag, line);
        else if (line !== null) reject(new Error(line));
      },
      nestedError: (index, line) => writer.nestedError(index, line),
      progress,
      lost: reject,
    });
    if (way === 'with checkpoint') writer.attach(connection, 0, { replid: '0'.repeat(40), offset: 0, db: 0 });
    progress();
  });
  const seconds = (performance.now() - began) / 1000;
  return seconds;
}

/** Commands per second of both ways, and what part of the first the second reaches. */
export async function wrapper({ scale, runs }: Effort): Promise<Section> {
  const count = Math.max(1, Math.round(COMMANDS * scale));
  const stream = commands(count);
  const seconds: Record<Way, number[]> = { plain: [], 'with checkpoint': [] };
  for (let run = 0; run < runs; run++) {
    for (const way of WAYS) seconds[way].push(await asRound((round) => time(round, way, stream)));
  }
  const base = median(seconds.plain);
  return {
    title: 'What exactly-once costs',
    about: `${count} SETs of 100 B and INCRs in turn to one server: as they are, and as feed \`write\` sends them.`,
    columns: ['plain = 1', 'way', 'commands/s', 'seconds', 'from-to'],
    rows: WAYS.map((way) => {
      const middle = median(seconds[way]);
      return [fixed(middle / base), way, thousands(count / middle), fixed(middle), spread(seconds[way])];
    }),
    failures: [],
  };
}
