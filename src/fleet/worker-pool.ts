/**
 * Pairs in worker processes: the session's side. A worker that dies, or hangs, is replaced, and its pairs go on in the
 * new one from their checkpoints, as after `resume`; a pair that takes its worker with it again and again is given up
 * (strikes.ts).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { extname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { PairSpec } from '../core/endpoint.ts';
import { assertNever, type CutoverError, SourceError } from '../core/errors.ts';
import {
  type ClientInfo,
  errorEvent,
  type MigrationEvent,
  type PairSnapshot,
  type PairSummary,
} from '../core/events.ts';
import { optionsOfPair, type RunOptions } from '../core/options.ts';
import type { Phase } from '../core/phase.ts';
import { printable } from '../core/text.ts';
import { NO_THROTTLE, type Throttle } from '../core/throttle.ts';
import { pairSnapshot } from '../migrate/pair-snapshot.ts';
import type { RunFolder } from '../migrate/run-folder.ts';
import type { FleetPair, PairSize } from './fleet-pair.ts';
import { afterDeath } from './strikes.ts';
import {
  type FromWorker,
  type PairState,
  RelayedError,
  type RemoteCall,
  sendError,
  sendPair,
  type ToWorker,
} from './worker-messages.ts';

/** The same ending as this file: TypeScript in tests, JavaScript when built. In a bundle this file is part of another. */
const WORKER_FILE = new URL(`../fleet/worker-main${extname(import.meta.url)}`, import.meta.url);
const HEARTBEAT_MS = 1_000;
/** A worker that has not answered so often is ended: nothing of ours takes that long at a stretch. */
const MOST_MISSED = 20;
/** A worker that has lived so long was not killed by what its pairs did before. */
const STRIKES_FADE_MS = 10 * 60_000;
/** For a worker that has nothing more to do. */
const END_LIMIT_MS = 2_000;
/** Kept of what a worker writes to stderr: the trace of a crash. */
const STDERR_TAIL = 2_000;

export interface PoolIo {
  readonly emit: (event: MigrationEvent) => void;
  /** A pair has changed its phase, or what else the session waits for. */
  readonly changed: () => void;
  /** A pair whose worker has died is in a new one, unchecked and not begun. */
  readonly lost: (pair: RemotePair) => void;
}

/** The run that pairs are part of, as soon as there is one. */
interface JoinedRun {
  readonly dir: string;
  readonly runId: string;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: CutoverError) => void;
}

export class WorkerPool {
  readonly pairs: readonly RemotePair[];
  readonly #workers = new Set<Worker>();
  readonly #io: PoolIo;
  readonly #heartbeat: NodeJS.Timeout;
  #run: JoinedRun | null;
  #ending = false;

  /** @param former the run that is gone on with; null: a new one */
  constructor(
    specs: readonly PairSpec[],
    options: RunOptions,
    workers: number,
    io: PoolIo,
    former: RunFolder | null,
  ) {
    this.#io = io;
    this.#run = former === null ? null : { dir: former.dir, runId: former.run.runId };
    this.pairs = specs.map((pair, number) => new RemotePair(pair, options, number, this));
    const groups = Array.from({ length: workers }, (_, at) =>
      this.pairs.filter(({ number }) => number % workers === at),
    );
    for (const group of groups) this.#begin(group);
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
  }

  join(folder: RunFolder): void {
    this.#run = { dir: folder.dir, runId: folder.run.runId };
  }

  get run(): JoinedRun | null {
    return this.#run;
  }

  emit(event: MigrationEvent): void {
    this.#io.emit(event);
  }

  changed(): void {
    this.#io.changed();
  }

