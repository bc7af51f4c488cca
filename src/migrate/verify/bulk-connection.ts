/**
 * A connection for reading a whole server: many commands in one write, their replies as bytes (resp/reply-batch.ts).
 * Several pipelines may be under way at once; they are answered in their order. Opened beside a ServerSession, which has
 * shown that address and credentials are right, and tells more of it where they are not.
 */
import type { Socket } from 'node:net';
import { dial, type Role, sideError, socketError } from '../../client/dial.ts';
import { ReplyError } from '../../client/reply-error.ts';
import { CLIENT_NAME } from '../../client/session.ts';
import { addressOf, type Endpoint } from '../../core/endpoint.ts';
import { EXIT } from '../../core/errors.ts';
import { printable } from '../../core/text.ts';
import { CommandBuffer } from '../../resp/command-buffer.ts';
import type { Arg } from '../../resp/encode.ts';
import { Replies, ReplyCollector } from '../../resp/reply-batch.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** A server that owes a reply and is silent for so long is given up. */
const SILENCE_MS = 60_000;

/** Name and arguments. */
export type BulkCommand = readonly [string, ...Arg[]];

interface Waiting {
  readonly count: number;
  readonly resolve: (replies: Replies) => void;
  readonly reject: (error: unknown) => void;
}

export class BulkConnection {
  readonly role: Role;
  readonly #where: string;
  readonly #socket: Socket;
  readonly #collector = new ReplyCollector();
  readonly #out: CommandBuffer;
  readonly #waiting: Waiting[] = [];
  #flushDue = false;
  #failure: unknown = null;

  private constructor(endpoint: Endpoint, role: Role, socket: Socket) {
    this.role = role;
    this.#where = `${role} ${printable(addressOf(endpoint))}`;
    this.#socket = socket;
    this.#out = new CommandBuffer((block, done) => socket.write(block, done));
    const closed = () =>
      sideError(role, 'closed', `the ${this.#where} closed the connection`, {
        hint: `is the server up? redis-cli -h ${printable(endpoint.host)} -p ${endpoint.port} ping`,
      });
    socket.on('data', (chunk: Buffer) => this.#received(chunk));
    socket.on('error', (error) => this.#fail(socketError(endpoint, role, error)));
    socket.on('close', () => this.#fail(closed()));
    socket.setTimeout(SILENCE_MS, () => {
      if (this.#waiting.length > 0) this.#fail(socketError(endpoint, role, silence()));
    });
  }

  /**
   * Dials, authenticates, and asks the server (7.2) not to count our reads as use of the keys.
   * Throws what dial() throws, and `source-auth` / `target-auth` (exit 4).
   */
  static async open(endpoint: Endpoint, role: Role, signal: AbortSignal): Promise<BulkConnection> {
    const socket = await dial(endpoint, role, { connectTimeoutMs: CONNECT_TIMEOUT_MS, signal });
    const connection = new BulkConnection(endpoint, role, socket);
    try {
      await connection.#greet(endpoint);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /**
   * Sends what `write` puts into the buffer, `count` whole commands, and resolves with their replies. Error replies are
   * among them. Rejects with SourceError or TargetError of recovery `reconnect` where the connection breaks.
   */
  ask(count: number, write: (out: CommandBuffer) => void): Promise<Replies> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (count === 0) return Promise.resolve(new Replies(Buffer.alloc(0), []));
    write(this.#out);
    if (!this.#flushDue) {
      this.#flushDue = true;
      // what everybody asks in this turn goes in one write
      setImmediate(() => {
        this.#flushDue = false;
        this.#out.flush();
      });
    }
    return new Promise((resolve, reject) => this.#waiting.push({ count, resolve, reject }));
  }

  /** A few commands; for the rare ones. Throws ReplyError for the first error reply. */
  async commands(...commands: readonly BulkCommand[]): Promise<Replies> {
    const replies = await this.ask(commands.length, (out) => {
      for (const command of commands) out.command(...command);
    });
    for (const [at, [name]] of commands.entries()) this.check(replies, at, name);
    return replies;
  }

  /** Throws ReplyError where reply `at` is an error. */
  check(replies: Replies, at: number, command: string): void {
    const line = replies.error(at);
    if (line !== null) throw new ReplyError(command, this.#where, line);
  }

  /** Ends the connection; what is still asked rejects. */
  close(): void {
    this.#fail(new DOMException('the connection was closed', 'AbortError'));
  }

  async #greet(endpoint: Endpoint): Promise<void> {
    const { username, password } = endpoint;
    const login = (...words: string[]) => this.ask(1, (out) => out.command('AUTH', ...words));
    if (password !== null) {
      let line = (
        await (username === null ? login(password.reveal()) : login(username, password.reveal()))
      ).error(0);
      // before 6.0 there are no users
      if (username !== null && line !== null && /wrong number of arguments/.test(line)) {
        line = (await login(password.reveal())).error(0);
      }
      if (line !== null && !/no password is set|without any password configured/.test(line)) {
        throw sideError(this.role, 'auth', `the ${this.#where} refused the login: wrong user or password`, {
          hint: 'check user and password of the server',
          recovery: 'operator',
          exitCode: EXIT.auth,
        });
      }
    }
    // refused by old servers and by strict rights: nothing depends on them
    await this.ask(2, (out) => {
      out.command('CLIENT', 'SETNAME', CLIENT_NAME);
      out.command('CLIENT', 'NO-TOUCH', 'ON');
    });
  }

  #received(chunk: Buffer): void {
    const fault = this.#collector.push(chunk);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#collector.complete < next.count) break;
      this.#waiting.shift();
      next.resolve(this.#collector.take(next.count));
    }
    if (fault !== null) {
      this.#fail(
        sideError(this.role, 'protocol', `the ${this.#where} sent something that is no RESP2: ${fault}`, {
          hint: 'is the address a Redis or Valkey port, and TLS on both sides or on none?',
        }),
      );
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#socket.destroy();
  }
}

function silence(): Error {
  return Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' });
}
