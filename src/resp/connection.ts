/**
 * A small promise client over plain TCP: what the demo and the tests use to fill, write to and compare their
 * own throwaway servers on loopback. The migration itself never uses it (src/client does that, with TLS,
 * credentials and time limits).
 */
import { connect as connectTcp, type Socket } from 'node:net';
import RedisParser from 'redis-parser';
import { SourceError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { type Arg, encodeCommand } from './encode.ts';

/** An error that the server answered with; `message` is the reply without its leading `-`. */
export class ReplyError extends Error {}

/** A RESP2 reply: simple and bulk strings are Buffers; errors are values, inside arrays (EXEC) too. */
export type Reply = Buffer | number | null | ReplyError | Reply[];

export type Command = readonly Arg[];

/** One pipeline that is still short of replies. */
interface Waiting {
  readonly expected: number;
  readonly replies: Reply[];
  readonly resolve: (replies: Reply[]) => void;
  readonly reject: (error: Error) => void;
}

export class RespConnection {
  readonly #socket: Socket;
  readonly #port: number;
  readonly #waiting: Waiting[] = [];
  #broken: Error | null = null;

  private constructor(socket: Socket, port: number) {
    this.#socket = socket;
    this.#port = port;
    const parser = new RedisParser({
      returnBuffers: true,
      returnReply: (reply: unknown) => this.#settle(toReply(reply)),
      returnError: (error: Error) => this.#settle(new ReplyError(error.message)),
      returnFatalError: (error: Error) => this.#fail(connectionLost(port, error)),
    });
    socket.on('data', (chunk: Buffer) => parser.execute(chunk));
    socket.on('error', (error) => this.#fail(connectionLost(port, error)));
    socket.on('close', () => this.#fail(connectionLost(port, undefined)));
  }

  /** Connects to `host:port` (loopback when left out). Throws SourceError `demo-connection`. */
  static connect(port: number, host = '127.0.0.1'): Promise<RespConnection> {
    return new Promise((resolve, reject) => {
      const socket = connectTcp({ port, host, noDelay: true });
      const refused = (error: Error): void => reject(connectionLost(port, error));
      socket.once('error', refused);
      socket.once('connect', () => {
        socket.off('error', refused);
        resolve(new RespConnection(socket, port));
      });
    });
  }

  /** One command, one reply. Throws ReplyError on an error reply, SourceError when the connection is lost. */
  async call(...command: Arg[]): Promise<Reply> {
    const [reply] = await this.pipeline([command]);
    if (reply instanceof ReplyError) throw reply;
    return reply ?? null;
  }

  /** Several commands in one write; error replies are values. Throws SourceError when the connection is lost. */
  pipeline(commands: readonly Command[]): Promise<Reply[]> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    if (commands.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ expected: commands.length, replies: [], resolve, reject });
      this.#socket.write(Buffer.concat(commands.map(encodeCommand)));
    });
  }

  /** Drops the connection; what is still unanswered is rejected. */
  close(): void {
    this.#fail(connectionLost(this.#port, undefined));
  }

  #settle(reply: Reply): void {
    const [waiting] = this.#waiting;
    if (waiting === undefined) return; // an error pushed unasked, before the server closes
    waiting.replies.push(reply);
    if (waiting.replies.length < waiting.expected) return;
    this.#waiting.shift();
    waiting.resolve(waiting.replies);
  }

  #fail(error: Error): void {
    if (this.#broken !== null) return;
    this.#broken = error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#socket.destroy();
  }
}

function connectionLost(port: number, cause: Error | undefined): SourceError {
  const reason = cause === undefined ? 'closed' : printable(cause.message);
  return new SourceError(`connection to the server on port ${port} was lost: ${reason}`, {
    code: 'demo-connection',
    hint: 'check that the server is still running, then start again',
    recovery: 'none',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** redis-parser's own error objects become ours, at any depth. */
function toReply(reply: unknown): Reply {
  if (Array.isArray(reply)) return reply.map(toReply);
  if (reply instanceof Error) return new ReplyError(reply.message);
  return reply as Buffer | number | null;
}
