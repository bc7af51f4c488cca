/**
 * The socket of the replication link, read in two ways: first by lines (handshake, preamble), then poured as raw
 * bytes into whoever takes them, without a copy where the socket is plain TCP.
 */
import type { Socket } from 'node:net';
import { dial, looksLikeTls, plainToTlsError, socketError } from '../client/dial.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { SourceError } from '../core/errors.ts';

/** Takes raw bytes; see spool.ts for the two ways in. */
export interface ByteTaker {
  reserve(): Buffer;
  commit(length: number): void;
  append(chunk: Buffer): void;
}

const LINE_BUFFER_BYTES = 16 * 1024;
/** Behind a read of so many bytes the socket rests. */
const REST_FROM = 8 * 1024;
const REST_TO = 64 * 1024;
const REST_MS = 1;
const LONGEST_LINE = 8 * 1024;
/** What is kept here while nobody reads; the kernel's buffers come on top. */
const MOST_UNREAD = 1 << 20;

export class Wire {
  readonly #endpoint: Endpoint;
  #socket: Socket | null = null;
  readonly #lineBuffer = Buffer.allocUnsafeSlow(LINE_BUFFER_BYTES);
  /** Where the next read goes, as last handed to the socket. */
  #readInto: Buffer = this.#lineBuffer;
  #unread: Buffer = Buffer.alloc(0);
  #taker: ByteTaker | null = null;
  #waiting: { resolve: (line: string) => void; reject: (error: Error) => void } | null = null;
  #failure: Error | null = null;
  #onEnd: ((error: Error) => void) | null = null;
  #lastByteAt = Date.now();
  #heard = false;
  #endedByPeer = false;

  private constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  /** @throws what dial() throws */
  static async open(endpoint: Endpoint, connectTimeoutMs: number, signal: AbortSignal): Promise<Wire> {
    const wire = new Wire(endpoint);
    const socket = await dial(endpoint, 'source', {
      connectTimeoutMs,
      signal,
      onread: {
        buffer: () => wire.#nextBuffer(),
        callback: (length) => {
          wire.#read(length);
          return !wire.#rests(length);
        },
      },
    });
    wire.#socket = socket;
    if (endpoint.tls !== null) socket.on('data', (chunk: Buffer) => wire.#chunk(chunk));
    socket.on('error', (error) => wire.#hungUp(socketError(endpoint, 'source', error)));
    socket.on('close', () => wire.#hungUp(lost()));
    return wire;
  }

  /** True where the other side has ended the connection without having said anything. */
  get endedUnheard(): boolean {
    return this.#endedByPeer && !this.#heard;
  }

  /** For how long no byte has come although one is waited for. */
  get silentMs(): number {
    const waits = this.#waiting !== null || this.#taker !== null;
    return waits ? Date.now() - this.#lastByteAt : 0;
  }

  write(bytes: Buffer): void {
    if (this.#failure === null) this.#socket?.write(bytes);
  }

  /**
   * The next line without its end; keep-alive newlines come out as ''. Rejects when the connection has ended and
   * no whole line is left of what came before; at once after close().
   */
  readLine(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#readOn();
      this.#offerLine();
    });
  }

  /** From now on every byte goes to `taker`; resolves never, rejects when the connection ends. */
  pour(taker: ByteTaker): Promise<never> {
    return new Promise((_resolve, reject) => {
      this.#taker = taker;
      const early = this.#unread;
      this.#unread = Buffer.alloc(0);
      this.#onEnd = reject;
      this.#readOn();
      if (early.length > 0) this.#give(() => taker.append(early));
      if (this.#failure !== null) reject(this.#failure);
    });
  }

  /** Ends the connection from this side: what was received and not read is dropped. */
  close(reason?: Error): void {
    this.#unread = Buffer.alloc(0);
    this.#fail(reason ?? lost());
  }

  /** Somebody wants bytes again: also begins the time anew after which the other side counts as silent. */
  #readOn(): void {
    this.#lastByteAt = Date.now();
    if (this.#socket?.isPaused() === true) this.#socket.resume();
  }

  #nextBuffer(): Buffer {
    this.#readInto = this.#taker === null ? this.#lineBuffer : this.#taker.reserve();
    return this.#readInto;
  }

  #read(length: number): void {
    if (this.#failure !== null) return;
    // the read that was under way when pour() began still lies in the line buffer
    if (this.#taker === null || this.#readInto === this.#lineBuffer) {
      this.#chunk(this.#readInto.subarray(0, length));
      return;
    }
    this.#lastByteAt = Date.now();
    this.#give(() => this.#taker!.commit(length));
  }

  /**
   * True where the socket is left alone for a moment: a source hands a snapshot on in pieces of 16 KB, and each costs a turn
   * of the event loop here and a wake-up there. What comes meanwhile waits in the kernel. Small pieces are news, and
   * large ones need no rest.
   */
  #rests(length: number): boolean {
    const socket = this.#socket;
    if (this.#taker === null || socket === null || length < REST_FROM || length > REST_TO) return false;
    setTimeout(() => socket.resume(), REST_MS);
    return true;
  }

  #chunk(chunk: Buffer): void {
    if (this.#failure !== null) return;
    this.#lastByteAt = Date.now();
    this.#heard = true;
    const taker = this.#taker;
    if (taker !== null) {
      this.#give(() => taker.append(chunk));
      return;
    }
    this.#unread = this.#unread.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#unread, chunk]);
    this.#offerLine();
    // nobody reads, because the target is being prepared: the rest waits in the kernel
    if (this.#waiting === null && this.#unread.length >= MOST_UNREAD) this.#socket?.pause();
  }

  #give(hand: () => void): void {
    try {
      hand();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #offerLine(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    const end = this.#unread.indexOf(10);
    if (end >= 0) {
      const line = this.#unread.toString('latin1', 0, end).replace(/\r$/, '');
      this.#unread = this.#unread.subarray(end + 1);
      this.#waiting = null;
      waiting.resolve(line);
      return;
    }
    const failure = this.#failure ?? this.#noLine();
    if (failure === null) return;
    this.#waiting = null;
    waiting.reject(failure);
    this.#fail(failure);
  }

  /** Why what was received can never become a line of Redis; null: it may. */
  #noLine(): Error | null {
    if (this.#unread.length > 0 && looksLikeTls(this.#unread))
      return plainToTlsError(this.#endpoint, 'source');
    if (this.#unread.length <= LONGEST_LINE) return null;
    return new SourceError('the source sends a line without end', {
      code: 'source-protocol',
      hint: 'is this address a Redis port?',
      recovery: 'operator',
    });
  }

  #hungUp(error: Error): void {
    if (this.#failure === null) this.#endedByPeer = true;
    this.#fail(error);
  }

  #fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#socket?.destroy();
    this.#onEnd?.(error);
    this.#offerLine();
  }
}

function lost(): SourceError {
  return new SourceError('the connection to the source was closed', {
    code: 'source-lost',
    hint: 'is the source up? its log says why it closed; it is tried again by itself',
  });
}
