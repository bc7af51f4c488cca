/**
 * The replication link: dials, introduces itself as a replica, asks for the history from a position on, and pours
 * what comes into its sink; acknowledges what was applied; dials again after a break. The socket is never left
 * unread: what the sink cannot use yet it must keep.
 *
 * Facts: protocol.md 1. Next to read: handshake.ts (what each reply means), wire.ts (the socket).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { plainToTlsError, speaksTls } from '../client/dial.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { type CutoverError, SourceError, toCutoverError } from '../core/errors.ts';
import type { ReplicationCommandNames } from '../core/options.ts';
import type { ReplicationPosition } from '../core/position.ts';
import { printable } from '../core/text.ts';
import { encodeCommand } from '../resp/encode.ts';
import {
  type Framing,
  handshakeSteps,
  judgePsync,
  judgeStep,
  judgeSyncError,
  parseFraming,
  replconfMissing,
  type StepOutcome,
} from './handshake.ts';
import { type ByteTaker, Wire } from './wire.ts';

/** Who takes what the link receives. Positions and bytes are the sink's business, sockets are the link's. */
export interface LinkSink extends ByteTaker {
  /** Where to go on, or null for a full copy. May wait until everything received has been looked at. */
  resumePosition(): Promise<ReplicationPosition | null>;
  /**
   * A full copy begins; bytes received before are void. `position` is null behind SYNC, which tells none.
   * Throws where a full copy must not be taken (an operator has to decide).
   */
  fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void>;
  /** The bytes that follow are those asked for; the history may have a new name. */
  continued(replid: string | null): void;
  /** Offset to acknowledge: what the target has. */
  appliedOffset(): number;
  /** The link is down, for this reason; it is dialled again by itself. */
  interrupted(error: CutoverError): void;
}

export interface LinkSettings {
  readonly endpoint: Endpoint;
  readonly names: ReplicationCommandNames;
  readonly announceVersion: string | null;
  /** See Introduction. */
  readonly plainSnapshot?: boolean;
  readonly connectTimeoutMs: number;
  /** Without a byte for this long the link counts as dead; a replica of Redis' own uses repl-timeout, 60 s. */
  readonly silenceMs: number;
}

const ACK_INTERVAL_MS = 1000;
/** Behind the mark of a payload, until the stream begins. */
const URGE_INTERVAL_MS = 50;
const URGES = 40;
const BACKOFF_MS = [100, 300, 1000, 2000, 5000] as const;
/** A full copy costs the source a fork: one whose link held for less than this counts as a failure. */
const HELD_MS = 10_000;

export class SourceLink {
  readonly #settings: LinkSettings;
  readonly #sink: LinkSink;
  #wire: Wire | null = null;
  /** Date.now() when the present connection began to pour; null: none does. */
  #pouringSince: number | null = null;
  /** False where the source would take no acknowledgement. */
  #acknowledges = true;
  #failures = 0;
  /** True once the latest copy has come whole, where it is one that ends with a mark. */
  #markSeen = false;
  /** Counts redial(): a position asked for before one must not be used after it. */
  #redials = 0;
  /** True once the source has answered anything: from then on a connection that ends is a break. */
  #answered = false;

  constructor(settings: LinkSettings, sink: LinkSink) {
    this.#settings = settings;
    this.#sink = sink;
  }

  get connected(): boolean {
    return this.#pouringSince !== null;
  }

  /** True where the latest copy was one without a length, and its mark has come: the source's child has ended. */
  get markSeen(): boolean {
    return this.#markSeen;
  }

