/**
 * The replica server of feed `attach`: a port on which we pose as the master of one target. The target is told
 * REPLICAOF <us>; what it is handed are bytes that lie in the spool, as the source sent them, so that it ends up with
 * the source's own replication id and offsets (protocol.md 5.4).
 *
 * Who decides: the feed, through ReplicaListener. What a replica says is read in replica-dialogue.ts. Here are the
 * sockets: who may come in, the one target that is served, and the sending. In the stream not one byte is injected:
 * the target counts them all.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { addressOf } from '../../core/endpoint.ts';
import {
  assertNever,
  type CutoverError,
  TargetError,
  toCutoverError,
  UsageError,
} from '../../core/errors.ts';
import { printable } from '../../core/text.ts';
import {
  type DialogueStep,
  type PsyncRequest,
  type ReplicaCredentials,
  ReplicaDialogue,
} from './replica-dialogue.ts';

/** What the replica server reads from: positions as in the spool (0 = first byte of the RDB payload). */
export interface ReplicaBytes {
  readonly start: number;
  readonly end: number;
  /** Contiguous bytes from `pos` on, at least `want` where there are as many. They are copied at once. */
  view(pos: number, want: number): Buffer;
}

/** What is answered to a PSYNC. */
export type PsyncAnswer =
  /** Nothing to hand out yet: the target gets a newline each second, and the question is put again at pump(). */
  | { readonly kind: 'wait' }
  /** The history from `position` on; the target hears the id where it can (from 4.0 on). */
  | { readonly kind: 'continue'; readonly replid: string; readonly position: number }
  /** A full copy, from position 0 on. To be given once the payload's first byte is there. */
  | {
      readonly kind: 'full';
      readonly replid: string;
      readonly offset: number;
      readonly framing:
        | { readonly kind: 'length'; readonly bytes: number }
        | { readonly kind: 'mark'; readonly mark: Buffer };
    };

/** Who decides what the target gets, and hears how it fares. May call the server back from within. */
export interface ReplicaListener {
  /** Pure: may be asked any number of times. */
  answer(request: PsyncRequest): PsyncAnswer;
  /** The target is about to be given this answer: its first byte has not been sent. */
  attached(answer: PsyncAnswer): void;
  /** REPLCONF ACK: the offset that the target has applied. Each second once it has loaded. */
  acknowledged(offset: number): void;
  /** Bytes before this position have been handed to the system for this connection, and are not read again for it. */
  sent(position: number): void;
  /** A connection that was attached() has ended; the target dials again by itself. */
  detached(reason: string): void;
  /** A target gave the right password and went on: it reaches us. Once for each connection. */
  reached(): void;
  /** Nothing can be handed on any more (bytes that cannot be read, a bug): the server has closed itself. */
  failed(error: CutoverError): void;
}

/** Contents of PEM files. With `ca`, only targets that show a certificate of that authority are let in. */
export interface ReplicaTls {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | null;
}

/** How fast bytes may go to the target. */
export interface Pace {
  /** False: nothing may go now; the server is pumped as soon as something may. */
  mayPass(): boolean;
  /** So many bytes may go at once. */
  piece(): number;
  /** This many bytes have gone. */
  passed(bytes: number): void;
}

export interface ReplicaServerSettings extends ReplicaCredentials {
  /** The address to listen on. */
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly tls: ReplicaTls | null;
  readonly bytes: ReplicaBytes;
  readonly pace: Pace;
  /**
   * While nothing may go a byte goes all the same, this often, as long as there is one: a replica takes a master that is
   * silent for `repl-timeout` for dead, also in the middle of a payload, and nothing else may be put into either.
   */
  readonly signOfLifeMs: number;
  /** A target that has loaded and acknowledges nothing for this long is cut off: it dials again, and loses nothing. */
  readonly silenceMs: number;
}

/** From the first byte to PSYNC; real replicas take milliseconds. */
const HANDSHAKE_LIMIT_MS = 10_000;
/** Beyond this the oldest one goes: strangers that hold connections open cannot keep the target out. */
const MOST_NEWCOMERS = 8;
/** Answers that a stranger has not fetched: beyond this it is no replica. */
const MOST_UNREAD_ANSWERS = 64 * 1024;
/** As masters do while a replica waits for its copy. */
const KEEP_ALIVE_MS = 1000;
/** What is sent in one write: as much as the spool hands out at once. */
const BLOCK_BYTES = 1 << 20;

