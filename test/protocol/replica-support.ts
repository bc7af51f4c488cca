/** For the tests of the replica server: a listener that records, bytes to hand out, and a scripted replica. */
import { connect, type Socket } from 'node:net';
import { Secret } from '../../src/core/endpoint.ts';
import type { CutoverError } from '../../src/core/errors.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import type { PsyncRequest } from '../../src/target/attach/replica-dialogue.ts';
import {
  type Pace,
  type PsyncAnswer,
  type ReplicaBytes,
  type ReplicaListener,
  ReplicaServer,
  type ReplicaTls,
} from '../../src/target/attach/replica-server.ts';
import type { Cleanup } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

export const PASSWORD = 'S3cretCanary';
/** Everything goes as it comes. */
export const UNHINDERED: Pace = {
  mayPass: () => true,
  piece: () => Number.POSITIVE_INFINITY,
  passed: () => undefined,
};

/** What the server told its listener: calls by name, in order; `decide` is what it is answered. */
export class RecordingListener implements ReplicaListener {
  /** `attached full`, `detached <reason>`, `reached`, `failed <code>`, in order. */
  readonly calls: string[] = [];
  readonly requests: PsyncRequest[] = [];
  readonly acks: number[] = [];
  lastSent = -1;
  /** Set by the test. */
  decide: (request: PsyncRequest) => PsyncAnswer = () => ({ kind: 'wait' });
  /** Set by the test: called when the target is about to be answered. */
  whenAttached: () => void = () => {};

  answer(request: PsyncRequest): PsyncAnswer {
    this.requests.push(request);
    return this.decide(request);
  }

  attached(answer: PsyncAnswer): void {
    this.calls.push(`attached ${answer.kind}`);
    this.whenAttached();
  }

  acknowledged(offset: number): void {
    this.acks.push(offset);
  }

  sent(position: number): void {
    this.lastSent = position;
  }

  detached(reason: string): void {
    this.calls.push(`detached ${reason}`);
  }

  reached(): void {
    this.calls.push('reached');
  }

  failed(error: CutoverError): void {
    this.calls.push(`failed ${error.code}`);
  }
}

/** Bytes that grow, each view of them overwritten by the next one: as rude as a spool may be. */
export class GrowingBytes implements ReplicaBytes {
  readonly start = 0;
  #all = Buffer.alloc(0);
  readonly #shared = Buffer.alloc(1 << 20);

  get end(): number {
    return this.#all.length;
  }

  add(bytes: string | Buffer): void {
    this.#all = Buffer.concat([this.#all, Buffer.from(bytes as string)]);
  }

  view(pos: number): Buffer {
    this.#shared.fill('#');
    const length = this.#all.copy(this.#shared, 0, pos, Math.min(this.end, pos + this.#shared.length));
    setImmediate(() => this.#shared.fill('#'));
    return this.#shared.subarray(0, length);
  }
}

/** A replica server on a free port of loopback, closed when the test ends. */
export async function runServer(
  t: Cleanup,
  bytes: ReplicaBytes,
  {
    listener = new RecordingListener(),
    username = null,
    tls = null,
    pace = UNHINDERED,
  }: RunServerOptions = {},
): Promise<{ readonly server: ReplicaServer; readonly listener: RecordingListener }> {
  const password = new Secret(PASSWORD);
  const server = await ReplicaServer.listen(
    {
      host: '127.0.0.1',
      port: 0,
      username,
      password,
      tls,
      bytes,
      pace,
      signOfLifeMs: 60_000,
      silenceMs: 60_000,
    },
    listener,
  );
  t.after(() => server.close());
  return { server, listener };
}

interface RunServerOptions {
  readonly listener?: RecordingListener;
  readonly username?: string | null;
  readonly tls?: ReplicaTls | null;
  readonly pace?: Pace;
}

/** A replica of the test's own: says what it is told to, and keeps what comes. */
export class ScriptedReplica {
  readonly socket: Socket;
  ended = false;
  /** How many bytes have come since forget(). */
  length = 0;
  #chunks: Buffer[] = [];

  constructor(t: Cleanup, socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.length += chunk.length;
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.ended = true;
    });
    t.after(() => {
      socket.destroy();
    });
  }

  static to(t: Cleanup, port: number): ScriptedReplica {
    return new ScriptedReplica(t, connect(port, '127.0.0.1'));
  }

  /** What has come since forget(). */
  get received(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  forget(): void {
    this.#chunks = [];
    this.length = 0;
  }

  /** Introduces itself and asks for the history; what has come up to then is forgotten. */
  async ask(replid = '?', offset = -1, capabilities: readonly string[] = ['eof', 'psync2']): Promise<void> {
    this.say(['AUTH', PASSWORD]);
    for (const capability of capabilities) this.say(['REPLCONF', 'capa', capability]);
    await this.hears('+OK\r\n'.repeat(1 + capabilities.length));
    this.forget();
    this.say(['PSYNC', replid, String(offset)]);
  }

  say(words: readonly string[]): void {
    this.socket.write(encodeCommand(words));
  }

  /** Until exactly these bytes have come; throws, with what came instead, where others or not enough do. */
  async hears(bytes: string): Promise<void> {
    await until(() => this.length >= Buffer.byteLength(bytes) || this.ended, {
      what: JSON.stringify(bytes),
    }).catch(() => undefined);
    const text = this.received.toString('latin1');
    if (text !== bytes) throw new Error(`heard ${JSON.stringify(text)} instead of ${JSON.stringify(bytes)}`);
  }

  async hangsUp(): Promise<void> {
    await until(() => this.ended, { what: 'the end of the connection' });
  }
}