  /** Ends the workers; behind the end of their pairs. */
  async end(): Promise<void> {
    this.#ending = true;
    clearInterval(this.#heartbeat);
    await Promise.all([...this.#workers].map((worker) => worker.end()));
  }

  #begin(pairs: readonly RemotePair[]): void {
    if (pairs.length === 0) return;
    const worker = new Worker(pairs, (why) => this.#died(worker, why));
    this.#workers.add(worker);
    for (const pair of pairs) pair.moveInto(worker);
  }

  #beat(): void {
    for (const worker of this.#workers) worker.beat();
  }

  #died(worker: Worker, why: string): void {
    this.#workers.delete(worker);
    if (this.#ending) return;
    const lost = worker.pairs.filter((pair) => pair.needsWorker);
    // it is to be seen why they failed; what is left on their servers resume puts right
    const failed = lost.filter(({ phase }) => phase === 'failed' || phase === 'stopped');
    for (const pair of failed) pair.leave();
    const pairs = lost.filter((pair) => !failed.includes(pair));
    const faded = worker.ageMs > STRIKES_FADE_MS;
    const { quarantined, groups } = afterDeath(
      pairs.map(({ number, strikes }) => ({ pair: number, strikes: faded ? 0 : strikes })),
    );
    const byNumber = (numbers: readonly number[]): RemotePair[] =>
      pairs.filter(({ number }) => numbers.includes(number));
    for (const pair of pairs) pair.strikes = faded ? 1 : pair.strikes + 1;
    for (const pair of byNumber(quarantined)) pair.giveUp(why);
    for (const group of groups) this.#begin(byNumber(group));
    // first of all it must be known of all of them: what is told below makes the session look at all pairs
    const again = byNumber(groups.flat());
    for (const pair of again) this.#io.lost(pair);
    for (const pair of again) pair.interrupted(why);
  }
}

/** A pair of another process: what is known of it here, and a way to ask. */
export class RemotePair implements FleetPair {
  readonly pair: PairSpec;
  readonly number: number;
  readonly #options: RunOptions;
  readonly #pool: WorkerPool;
  #worker: Worker | null = null;
  #state: PairState;
  #error: CutoverError | null = null;
  /** What the operator has asked for: a new worker process is told. */
  #paused = false;
  #limits: Throttle;
  /** Deaths of workers that it was in. */
  strikes = 0;

  constructor(pair: PairSpec, options: RunOptions, number: number, pool: WorkerPool) {
    this.pair = pair;
    this.number = number;
    this.#options = options;
    this.#pool = pool;
    this.#limits = optionsOfPair(pair, options).throttle;
    this.#state = unseen(pair);
  }

  get phase(): Phase {
    return this.#state.phase;
  }

  get error(): CutoverError | null {
    return this.#error;
  }

  get facts(): PairSize | null {
    return this.#state.facts;
  }

  get snapshotReceived(): boolean {
    return this.#state.snapshotReceived;
  }

  get settled(): boolean {
    return this.#state.settled;
  }

  get leftBehind(): boolean {
    return this.#state.leftBehind;
  }

  get wayBackOpen(): boolean {
    return this.#state.wayBackOpen;
  }

  get wayBackNeedsCopy(): string | null {
    return this.#state.wayBackNeedsCopy;
  }

  /** False where nothing more is to be done for it: it stays as it is when its worker dies. */
  get needsWorker(): boolean {
    return !this.settled || this.wayBackOpen;
  }

  get paused(): boolean {
    return this.#state.snapshot.paused;
  }

  snapshot(): PairSnapshot {
    return this.#state.snapshot;
  }

  summary(): PairSummary {
    return this.#state.summary;
  }

  async check(): Promise<void> {
    for (;;) {
      try {
        await this.#call({ method: 'check' });
        return;
      } catch (error) {
        // in a new worker already, unless it was given up
        if (!isLost(error) || this.#error !== null) throw error;
      }
    }
  }

  /** Where its worker dies meanwhile the pool says so, and the session begins it again. */
  async start(folder: RunFolder, tuned: boolean): Promise<void> {
    this.#pool.join(folder);
    await this.#call({ method: 'start', runDir: folder.dir, tuned }).catch((error: unknown) => {
      if (!isLost(error)) throw error;
    });
  }

  async stop(reason: string): Promise<void> {
    // a worker that is gone takes nothing more from a pair that was through
    if (this.#worker === null || !this.#worker.alive) return;
    await this.#call({ method: 'stop', reason });
  }

  async abandon(error: CutoverError): Promise<void> {
    await this.#call({ method: 'abandon', error: sendError(error) });
  }

  async enableWrites(): Promise<void> {
    await this.#call({ method: 'enableWrites' });
  }

  async promote(): Promise<void> {
    await this.#call({ method: 'promote' });
  }

  async cutOver(): Promise<void> {
    await this.#call({ method: 'cutOver' });
  }

  async rollBack(): Promise<void> {
    await this.#call({ method: 'rollBack' });
  }

  async finish(): Promise<void> {
    await this.#call({ method: 'finish' });
  }

  async openWayBackByCopy(): Promise<void> {
    await this.#call({ method: 'openWayBackByCopy' });
  }

  async pause(on: boolean): Promise<void> {
    const before = this.#paused;
    this.#paused = on;
    await this.#change({ method: 'pause', on }, () => {
      this.#paused = before;
    });
  }

  async throttle(limits: Throttle): Promise<void> {
    const before = this.#limits;
    this.#limits = limits;
    await this.#change({ method: 'throttle', limits }, () => {
      this.#limits = before;
    });
  }

  /** Where its worker dies meanwhile the next one is told in another way: see moveInto(). */
  async #change(call: RemoteCall, undo: () => void): Promise<void> {
    try {
      await this.#call(call);
    } catch (error) {
      if (isLost(error) && this.#error === null) return;
      undo();
      throw error;
    }
  }

  async clients(): Promise<readonly ClientInfo[]> {
    return (await this.#call({ method: 'clients' })) as readonly ClientInfo[];
  }

  async killClients(addresses: readonly string[]): Promise<number> {
    return (await this.#call({ method: 'killClients', addresses })) as number;
  }

  #call(call: RemoteCall): Promise<unknown> {
    if (this.#worker === null) return Promise.reject(lost('it has not begun'));
    return this.#worker.call(this.number, call);
  }

  // ---- what the pool does with it ------------------------------------------------------------------------

  moveInto(worker: Worker): void {
    this.#worker = worker;
    const run = this.#pool.run;
    const options = run === null ? this.#options : { ...this.#options, resumes: run.runId };
    const valve = { paused: this.#paused, limits: this.#limits };
    worker.take(this.number, this.pair, options, valve, run?.dir ?? null);
  }

  /** It begins anew: its worker has died. */
  interrupted(why: string): void {
    const from = this.phase;
    this.#state = {
      ...unseen(this.pair),
      snapshot: { ...this.#state.snapshot, phase: 'checking', reason: why },
    };
    this.#pool.emit({ event: 'phase', pair: this.pair.name, from, to: 'checking', reason: why });
    this.#pool.changed();
  }

  /** It was over, but not put away. */
  leave(): void {
    this.#state = { ...this.#state, settled: true, leftBehind: this.#pool.run !== null };
  }

  giveUp(why: string): void {
    const from = this.phase;
    const error = new SourceError(
      `the pair was in ${this.strikes} worker processes that ended, and alone in the last: it is not tried again (${why})`,
      {
        code: 'worker-killed',
        hint: 'look into the log for what it was doing; what is left on its servers redis-cutover resume puts right',
        recovery: 'operator',
      },
    );
    this.#error = error;
    this.#state = {
      ...this.#state,
      phase: 'failed',
      settled: true,
      // nobody has given its target back
      leftBehind: this.#pool.run !== null,
      snapshot: { ...this.#state.snapshot, phase: 'failed', reason: error.message },
      summary: { ...this.#state.summary, phase: 'failed' },
    };
    const { name } = this.pair;
    this.#pool.emit(errorEvent(error, name));
    this.#pool.emit({ event: 'phase', pair: name, from, to: 'failed', reason: error.message });
    this.#pool.changed();
  }

  receive(message: FromWorker & { readonly kind: 'event' | 'state' }): void {
    switch (message.kind) {
      case 'event': {
        const { event } = message;
        // the second look is no news, unless it finds something
        const again = this.strikes > 0 && event.event === 'check' && event.status === 'ok';
        if (!again) this.#pool.emit(event);
        return;
      }
      case 'state': {
        const { state } = message;
        const before = this.#state;
        this.#state = state;
        this.#error = state.error === null ? null : new RelayedError(state.error);
        // settled may come behind the phase: the session ends by it
        const changed = (['phase', 'wayBackOpen', 'settled'] as const).some(
          (key) => before[key] !== state[key],
        );
        if (changed) this.#pool.changed();
        return;
      }
      default:
        assertNever(message);
    }
  }
}

/** One process and what was asked of it. */
class Worker {
  readonly pairs: readonly RemotePair[];
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #begunAt = performance.now();
  readonly #exited: Promise<void>;
  #lastId = 0;
  #missed = 0;
  #stderr = '';
  alive = true;

  constructor(pairs: readonly RemotePair[], died: (why: string) => void) {
    this.pairs = pairs;
    this.#child = fork(WORKER_FILE, {
      serialization: 'advanced',
      // its words are for the crash report, not for the screen
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL);
    });
    this.#child.on('message', (message: FromWorker) => this.#heard(message));
    // the channel may break a moment before the process is gone
    this.#child.on('error', () => this.#child.kill('SIGKILL'));
    this.#exited = new Promise((resolve) => {
      // not 'close': a grandchild may hold the pipe open
      this.#child.once('exit', async (code, signal) => {
        this.alive = false;
        await nextTurn();
        resolve();
        const how = signal ?? `exit code ${code}`;
        const words = printable(crashLine(this.#stderr), 200);
        const why = `its worker process ended (${how}${words === '' ? '' : `: ${words}`})`;
        for (const { reject } of this.#waiting.values()) reject(lost(why));
        this.#waiting.clear();
        died(why);
      });
    });
  }

  get ageMs(): number {
    return performance.now() - this.#begunAt;
  }

  take(
    number: number,
    pair: PairSpec,
    options: RunOptions,
    valve: { readonly paused: boolean; readonly limits: Throttle },
    formerRunDir: string | null,
  ): void {
    this.#send({ kind: 'take', pair: number, spec: sendPair(pair), options, valve, formerRunDir });
  }

  call(pair: number, call: RemoteCall): Promise<unknown> {
    if (!this.alive) return Promise.reject(lost('its worker process has ended'));
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send({ kind: 'call', id, pair, call });
    });
  }

  beat(): void {
    this.#missed += 1;
    if (this.#missed > MOST_MISSED) this.#child.kill('SIGKILL');
    else this.#send({ kind: 'ping' });
  }

  async end(): Promise<void> {
    if (!this.alive) return;
    this.#child.disconnect();
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), END_LIMIT_MS);
    await this.#exited;
    clearTimeout(killer);
  }

  #send(message: ToWorker): void {
    // where it does not get there the process is gone, and 'close' says so
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  #heard(message: FromWorker): void {
    switch (message.kind) {
      case 'event':
      case 'state':
        this.pairs.find(({ number }) => number === message.pair)?.receive(message);
        return;
      case 'done':
        this.#take(message.id)?.resolve(message.value);
        return;
      case 'failed':
        this.#take(message.id)?.reject(new RelayedError(message.error));
        return;
      case 'pong':
        this.#missed = 0;
        return;
      default:
        assertNever(message);
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }
}