/** The connection that asked for the history. */
interface Target {
  readonly socket: Socket;
  readonly request: PsyncRequest;
  readonly takesMark: boolean;
  readonly takesReplid: boolean;
  /** null: it waits. */
  answer: Exclude<PsyncAnswer, { kind: 'wait' }> | null;
  /** Of the next byte to send. */
  position: number;
  /** True once the payload is known to be loaded, so that its end cannot be missed any more. */
  loaded: boolean;
  /** When it last acknowledged something; null: it loads, and says nothing meanwhile (its own repl-timeout watches). */
  heardAt: number | null;
  /** True while the system has not taken the last write yet. */
  writing: boolean;
  /** When it was last sent something. */
  sentAt: number;
  /**
   * What is being written. A copy: a view into the spool may be overwritten by what comes next from the source, and
   * the socket may keep its bytes for long.
   */
  readonly block: Buffer;
}

export class ReplicaServer {
  readonly #settings: ReplicaServerSettings;
  readonly #listener: ReplicaListener;
  readonly #server: Server;
  readonly #keepAlive: NodeJS.Timeout;
  /** Every open connection, as TCP has it: of TLS those, too, that have not shaken hands. */
  readonly #sockets = new Set<Socket>();
  /** Those that have not asked for the history yet, the oldest first. */
  readonly #newcomers = new Set<Socket>();
  #target: Target | null = null;
  #hold: number | null = null;
  #payloadEnd: number | null = null;

  private constructor(settings: ReplicaServerSettings, listener: ReplicaListener) {
    this.#settings = settings;
    this.#listener = listener;
    this.#server = openServer(settings, (socket) => this.#accept(socket));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#keepAlive = setInterval(() => this.#beat(), KEEP_ALIVE_MS);
  }

