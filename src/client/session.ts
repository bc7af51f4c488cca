/**
 * An ordinary connection to one server: questions (INFO, ACL, CLIENT …) and single writes, a reply for each.
 * The only home of ioredis. Not for bulk data: the replication link and the target's writer have their own sockets.
 *
 * ioredis is kept on a short lead: RESP2 (old servers), no offline queue, no reconnection of its own, nothing is
 * ever sent twice. A connection that dropped is dialled again by the next call.
 */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { AbstractConnector, Redis } from 'ioredis';
import { addressOf, type Endpoint } from '../core/endpoint.ts';
import { CutoverError, EXIT, InvariantError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { dial, plainToTlsError, type Role, sideError, socketError, speaksTls } from './dial.ts';
import { ReplyError } from './reply-error.ts';
import { ServerInfo } from './server-info.ts';

export type Argument = string | number | Buffer;
/** A command of several in one write: its name and arguments. */
export type Command = readonly [string, ...Argument[]];

/** A reply with strings as text (UTF-8). Error replies appear only inside arrays (EXEC) and in pipeline(). */
export type Reply = string | number | null | ReplyError | readonly Reply[];
/** The same with strings as the bytes that came. */
export type BufferReply = Buffer | number | null | ReplyError | readonly BufferReply[];

export interface SessionOptions {
  readonly connectTimeoutMs: number;
  /** A connection that is silent this long while a reply is due is given up. Default 60 s: FLUSHALL can take long. */
  readonly replyTimeoutMs?: number;
}

const DEFAULT_REPLY_TIMEOUT_MS = 60_000;
/** Shown in CLIENT LIST, so that an operator, and our own list of clients, can tell us from the applications. */
export const CLIENT_NAME = 'redis-cutover';

/** One live connection and why it ended, if it did. */
interface Connection {
  readonly client: Redis;
  readonly socket: Socket;
  failure: CutoverError | null;
}

export class ServerSession {
  readonly endpoint: Endpoint;
  readonly role: Role;
  readonly #options: SessionOptions;
  #connection: Promise<Connection> | null = null;
  #closed = false;
  #passwordIgnored = false;
  #localAddress: string | null = null;

  private constructor(endpoint: Endpoint, role: Role, options: SessionOptions) {
    this.endpoint = endpoint;
    this.role = role;
    this.#options = options;
  }

  /**
   * Dials, authenticates and names the connection.
   *
   * Throws what dial() throws, and `source-auth` / `target-auth` (exit 4, recovery operator) for missing or wrong
   * credentials, `-refusing` where the server turns clients away (maxclients, protected mode).
   */
  static async open(endpoint: Endpoint, role: Role, options: SessionOptions): Promise<ServerSession> {
    const session = new ServerSession(endpoint, role, options);
    await session.#connected();
    return session;
  }

  /** True where a password was given and the server wants none (protocol.md 1.3: warn, go on). */
  get passwordIgnored(): boolean {
    return this.#passwordIgnored;
  }

  /** The address of this machine that faces the server; null: not told. */
  get localAddress(): string | null {
    return this.#localAddress;
  }

  /** `source 10.0.0.1:6379`: for messages. */
  get where(): string {
    return `${this.role} ${printable(addressOf(this.endpoint))}`;
  }

  /**
   * One command, one reply. Throws ReplyError for an error reply, SourceError/TargetError with recovery `reconnect`
   * when the connection broke: whether the command ran is then unknown, and it is not sent again.
   */
  async call(command: string, ...args: Argument[]): Promise<Reply> {
    return toText(await this.callBuffer(command, ...args));
  }

  /** As call(), strings as bytes. */
  async callBuffer(command: string, ...args: Argument[]): Promise<BufferReply> {
    const connection = await this.#connected();
    return this.#send(connection, command, args);
  }

  /** Commands written back to back, one reply each, an error reply in its place. Throws only when the connection broke. */
  async pipeline(commands: readonly Command[]): Promise<BufferReply[]> {
    const connection = await this.#connected();
    // ioredis makes a write of each command
    connection.socket.cork();
    const sent = commands.map(([command, ...args]) => this.#send(connection, command, args));
    connection.socket.uncork();
    const settled = await Promise.allSettled(sent);
    return settled.map((result) => {
      if (result.status === 'fulfilled') return result.value;
      if (result.reason instanceof ReplyError) return result.reason;
      throw result.reason;
    });
  }

  /**
   * MULTI … EXEC in one write. Returns EXEC's replies; throws the first ReplyError, of queueing or of EXEC itself
   * or inside it (commands of a MULTI are not undone: the others may have run).
   */
  async transaction(commands: readonly Command[]): Promise<readonly BufferReply[]> {
    const replies = await this.pipeline([['MULTI'], ...commands, ['EXEC']]);
    const results = replies.at(-1);
    for (const reply of [...replies.slice(0, -1), ...(Array.isArray(results) ? results : [results])]) {
      if (reply instanceof ReplyError) throw reply;
    }
    if (!Array.isArray(results)) throw new InvariantError('EXEC did not answer with an array');
    return results;
  }

  /** INFO of one section, or the default sections. `everything` is not asked for: some services refuse it. */
  async info(section?: string): Promise<ServerInfo> {
    const reply = await (section === undefined ? this.call('INFO') : this.call('INFO', section));
    return ServerInfo.parse(typeof reply === 'string' ? reply : '');
  }

  /**
   * Drops the connection, and calls without a reply reject: the next call dials, and finds whoever has the address now.
   * By RST where it can be: what was not delivered yet must not be executed behind what the next connection asks for.
   */
  redial(): void {
    const connection = this.#connection;
    this.#connection = null;
    connection?.then(
      ({ client, socket }) => {
        if (this.endpoint.tls === null) socket.resetAndDestroy();
        client.disconnect();
      },
      () => undefined,
    );
  }

  /** Ends the session at once; calls without a reply reject. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    const connection = await this.#connection?.catch(() => null);
    connection?.client.disconnect();
  }

  async #connected(): Promise<Connection> {
    if (this.#closed) throw new InvariantError(`the session with the ${this.where} was used after close()`);
    if (this.#connection !== null) {
      const earlier = this.#connection;
      const connection = await earlier;
      if (connection.failure === null) return connection;
      if (this.#connection === earlier) this.#connection = null;
    }
    // Several calls can arrive here at once: the first one dials, the others share its result.
    this.#connection ??= this.#connect();
    const attempt = this.#connection;
    try {
      return await attempt;
    } catch (error) {
      if (this.#connection === attempt) this.#connection = null;
      throw error;
    }
  }

  async #connect(): Promise<Connection> {
    const { endpoint, role } = this;
    const socket = await dial(endpoint, role, this.#options);
    this.#localAddress = socket.localAddress ?? null;
    const client = new Redis({
      Connector: connectorOf(socket),
      lazyConnect: true,
      protocol: 2,
      enableReadyCheck: false,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      autoResubscribe: false,
      retryStrategy: null,
      maxRetriesPerRequest: null,
      disableClientInfo: true,
      socketTimeout: this.#options.replyTimeoutMs ?? DEFAULT_REPLY_TIMEOUT_MS,
    });
    const connection: Connection = { client, socket, failure: null };
    const fail = (failure: CutoverError): void => {
      connection.failure ??= failure;
    };
    // Registered before ioredis gets the socket, so that the reason is known when it rejects the calls.
    socket.on('error', (error) => fail(socketError(endpoint, role, error)));
    socket.on('close', () => fail(this.#droppedError()));
    // Without a listener ioredis prints errors, arguments included, on the console.
    client.on('error', () => {});
    await client.connect().catch(() => {
      throw connection.failure ?? this.#droppedError();
    });
    try {
      await this.#authenticate(connection);
      await this.#greet(connection);
    } catch (error) {
      client.disconnect();
      // Ended before the first reply: the one case in which the port may want TLS.
      const unexplained =
        endpoint.tls === null && connection.failure !== null && error === connection.failure;
      throw unexplained && (await speaksTls(endpoint)) ? plainToTlsError(endpoint, role) : error;
    }
    return connection;
  }

  async #authenticate(connection: Connection): Promise<void> {
    const { username, password } = this.endpoint;
    if (password === null) return;
    try {
      await this.#authenticateWith(
        connection,
        username === null ? [password.reveal()] : [username, password.reveal()],
      );
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      if (/no password is set|without any password configured/.test(error.reply)) {
        this.#passwordIgnored = true;
        return;
      }
      throw this.#refusalOf(error) ?? this.#authError('wrong user or password');
    }
  }

  /** Servers before 6.0 know no users: AUTH with two words is a wrong number of arguments there. */
  async #authenticateWith(connection: Connection, words: string[]): Promise<void> {
    try {
      await this.#send(connection, 'AUTH', words);
    } catch (error) {
      const tooManyWords = error instanceof ReplyError && /wrong number of arguments/.test(error.reply);
      if (words.length < 2 || !tooManyWords) throw error;
      await this.#send(connection, 'AUTH', words.slice(1));
    }
  }

  /** Names the connection; its reply is also where a server says that it wants a password or no more clients. */
  async #greet(connection: Connection): Promise<void> {
    try {
      await this.#send(connection, 'CLIENT', ['SETNAME', CLIENT_NAME]);
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      const refusal = this.#refusalOf(error);
      if (refusal !== null) throw refusal;
      // Any other error is about the name (not permitted, not known, still loading): nothing depends on it.
    }
  }

  #refusalOf(error: ReplyError): CutoverError | null {
    // Up to 2.6 the answer without AUTH is "ERR operation not permitted" (protocol.md 1.3).
    if (error.prefix === 'NOAUTH' || /^ERR operation not permitted/.test(error.reply)) {
      return this.#authError('a password is needed');
    }
    if (error.prefix === 'DENIED' || /max number of clients/.test(error.reply)) {
      return sideError(this.role, 'refusing', `the ${this.where} turns clients away: ${error.reply}`, {
        hint:
          error.prefix === 'DENIED'
            ? 'the server is in protected mode: set a password on it, or dial it from its own machine'
            : 'raise maxclients: CONFIG SET maxclients N',
        recovery: error.prefix === 'DENIED' ? 'operator' : 'reconnect',
      });
    }
    return null;
  }

  #authError(why: string): CutoverError {
    const variable = this.role === 'source' ? '--src-auth-env NAME' : '--dst-auth-env NAME';
    return sideError(this.role, 'auth', `the ${this.where} refused the login: ${why}`, {
      hint: `give credentials: ${this.role === 'source' ? '--src' : '--dst'} redis://user:password@host:port, ${variable}, REDISCLI_AUTH or --auth-file`,
      recovery: 'operator',
      exitCode: EXIT.auth,
    });
  }

  #droppedError(): CutoverError {
    return sideError(this.role, 'closed', `the ${this.where} closed the connection`, {
      hint: `is the server up? redis-cli -h ${printable(this.endpoint.host)} -p ${this.endpoint.port} ping`,
    });
  }

  /** The one boundary where ioredis errors end: they carry the arguments of the command, AUTH's too. */
  async #send(connection: Connection, command: string, args: readonly Argument[]): Promise<BufferReply> {
    // Upper case keeps ioredis from reshaping replies: its transformers know commands by lower-case name.
    const name = command.toUpperCase();
    try {
      return this.#clean(name, await connection.client.callBuffer(name, ...args));
    } catch (error) {
      if (error instanceof CutoverError) throw error;
      if (isServerReply(error)) throw new ReplyError(name, this.where, error.message);
      throw connection.failure ?? this.#droppedError();
    }
  }

  /** A reply with the error replies inside it (EXEC) made ours. */
  #clean(command: string, value: unknown): BufferReply {
    if (value === null || typeof value === 'number' || Buffer.isBuffer(value)) return value;
    if (Array.isArray(value)) return value.map((item) => this.#clean(command, item));
    if (value instanceof Error) return new ReplyError(command, this.where, value.message);
    throw new InvariantError(`a reply to ${command} of an unknown kind`);
  }
}

/** ioredis is handed a socket that is already connected (and, with TLS, verified): dialling is dial.ts's job. */
function connectorOf(socket: Socket | TLSSocket): new (options: unknown) => AbstractConnector {
  return class extends AbstractConnector {
    constructor() {
      super(0);
    }
    override connect(): Promise<Socket | TLSSocket> {
      this.stream = socket;
      return Promise.resolve(socket);
    }
  };
}

function isServerReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}

function toText(reply: BufferReply): Reply {
  if (Buffer.isBuffer(reply)) return reply.toString();
  return Array.isArray(reply) ? reply.map(toText) : (reply as Reply);
}
