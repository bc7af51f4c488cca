/**
 * The hot connection to a target: encodes into blocks, matches replies to what was sent, and tells when it is
 * full. It knows nothing of snapshots or batches; snapshot-writer.ts and stream-writer.ts give the replies
 * their meaning. One per attempt: after any break a new one is made.
 */
import type { Socket } from 'node:net';
import { type CutoverError, TargetError, toCutoverError } from '../../core/errors.ts';
import { CommandBuffer } from '../../resp/command-buffer.ts';
import { ReplyScanner } from '../../resp/reply-scanner.ts';
import { WriteTally } from './write-tally.ts';

/** Bytes of complete commands that may be unanswered. */
const WINDOW_BYTES = 4 << 20;
const WINDOW_COMMANDS = 60_000;
/** Bytes that may wait for the kernel: the bound while one huge command is under way. */
const SOCKET_BYTES = 2 << 20;

/** What is behind an expected reply; its meaning belongs to whoever sent the command. */
export interface ReplyListener {
  /** @param tag as given to expect() @param line the error line, null for success */
  reply(tag: number, line: string | null): void;
  nestedError(index: number, line: string): void;
  /** Replies came in or the socket drained: there may be room. */
  progress(): void;
  /** The connection is gone. Comes once, unless close() was called before. */
  lost(error: CutoverError): void;
}

export class TargetConnection {
  readonly #socket: Socket;
  readonly #listener: ReplyListener;
  readonly out: CommandBuffer;
  readonly #scanner: ReplyScanner;
  readonly #tally: WriteTally;
  #tags = new Float64Array(1 << 12);
  #starts = new Float64Array(1 << 12);
  #writes = new Uint32Array(1 << 12);
  #head = 0;
  #count = 0;
  #newestStart = 0;
  #closed = false;
  /** Called before each write to the socket. */
  beforeSend: () => void = () => undefined;

  /** @param tally where what is executed is counted; left out: nobody asks */
  constructor(socket: Socket, listener: ReplyListener, tally = new WriteTally()) {
    this.#socket = socket;
    this.#listener = listener;
    this.#tally = tally;
    this.out = new CommandBuffer((block, done) => {
      if (this.#closed) return;
      this.beforeSend();
      socket.write(block, done);
    });
    this.#scanner = new ReplyScanner({
      reply: (line) => this.#reply(line),
      nestedError: (index, line) => listener.nestedError(index, line),
      nullArray: () => this.#reply('EXECABORT the transaction was not executed'),
    });
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    socket.on('drain', () => listener.progress());
    socket.on('error', (error) => this.#lost(error));
    socket.on('close', () => this.#lost(null));
  }

  /**
   * Announces the command that is encoded next.
   * @param writes how many commands that write it executes: EXEC all of its transaction, one that is queued none
   */
  expect(tag: number, writes = 0): void {
    if (this.#count === this.#tags.length) this.#grow();
    const at = (this.#head + this.#count) & (this.#tags.length - 1);
    this.#newestStart = this.out.totalBytes;
    this.#tags[at] = tag;
    this.#starts[at] = this.#newestStart;
    this.#writes[at] = writes;
    if (writes > 0) this.#tally.begin(writes);
    this.#count++;
  }

  /** True where the caller should wait for progress(). */
  get full(): boolean {
    if (this.#count === 0) return this.#socket.writableLength > SOCKET_BYTES;
    return (
      this.#newestStart - this.#starts[this.#head]! > WINDOW_BYTES ||
      this.#count > WINDOW_COMMANDS ||
      this.#socket.writableLength > SOCKET_BYTES
    );
  }

  get unanswered(): number {
    return this.#count;
  }

  /** Tag of the oldest command without an answer; null where all are answered. */
  get oldestTag(): number | null {
    return this.#count === 0 ? null : this.#tags[this.#head]!;
  }

  close(): void {
    if (!this.#closed) this.#tally.lost(this.#unansweredWrites());
    this.#closed = true;
    this.#socket.destroy();
  }

  #data(chunk: Buffer): void {
    if (this.#closed) return;
    try {
      this.#scanner.push(chunk);
    } catch (error) {
      this.#lost(toCutoverError(error));
      return;
    }
    if (!this.#closed) this.#listener.progress();
  }

  #reply(line: string | null): void {
    if (this.#closed) return;
    if (this.#count === 0) {
      throw new TargetError('the target answered something that was not asked', {
        code: 'target-protocol',
        hint: `its answer was: ${line ?? 'no error'}`,
        recovery: 'reconnect',
        ...(line === null ? {} : { reply: line }),
      });
    }
    const tag = this.#tags[this.#head]!;
    const writes = this.#writes[this.#head]!;
    this.#head = (this.#head + 1) & (this.#tags.length - 1);
    this.#count--;
    if (writes > 0) {
      if (line === null) this.#tally.done(writes);
      else this.#tally.lost(writes);
    }
    this.#listener.reply(tag, line);
  }

  #unansweredWrites(): number {
    let writes = 0;
    for (let i = 0; i < this.#count; i++)
      writes += this.#writes[(this.#head + i) & (this.#writes.length - 1)]!;
    return writes;
  }

  #lost(cause: Error | CutoverError | null): void {
    if (this.#closed) return;
    this.close();
    this.#listener.lost(
      cause instanceof TargetError
        ? cause
        : new TargetError('the connection to the target was lost', {
            code: 'target-lost',
            hint: 'is the target up? it is tried again by itself',
            recovery: 'reconnect',
            ...(cause === null ? {} : { cause }),
          }),
    );
  }

  #grow(): void {
    const size = this.#tags.length;
    const tags = new Float64Array(size * 2);
    const starts = new Float64Array(size * 2);
    const writes = new Uint32Array(size * 2);
    for (let i = 0; i < size; i++) {
      tags[i] = this.#tags[(this.#head + i) & (size - 1)]!;
      starts[i] = this.#starts[(this.#head + i) & (size - 1)]!;
      writes[i] = this.#writes[(this.#head + i) & (size - 1)]!;
    }
    this.#tags = tags;
    this.#starts = starts;
    this.#writes = writes;
    this.#head = 0;
  }
}