  /**
   * Opens the port.
   * @throws UsageError `listen` where the address cannot be used, `listen-tls` where the certificate cannot
   */
  static async listen(settings: ReplicaServerSettings, listener: ReplicaListener): Promise<ReplicaServer> {
    const replicaServer = new ReplicaServer(settings, listener);
    const server = replicaServer.#server;
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(settings.port, settings.host, () => {
          server.off('error', reject);
          resolve();
        });
      });
    } catch (cause) {
      clearInterval(replicaServer.#keepAlive);
      throw listenError(settings, cause);
    }
    // Later errors are of single connections that could not be accepted (no more file descriptors): they come again
    server.on('error', () => undefined);
    return replicaServer;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : this.#settings.port;
  }

  /** True while a target is served that was answered with `continue` or `full`. */
  get connected(): boolean {
    return this.#target !== null && this.#target.answer !== null;
  }

  /** Position behind the last byte that was given to the target's socket, never above holdAt(); -1: none is served. */
  get sentPosition(): number {
    return this.#target !== null && this.#target.answer !== null ? this.#target.position : -1;
  }

  /** The host that the target dials from; null: none is served. */
  get peerAddress(): string | null {
    if (!this.connected) return null;
    return this.#target?.socket.remoteAddress?.replace(/^::ffff:(?=\d+\.)/, '') ?? null;
  }

  /** Bytes have come, or answer() may say something else now: sends what can be sent. Never waits, never throws. */
  pump(): void {
    this.#guard(() => {
      const target = this.#target;
      if (target === null) return;
      if (target.answer === null) this.#answer(target);
      this.#send(target);
    });
  }

  /**
   * Sends nothing at or behind this position until it is raised; null: no limit. What has been sent stays sent: see
   * sentPosition. Behind a `full` answer with a mark, null holds everything back until payloadEnd() is known: let it
   * follow the payload as it is parsed, never beyond the parsed part.
   */
  holdAt(position: number | null): void {
    this.#hold = position;
    this.pump();
  }

  /**
   * The position behind the payload, its mark included; null: not known (a new copy begins). Needed for payloads that
   * end with a mark: the target finds it at the end of what it has read, so nothing may follow before its first
   * acknowledgement (protocol.md 5.4).
   */
  payloadEnd(position: number | null): void {
    this.#payloadEnd = position;
    this.pump();
  }

  /**
   * Closes the connection of the target that is served; it dials again by itself, within seconds. detached() is called
   * before this returns. A target that still waits for its answer is left waiting: it was told nothing yet.
   */
  disconnect(reason: string): void {
    if (this.#target !== null && this.#target.answer !== null) this.#drop(this.#target, reason);
  }

  /** Closes all connections and the port; detached() is not called. May be called twice. */
  async close(): Promise<void> {
    clearInterval(this.#keepAlive);
    this.#target = null;
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket): void {
    const dialogue = new ReplicaDialogue(this.#settings);
    const limit = setTimeout(() => this.#newcomers.has(socket) && socket.destroy(), HANDSHAKE_LIMIT_MS);
    let reason = 'it closed the connection';
    this.#newcomers.add(socket);
    if (this.#newcomers.size > MOST_NEWCOMERS) {
      const [oldest] = this.#newcomers;
      oldest?.destroy();
    }
    socket.on('data', (chunk: Buffer) =>
      this.#guard(() => {
        for (const step of dialogue.take(chunk)) {
          if (socket.destroyed) return;
          this.#step(socket, step);
        }
      }),
    );
    socket.on('error', (error: NodeJS.ErrnoException) => {
      reason = `the connection broke: ${printable(error.code ?? error.message)}`;
    });
    socket.on('close', () =>
      this.#guard(() => {
        clearTimeout(limit);
        this.#newcomers.delete(socket);
        if (this.#target?.socket === socket) this.#drop(this.#target, reason);
      }),
    );
  }

  #step(socket: Socket, step: DialogueStep): void {
    switch (step.kind) {
      case 'reply':
        socket.write(`${step.line}\r\n`);
        if (socket.writableLength > MOST_UNREAD_ANSWERS) socket.destroy();
        return;
      case 'reached':
        this.#listener.reached();
        return;
      case 'psync': {
        const { request, takesMark, takesReplid } = step;
        this.#serve(socket, request, takesMark, takesReplid);
        return;
      }
      case 'acknowledged':
        this.#acknowledged(socket, step.offset);
        return;
      case 'hang-up':
        // The stranger has until its time limit to read this and to close, too
        if (step.line !== null) socket.end(`${step.line}\r\n`);
        else if (this.#target?.socket === socket) this.#drop(this.#target, 'it sent what no replica sends');
        return;
      default:
        assertNever(step);
    }
  }

  /** There is one target: who asks last is served, as the connection before it may be dead without our knowing. */
  #serve(socket: Socket, request: PsyncRequest, takesMark: boolean, takesReplid: boolean): void {
    this.#newcomers.delete(socket);
    if (this.#target !== null) this.#drop(this.#target, 'it has connected anew');
    this.#target = {
      socket,
      request,
      takesMark,
      takesReplid,
      answer: null,
      position: 0,
      loaded: false,
      heardAt: null,
      writing: false,
      sentAt: Date.now(),
      block: Buffer.allocUnsafeSlow(BLOCK_BYTES),
    };
    this.pump();
  }

  #answer(target: Target): void {
    const answer = this.#listener.answer(target.request);
    if (answer.kind === 'wait') return;
    if (answer.kind === 'full' && answer.framing.kind === 'mark' && !target.takesMark) throw noMark();
    target.answer = answer;
    target.position = answer.kind === 'continue' ? answer.position : 0;
    target.loaded = answer.kind === 'continue' || answer.framing.kind === 'length';
    if (answer.kind === 'continue') target.heardAt = Date.now();
    // The listener may call back, and nothing may go before these lines
    target.writing = true;
    this.#listener.attached(answer);
    target.writing = false;
    if (this.#target === target) target.socket.write(answerLines(answer, target.takesReplid));
  }

  /** One write at a time: the next one follows when the system has taken it. */
  #send(target: Target): void {
    const { pace } = this.#settings;
    if (!this.#canSend(target) || !pace.mayPass()) return;
    this.#write(target, pace.piece());
  }

  /** True where there is something to send, and the last write is done. */
  #canSend(target: Target): boolean {
    if (this.#target !== target || target.answer === null || target.writing) return false;
    return this.#sendable(target) > target.position;
  }

  #write(target: Target, most: number): void {
    const length = Math.min(this.#sendable(target) - target.position, most);
    const view = this.#settings.bytes.view(target.position, 1);
    const bytes = target.block.subarray(0, view.copy(target.block, 0, 0, Math.min(view.length, length)));
    target.position += bytes.length;
    target.sentAt = Date.now();
    this.#settings.pace.passed(bytes.length);
    target.writing = true;
    const { position } = target;
    target.socket.write(bytes, (error) => {
      // an error is told by 'close', too
      if (error) return;
      this.#guard(() => {
        target.writing = false;
        if (this.#target === target) this.#listener.sent(position);
        this.#send(target);
      });
    });
  }

  /** The position up to which bytes may be sent. */
  #sendable(target: Target): number {
    const hold = this.#hold ?? Number.POSITIVE_INFINITY;
    const confirmed = target.loaded ? Number.POSITIVE_INFINITY : (this.#payloadEnd ?? this.#hold ?? 0);
    return Math.min(this.#settings.bytes.end, hold, confirmed);
  }

  #acknowledged(socket: Socket, offset: number): void {
    const target = this.#target;
    if (target === null || target.socket !== socket || target.answer === null) return;
    target.heardAt = Date.now();
    if (this.#payloadEnd !== null && target.position >= this.#payloadEnd) target.loaded = true;
    this.#listener.acknowledged(offset);
    this.#send(target);
  }

  #drop(target: Target, reason: string): void {
    this.#target = null;
    target.socket.destroy();
    if (target.answer !== null) this.#listener.detached(reason);
  }

  #beat(): void {
    this.pump();
    const target = this.#target;
    if (target === null) return;
    if (target.answer === null) target.socket.write('\n');
    const { silenceMs, signOfLifeMs } = this.#settings;
    if (Date.now() - target.sentAt >= signOfLifeMs && this.#canSend(target)) this.#write(target, 1);
    // of a host that died, or a network that drops packets, nothing else is heard
    if (target.heardAt !== null && Date.now() - target.heardAt > silenceMs)
      this.#drop(target, `it has acknowledged nothing for ${silenceMs / 1000} s`);
  }

  /** Sockets have nobody to throw to. */
  #guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      void this.close();
      this.#listener.failed(toCutoverError(error));
    }
  }
}

