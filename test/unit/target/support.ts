/** For the tests of this folder: a target that follows a script, and the feed's part of driving a stream writer. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import Parser from 'redis-parser';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { CHECKPOINT_KEY } from '../../../src/target/write/checkpoint.ts';
import { TargetConnection } from '../../../src/target/write/connection.ts';
import type { ReplyVerdict } from '../../../src/target/write/reply-policy.ts';
import { type StreamSettings, StreamWriter } from '../../../src/target/write/stream-writer.ts';
import type { WriteTally } from '../../../src/target/write/write-tally.ts';
import type { Cleanup } from '../../helpers/server.ts';

export const REPLID = 'ab'.repeat(20);

/** A command of the source's stream as bytes; latin1, every byte kept. */
export function command(...words: readonly (string | number)[]): Buffer {
  return encodeCommand(words.map((word) => Buffer.from(String(word), 'latin1')));
}

/** What a command is answered with; undefined: as a server without errors would. */
export type Script = (words: readonly string[]) => string | undefined;

export interface FakeTarget {
  readonly port: number;
  /** Everything received so far over all connections; grows. */
  readonly received: string[][];
  /** Replies to EXEC are kept back while this is true, and with them what comes behind. */
  holdExec: boolean;
  /** Lets the oldest EXEC's reply go, and what is behind it up to the next one. */
  releaseExec(): void;
  readonly sockets: Socket[];
}

/** Listens on loopback until the test ends; MULTI, QUEUED and EXEC as a server has them, everything else is OK. */
export async function fakeTarget(t: Cleanup, script: Script = () => undefined): Promise<FakeTarget> {
  /** In order; the first is the reply to an EXEC. */
  const kept: { readonly isExec: boolean; readonly send: () => void }[] = [];
  const sockets: Socket[] = [];
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    let queued: string[] | null = null;
    const answer = (text: string, isExec = false): void => {
      const send = (): void => {
        socket.write(text);
      };
      if (kept.length > 0 || (isExec && target.holdExec)) kept.push({ isExec, send });
      else send();
    };
    const parser = new Parser({
      returnBuffers: true,
      returnError: () => {},
      returnReply: (reply: unknown) => {
        const words = (reply as Buffer[]).map((word) => word.toString('latin1'));
        const name = words[0]!.toUpperCase();
        target.received.push(words);
        const scripted = script(words);
        if (name === 'MULTI') {
          queued = [];
          answer(scripted ?? '+OK\r\n');
        } else if (name === 'EXEC') {
          answer(scripted ?? `*${queued?.length ?? 0}\r\n${(queued ?? []).join('')}`, true);
          queued = null;
        } else if (queued === null) {
          answer(scripted ?? '+OK\r\n');
        } else if (scripted?.startsWith('queueing ') === true) {
          answer(scripted.slice('queueing '.length));
        } else {
          queued.push(scripted ?? '+OK\r\n');
          answer('+QUEUED\r\n');
        }
      },
    });
    socket.on('data', (chunk) => parser.execute(chunk));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const target: FakeTarget = {
    port: (server.address() as AddressInfo).port,
    received: [],
    holdExec: false,
    releaseExec: () => {
      do kept.shift()?.send();
      while (kept.length > 0 && kept[0]?.isExec === false);
    },
    sockets,
  };
  return target;
}

export async function dial(t: Cleanup, port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  t.after(() => {
    socket.destroy();
  });
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

/** A stream writer with its stream in memory, pumped as the feed does it. */
export class Replay {
  readonly writer: StreamWriter;
  readonly applied: number[] = [];
  /** Offsets as told at each applied(). */
  readonly appliedOffsets: number[] = [];
  /** What is left out, as told. */
  readonly losses: string[] = [];
  readonly skips: string[] = [];
  readonly divergences: { position: number; line: string }[] = [];
  readonly rejections: { position: number; line: string; verdict: ReplyVerdict }[] = [];
  acksWanted = 0;
  lost: Error | null = null;
  /** An error that consume() threw. */
  failure: unknown = null;
  connection: TargetConnection | null = null;
  socket: Socket | null = null;
  #stream = Buffer.alloc(0);

  readonly #tally: WriteTally | undefined;

  constructor(settings: Partial<StreamSettings> = {}) {
    this.#tally = settings.tally;
    this.writer = new StreamWriter(
      {
        relativeTtls: true,
        forwardPublish: false,
        execIsWhole: true,
        run: 'run',
        receivedAt: () => 1_000_000,
        forms: capabilitiesOf({ major: 7, minor: 0 }).forms,
        ...settings,
      },
      {
        applied: (position) => {
          this.applied.push(position);
          this.appliedOffsets.push(this.writer.offsetAt(position));
        },
        ackWanted: () => this.acksWanted++,
        loses: ({ what }) => this.losses.push(what),
        skips: (name, key, position) => this.skips.push(`${name} ${key} ${position}`),
        divergence: (position, line) => this.divergences.push({ position, line }),
        rejected: (position, line, verdict) => {
          this.rejections.push({ position, line, verdict });
          this.connection?.close();
          this.connection = null;
        },
      },
    );
  }

  /** Connects, and begins at `position`, whose offset is `offset`. */
  async attach(t: Cleanup, port: number, position = 0, offset = 1000, db = 0): Promise<void> {
    this.connection?.close();
    this.socket = await dial(t, port);
    const listener = {
      reply: (tag: number, line: string | null) => this.writer.reply(tag, line),
      nestedError: (index: number, line: string) => this.writer.nestedError(index, line),
      progress: () => this.pump(),
      lost: (error: Error) => {
        this.lost = error;
        this.connection = null;
      },
    };
    this.connection = new TargetConnection(this.socket, listener, this.#tally);
    this.writer.attach(this.connection, position, { replid: REPLID, offset, db });
    this.pump();
  }

  get received(): number {
    return this.#stream.length;
  }

  arrive(...chunks: readonly Buffer[]): void {
    for (const chunk of chunks) {
      this.#stream = Buffer.concat([this.#stream, chunk]);
      this.pump();
    }
  }

  pump(): void {
    const { writer } = this;
    if (this.failure !== null) return;
    try {
      while (this.connection !== null) {
        const available = this.#stream.length - writer.position;
        if (available === 0) break;
        // a block's end now and then, as in the spool
        const inBlock = (1 << 20) - (writer.position % (1 << 20));
        const length = Math.min(available, Math.max(writer.want, inBlock));
        const view = Buffer.from(this.#stream.subarray(writer.position, writer.position + length));
        const moved = writer.consume(view);
        view.fill(0xee);
        if (moved) continue;
        if (writer.want <= length || length === available) break;
      }
      if (this.connection !== null) writer.settle();
    } catch (error) {
      this.failure = error;
    }
  }

  /** Everything that arrived is on the target. */
  get complete(): boolean {
    return (
      this.writer.idle &&
      this.writer.position === this.received &&
      (this.applied.at(-1) ?? 0) === this.received
    );
  }
}

/** What arrived as a target would see it: our own commands taken away, each with the database that it ran in. */
export function effective(received: readonly (readonly string[])[]): string[] {
  const seen: string[] = [];
  let db = '?';
  for (const words of received) {
    const name = words[0]!.toUpperCase();
    if (name === 'SELECT') db = words[1]!;
    else if (name === 'MULTI') db = '?';
    else if (name !== 'EXEC' && words[1] !== CHECKPOINT_KEY) seen.push(`${db} ${words.join(' ')}`);
  }
  return seen;
}