  /**
   * Follows the source until `signal` is aborted.
   * @throws CutoverError that cannot be mended by dialling again
   */
  async run(signal: AbortSignal): Promise<void> {
    const abort = (): void => this.#wire?.close();
    signal.addEventListener('abort', abort);
    const timer = setInterval(() => this.#beat(), ACK_INTERVAL_MS);
    try {
      while (!signal.aborted) {
        const error = await this.#attempt(signal).catch(toCutoverError);
        if (this.#pouringSince !== null && Date.now() - this.#pouringSince >= HELD_MS) this.#failures = 0;
        this.#pouringSince = null;
        this.#wire?.close();
        this.#wire = null;
        if (signal.aborted) return;
        if (error.recovery === 'operator' || error.recovery === 'none') throw error;
        this.#sink.interrupted(error);
        const pause = BACKOFF_MS[Math.min(this.#failures++, BACKOFF_MS.length - 1)]!;
        await delay(pause, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      clearInterval(timer);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Closes the present connection; run() dials again and asks its sink where to go on. */
  redial(): void {
    this.#redials++;
    this.#failures = 0;
    this.#wire?.close();
  }

  /** Tells the source how far the target is: at once, besides each second. */
  acknowledge(): void {
    if (this.#pouringSince === null || !this.#acknowledges) return;
    const words = [this.#settings.names.replconf, 'ACK', Math.max(0, this.#sink.appliedOffset())];
    this.#wire?.write(encodeCommand(words));
  }

  /** One connection, from dialling to its end. */
  async #attempt(signal: AbortSignal): Promise<CutoverError> {
    const { endpoint, connectTimeoutMs } = this.#settings;
    const redials = this.#redials;
    const resume = await this.#sink.resumePosition();
    const wire = await Wire.open(endpoint, connectTimeoutMs, signal);
    this.#wire = wire;
    signal.throwIfAborted();
    if (redials !== this.#redials) throw transient('the position to go on from has changed meanwhile');
    const replconfRefused = await this.#introduce(wire);
    const framing = await this.#ask(wire, resume, replconfRefused);
    this.#pouringSince = Date.now();
    if (framing === null || framing.kind === 'length') return wire.pour(this.#sink).catch(toCutoverError);
    this.#markSeen = false;
    const watcher = new MarkWatcher(this.#sink, framing.mark, () => {
      this.#markSeen = true;
      void this.#urge(wire, watcher);
    });
    return wire.pour(watcher).catch(toCutoverError);
  }

  /**
   * The source begins with the stream at the first acknowledgement behind the end of its child, which takes it another
   * tenth of a second, and does not say so (run on 7.0.15): one a second would let it wait.
   */
  async #urge(wire: Wire, watcher: MarkWatcher): Promise<void> {
    this.acknowledge();
    for (let i = 1; i < URGES; i++) {
      await delay(URGE_INTERVAL_MS, undefined, { ref: false });
      if (this.#wire !== wire || !watcher.atMark) return;
      this.acknowledge();
    }
  }

  /** The dialogue before PSYNC; returns what REPLCONF was answered where the source does not know it, else null. */
  async #introduce(wire: Wire): Promise<string | null> {
    const { endpoint, names, announceVersion, plainSnapshot = false } = this.#settings;
    const password = endpoint.password?.reveal() ?? null;
    const { username } = endpoint;
    const steps = handshakeSteps({ username, password, names, announceVersion, plainSnapshot });
    let replconfRefused: string | null = null;
    const judge = (outcome: StepOutcome): void => {
      if (outcome.kind === 'retry') throw transient(outcome.reason);
      if (outcome.kind === 'stop') throw outcome.error;
      if (outcome.kind === 'no-replconf') replconfRefused = outcome.reason;
    };
    const greetings = steps.filter(({ kind }) => kind === 'auth' || kind === 'ping');
    for (const step of greetings) {
      let outcome = judgeStep(step, await this.#firstWord(wire, step.words));
      if (outcome.kind === 'auth-without-user') {
        const again = { ...step, words: ['AUTH', password ?? ''] };
        outcome = judgeStep(again, await this.#request(wire, again.words));
      }
      judge(outcome);
    }
    // in one write, as replicas from 6.2 on do it: a round trip for all of them
    const options = steps.filter((step) => !greetings.includes(step));
    wire.write(Buffer.concat(options.map(({ words }) => encodeCommand(words))));
    for (const step of options) judge(judgeStep(step, await lineOf(wire)));
    return replconfRefused;
  }

  /** A request; a source that ends its very first connection without a word may want TLS. */
  async #firstWord(wire: Wire, words: readonly string[]): Promise<string> {
    const { endpoint } = this.#settings;
    try {
      const line = await this.#request(wire, words);
      this.#answered = true;
      return line;
    } catch (error) {
      const unexplained = endpoint.tls === null && !this.#answered && wire.endedUnheard;
      throw unexplained && (await speaksTls(endpoint)) ? plainToTlsError(endpoint, 'source') : error;
    }
  }

  /** Asks for the history; the framing of the payload that follows, or null where the stream goes on. */
  async #ask(
    wire: Wire,
    resume: ReplicationPosition | null,
    replconfRefused: string | null,
  ): Promise<Framing | null> {
    const { names } = this.#settings;
    const words =
      resume === null ? [names.psync, '?', '-1'] : [names.psync, resume.replid, String(resume.offset + 1)];
    const outcome = judgePsync(await this.#request(wire, words));
    this.#acknowledges = true;
    switch (outcome.kind) {
      case 'continue':
        if (replconfRefused !== null) throw replconfMissing(replconfRefused);
        if (resume === null) throw unasked();
        this.#failures = 0;
        this.#sink.continued(outcome.replid);
        return null;
      case 'full-resync': {
        if (replconfRefused !== null) throw replconfMissing(replconfRefused);
        const framing = preamble(await lineOf(wire));
        await this.#sink.fullResync(outcome.position, framing);
        return framing;
      }
      case 'use-sync': {
        const line = await this.#request(wire, [names.sync]);
        const framing = preamble(line);
        // 2.6 puts an error for each into the stream; later ones wait for one only behind a diskless payload
        this.#acknowledges = framing.kind === 'mark';
        await this.#sink.fullResync(null, framing);
        return framing;
      }
      case 'retry':
        throw transient(outcome.reason);
      case 'stop':
        throw outcome.error;
    }
  }

  /** Sends one request and waits for its reply; keep-alive newlines before it are passed over. */
  async #request(wire: Wire, words: readonly string[]): Promise<string> {
    wire.write(encodeCommand(words));
    return lineOf(wire);
  }

  /** Each second: the acknowledgement that keeps the link alive, and a look at whether the source still is. */
  #beat(): void {
    const wire = this.#wire;
    if (wire === null) return;
    this.acknowledge();
    const { silentMs } = wire;
    if (silentMs <= this.#settings.silenceMs) return;
    wire.close(
      new SourceError(`the source has sent nothing for ${Math.round(silentMs / 1000)} s`, {
        code: 'source-silent',
        hint: 'is the network up, and the source not stopped? it is dialled again by itself',
      }),
    );
  }
}

/**
 * Diskless payloads: the source sends no stream before the first acknowledgement behind the mark (protocol.md 1.7).
 * Where the payload ends is decided by its structure alone; but when the last bytes received look like the mark, an
 * acknowledgement is due at once, also when the loading is far behind, and harmless if it was no mark.
 */
class MarkWatcher implements ByteTaker {
  readonly #inner: ByteTaker;
  readonly #mark: Buffer;
  readonly #seen: () => void;
  #space: Buffer = Buffer.alloc(0);
  readonly #tail: Buffer;
  /** True where the last bytes received look like the mark. */
  atMark = false;

  constructor(inner: ByteTaker, mark: Buffer, seen: () => void) {
    this.#inner = inner;
    this.#mark = mark;
    this.#seen = seen;
    this.#tail = Buffer.alloc(mark.length);
  }

  reserve(): Buffer {
    this.#space = this.#inner.reserve();
    return this.#space;
  }

  commit(length: number): void {
    this.atMark = this.#endsWithMark(this.#space.subarray(0, length));
    this.#inner.commit(length);
    if (this.atMark) this.#seen();
  }

  append(chunk: Buffer): void {
    this.atMark = this.#endsWithMark(chunk);
    this.#inner.append(chunk);
    if (this.atMark) this.#seen();
  }

  #endsWithMark(chunk: Buffer): boolean {
    const size = this.#mark.length;
    if (chunk.length >= size) {
      chunk.copy(this.#tail, 0, chunk.length - size);
    } else {
      this.#tail.copyWithin(0, chunk.length);
      chunk.copy(this.#tail, size - chunk.length);
    }
    return this.#tail.equals(this.#mark);
  }
}

/** The next line that is no keep-alive. */
async function lineOf(wire: Wire): Promise<string> {
  for (;;) {
    const line = await wire.readLine();
    if (line !== '') return line;
  }
}

/** The announcement of the payload; servers also send an error in its place. */
function preamble(line: string): Framing {
  const framing = parseFraming(line);
  if (framing !== null) return framing;
  if (!line.startsWith('-')) throw transient(`instead of a snapshot came: ${printable(line, 80)}`);
  const outcome = judgeSyncError(line);
  throw outcome.kind === 'retry' ? transient(outcome.reason) : outcome.error;
}

function transient(reason: string): SourceError {
  return new SourceError(`the source cannot be followed yet: ${reason}`, {
    code: 'source-not-ready',
    hint: 'it is tried again by itself',
  });
}

function unasked(): SourceError {
  return new SourceError('the source goes on with a history that was not asked for', {
    code: 'source-psync',
    hint: 'a proxy may stand in between: connect to the server itself',
    recovery: 'operator',
  });
}