/** The message in the trace of a crash; of a process that died otherwise its last line. */
function crashLine(stderr: string): string {
  const lines = stderr.trim().split('\n');
  return lines.find((line) => /error/i.test(line)) ?? lines.at(-1) ?? '';
}

function isLost(error: unknown): boolean {
  return error instanceof SourceError && error.code === 'worker-lost';
}

function lost(why: string): SourceError {
  return new SourceError(why, {
    code: 'worker-lost',
    hint: 'nothing is to be done: the pair goes on in a new process, from its checkpoint',
  });
}

/** Before its worker has said anything. */
function unseen(pair: PairSpec): PairState {
  const phase: Phase = 'checking';
  return {
    phase,
    error: null,
    facts: null,
    snapshotReceived: false,
    settled: false,
    leftBehind: false,
    wayBackOpen: false,
    wayBackNeedsCopy: null,
    snapshot: pairSnapshot({
      pair,
      phase,
      feedKind: null,
      feed: null,
      sampler: null,
      reason: null,
      valve: { paused: false, limits: NO_THROTTLE },
      wayBack: null,
      keysTotal: null,
      sourceOffset: 0,
    }),
    summary: { pair: pair.name, phase, keys: 0, seconds: 0, writeOutageMs: null, notes: [] },
  };
}