function answerLines(answer: NonNullable<Target['answer']>, takesReplid: boolean): string {
  if (answer.kind === 'continue') return takesReplid ? `+CONTINUE ${answer.replid}\r\n` : '+CONTINUE\r\n';
  const { replid, offset, framing } = answer;
  const announced =
    framing.kind === 'length' ? String(framing.bytes) : `EOF:${framing.mark.toString('latin1')}`;
  return `+FULLRESYNC ${replid} ${offset}\r\n$${announced}\r\n`;
}

/** @throws UsageError `listen-tls` */
function openServer(settings: ReplicaServerSettings, accept: (socket: Socket) => void): Server {
  const options = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 15_000 };
  const { tls } = settings;
  if (tls === null) return createServer(options, accept);
  const { cert, key, ca } = tls;
  const authority = ca === null ? {} : { ca, requestCert: true, rejectUnauthorized: true };
  try {
    const secured = { ...options, cert, key, ...authority, handshakeTimeout: HANDSHAKE_LIMIT_MS };
    return createTlsServer(secured, accept);
  } catch (cause) {
    throw new UsageError('the certificate or the key for the port that the target dials cannot be used', {
      code: 'listen-tls',
      hint: 'check that both are PEM files and belong together: openssl x509 -in CERT -noout -text',
      cause,
    });
  }
}

function listenError(settings: ReplicaServerSettings, cause: unknown): UsageError {
  const address = printable(addressOf(settings));
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
  const hints: Readonly<Record<string, string>> = {
    EADDRINUSE: `another program listens there: ss -ltnp 'sport = :${settings.port}', or take another port with --listen HOST:PORT`,
    EADDRNOTAVAIL: 'this machine has no such address (ip addr): give one that it has with --listen HOST:PORT',
    EACCES: 'ports below 1024 need rights: take a higher one with --listen HOST:PORT',
  };
  return new UsageError(`the port for the target cannot be opened at ${address}: ${printable(code)}`, {
    code: 'listen',
    hint: hints[code] ?? 'give an address of this machine and a free port with --listen HOST:PORT',
    cause,
  });
}

function noMark(): TargetError {
  return new TargetError('the target is too old for a snapshot that the source sends without its length', {
    code: 'target-no-mark',
    hint: 'use --feed write, or on the source: CONFIG SET repl-diskless-sync no',
  });
}
