/**
 * One round of the soak: the built program moves a source under traffic to a target, while the faults of a plan happen
 * to the links, to the program and to both servers; then it cuts over, with traffic and faults going on. Afterwards both
 * sides must be equal, every acknowledged write must be there once, and nothing of ours may be left on the target.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { EXIT } from '../../src/core/errors.ts';
import { compareServers, digest } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, freePort, startServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, type Cleanup } from '../helpers/server.ts';
import { until, within } from '../helpers/wait.ts';
import { ask, infoNumber } from '../scenarios/support.ts';
import { type Action, type Line, nameOf, type Plan, type Planned, type Side } from './fault-plan.ts';
import { assertCounted, witnessed } from './witness.ts';

export interface RoundResult {
  /** How often each kind of fault happened. */
  readonly faults: ReadonlyMap<string, number>;
  /** Of the source: 1 where every fault was gone on from. */
  readonly fullCopies: number;
  /** Codes of errors with which the tool left something to the operator, who did as it said. */
  readonly refusals: readonly string[];
  readonly acknowledged: number;
  readonly digest: string;
}

/** From the first fault to the end of the cutover; what takes longer hangs. */
const ROUND_LIMIT_MS = 180_000;
/** A fault whose place does not come (the copy is too short, the program is through) is given up. */
const PLACE_LIMIT_MS = 4_000;
const AT_REST_MS = 60_000;
/** Pieces of a sliced link: small, but not so that the link falls behind for ever. */
const SLICE_BYTES = 7;
const LOOPBACK = { tool: '127.0.0.2', target: '127.0.0.3' } as const;

/** @throws Error where something was lost, doubled or left, or the round hangs; its message names the folder that is kept */
export async function faultRound(t: Cleanup, plan: Plan): Promise<RoundResult> {
  const folder = mkdtempSync(join(tmpdir(), `redis-cutover-soak-${plan.seed}-`));
  const round = await Round.begin(t, plan, folder);
  try {
    const result = await within(round.run(), ROUND_LIMIT_MS, 'the end of the round');
    atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
    return result;
  } catch (error) {
    await round.keepEvidence();
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${message}\n  kept: ${folder}`, { cause: error });
  }
}

/** Starts the program, and again with `resume` each time that it was ended, until it is through. */
class Tool {
  readonly #t: Cleanup;
  readonly #runDir: string;
  readonly #targetPort: number;
  readonly #log: (what: string) => void;
  readonly runs: CliRun[] = [];
  /** For the next start. */
  cutover: 'never' | 'auto';
  #endedByUs = false;
  /** Codes of the errors with which it ended by itself. */
  readonly refusals: string[] = [];
  /** Exit 0: rejects where it ended with anything else by itself. */
  readonly through: Promise<void>;
  isThrough = false;

  constructor(
    t: Cleanup,
    folder: string,
    targetPort: number,
    cutover: 'never' | 'auto',
    args: readonly string[],
    log: (what: string) => void,
  ) {
    this.#t = t;
    this.#runDir = join(folder, 'run');
    this.#targetPort = targetPort;
    this.cutover = cutover;
    this.#log = log;
    this.through = this.#keepRunning(args);
    // awaited at the end; until then it is no unhandled rejection
    this.through.catch(() => {});
  }

  get current(): CliRun {
    const run = this.runs.at(-1);
    if (run === undefined) throw new Error('the tool was not started');
    return run;
  }

  end(signal: 'SIGKILL' | 'SIGTERM'): void {
    if (this.isThrough) return;
    this.#endedByUs = true;
    this.current.kill(signal);
  }

  async #keepRunning(args: readonly string[]): Promise<void> {
    let next = ['migrate', ...args, '--run-dir', this.#runDir];
    for (;;) {
      const options = { t: this.#t, exitTimeoutMs: ROUND_LIMIT_MS };
      const run = runCli([...next, '--cutover', this.cutover, '--json'], options);
      this.runs.push(run);
      const code = await run.exit;
      this.#log(`the tool ended with ${code}`);
      if (code === 0) {
        this.isThrough = true;
        return;
      }
      if (this.#endedByUs) this.#endedByUs = false;
      else await this.#obey(run, code);
      // one that was refused before it began has no folder
      if (existsSync(this.#runDir)) next = ['resume', this.#runDir];
    }
  }

  /** What an operator would do; throws where the tool should have gone on by itself. */
  async #obey(run: CliRun, exitCode: number | null): Promise<void> {
    const error = run.events.findLast((event) => event.event === 'error');
    const code = error === undefined ? 'needs attention' : String(error['code']);
    this.#log(`the tool ended by itself: ${exitCode}, ${code}: ${error?.['message']}`);
    this.refusals.push(code);
    // something could not be put back, or one copy after the other was broken; or a server was away at the beginning
    const untidy =
      exitCode === EXIT.attention &&
      (error === undefined || code === 'cutover-undo' || code === 'resync-loop');
    const unreachable =
      (error?.['recovery'] === 'reconnect' || code === 'target-unreachable') &&
      run.events.every((event) => event.event !== 'phase' || event['from'] === 'checking');
    // a restart has made the target a master, with the data of before, while no tool ran: as the hint says
    const emptied = code === 'target-written';
    if (emptied) await ask(this.#targetPort, 'FLUSHALL');
    if (!(untidy || unreachable || emptied) || this.refusals.length > MOST_REFUSALS) {
      throw new Error(`the tool ended with ${exitCode}, ${code}: ${error?.['message']}`);
    }
    await delay(300);
  }
}

const MOST_REFUSALS = 20;

class Round {
  readonly #t: Cleanup;
  readonly #plan: Plan;
  readonly #folder: string;
  readonly #source: DemoServer;
  #target: DemoServer;
  readonly #proxies: Readonly<Record<Line, FaultProxy>>;
  readonly #rights: unknown;
  #traffic!: Traffic;
  #tool!: Tool;
  readonly #faults = new Map<string, number>();
  /** Faults that are still going on: those of one kind and side come one after the other. */
  readonly #going = new Map<string, Promise<void>>();
  readonly #journal: string[] = [];
  readonly #began = Date.now();

  static async begin(t: Cleanup, plan: Plan, folder: string): Promise<Round> {
    for (const name of ['source', 'target']) mkdirSync(join(folder, name));
    const [source, target] = await Promise.all([
      startServer({ dir: join(folder, 'source'), args: ['--repl-timeout', '60', ...plan.sourceArgs] }),
      startServer({ dir: join(folder, 'target'), args: TARGET_ARGS, port: await freePort() }),
    ]);
    atEnd(t, () => source.stop());
    const feedPort = await freePort();
    const at = { host: LOOPBACK.target, port: feedPort };
    const proxies = {
      source: await faultProxy(t, source.port),
      target: await faultProxy(t, target.port),
      feed: await faultProxy(t, feedPort, { at, toHost: LOOPBACK.tool }),
    };
    const round = new Round(t, plan, folder, source, target, proxies, await ask(target.port, 'ACL', 'LIST'));
    atEnd(t, () => round.#target.stop());
    return round;
  }

  private constructor(
    t: Cleanup,
    plan: Plan,
    folder: string,
    source: DemoServer,
    target: DemoServer,
    proxies: Readonly<Record<Line, FaultProxy>>,
    rights: unknown,
  ) {
    this.#t = t;
    this.#plan = plan;
    this.#folder = folder;
    this.#source = source;
    this.#target = target;
    this.#proxies = proxies;
    this.#rights = rights;
  }

  async run(): Promise<RoundResult> {
    const { keys, ratePerSecond, seed, feed, end, snapshot, stream, cutover } = this.#plan;
    await loadDataset(this.#source.port, { keys, bigMembers: 2_000, seed });
    this.#traffic = await startTraffic({ port: this.#source.port, ratePerSecond, seed });
    atEnd(this.#t, async () => void (await this.#traffic.stop()));
    const { source, target, feed: line } = this.#proxies;
    const args = ['--src', source.uri, '--dst', target.uri, '--feed', feed, '--cutover-timeout', '5'];
    if (feed === 'attach')
      args.push('--listen', `${LOOPBACK.tool}:${line.port}`, '--advertise', LOOPBACK.target);
    this.#tool = new Tool(
      this.#t,
      this.#folder,
      this.#target.port,
      end === 'its own' ? 'auto' : 'never',
      args,
      (what) => this.#note(what),
    );
    // it takes a moment to begin: these lie in wait before its first byte
    await Promise.all(snapshot.map((planned) => this.#when(planned)));
    // these lie in wait for the cutover
    const beginCutover = (): Promise<unknown> => Promise.all(cutover.map((planned) => this.#when(planned)));
    let late = end === 'its own' ? beginCutover() : null;
    late?.catch(() => {});
    for (const planned of stream) await this.#when(planned);
    if (end !== 'its own') {
      this.#tool.cutover = 'auto';
      late = beginCutover();
      late.catch(() => {});
      await this.#happen({ kind: end });
    }
    await this.#tool.through;
    await late;
    await Promise.all(this.#going.values());
    return this.#judge();
  }

  /** What must hold when the tool is through. */
  async #judge(): Promise<RoundResult> {
    const { port: from } = this.#source;
    const { port: to } = this.#target;
    const refused = this.#traffic.stats().refused;
    await until(() => this.#traffic.stats().refused > refused, {
      timeoutMs: AT_REST_MS,
      what: 'writes refused on the old master',
    });
    const stats = await this.#traffic.stop();
    // the new master takes writes
    await ask(to, 'SET', 'soak:probe', '1');
    await ask(to, 'DEL', 'soak:probe');
    // attach: the old source follows
    await until(async () => (await digest(from)) === (await digest(to)), {
      timeoutMs: AT_REST_MS,
      what: 'equal digests',
    }).catch(() => this.#note('the digests differ'));
    const { different, missing, extra, first, digestA, digestB } = await compareServers(from, to);
    if (different + missing + extra > 0) {
      throw new Error(`${different} keys differ, ${missing} are missing, ${extra} too many; ${first ?? '?'}`);
    }
    if (digestA !== digestB || digestA === null)
      throw new Error(`the digests differ: ${digestA}, ${digestB}`);
    assertCounted(WITNESS_KEY, Number(await ask(to, 'GET', WITNESS_KEY)), witnessed([stats]));
    const left = await ask(to, 'EXISTS', 'redis-cutover:checkpoint', 'redis-cutover:lease');
    if (left !== 0) throw new Error('keys of ours are left on the target');
    const rights = await ask(to, 'ACL', 'LIST');
    if (JSON.stringify(rights) !== JSON.stringify(this.#rights))
      throw new Error(`users of the target: ${rights}`);
    return {
      faults: this.#faults,
      refusals: this.#tool.refusals,
      fullCopies: await infoNumber(from, 'stats', 'sync_full'),
      acknowledged: stats.acknowledged,
      digest: digestA,
    };
  }

  /** Waits for the moment, and lets it happen; given up where the moment does not come. */
  async #when({ when, what }: Planned): Promise<void> {
    if (when.kind === 'after') await delay(when.ms);
    else {
      const { place, line } = when;
      // this connection breaks at the byte itself, the others of the action a moment later
      const exact = what.kind === 'cut' || what.kind === 'reset';
      const how = what.kind === 'cut' ? 'close' : what.kind === 'reset' ? 'reset' : 'pass';
      const came = this.#proxies[line].fault({ ...place, how });
      const givenUp = Promise.race([delay(PLACE_LIMIT_MS), this.#tool.through]).then(() => 'given up');
      if ((await Promise.race([came, givenUp])) === 'given up') return;
      if (exact) this.#note(`broken at a byte of ${line}`);
      await delay(when.thenMs);
    }
    if (!this.#tool.isThrough) await this.#happen(what);
  }

  /** Begins a fault; what lasts is ended by itself. */
  async #happen(action: Action): Promise<void> {
    const name = nameOf(action);
    await this.#going.get(name);
    this.#note(name);
    this.#faults.set(name, (this.#faults.get(name) ?? 0) + 1);
    switch (action.kind) {
      case 'cut':
      case 'reset':
        for (const proxy of this.#proxiesOf(action.side))
          proxy.cutAll(action.kind === 'cut' ? 'close' : 'reset');
        return;
      case 'stall':
        return this.#forAWhile(name, action, (proxy, on) => proxy.hold(on));
      case 'refuse':
        return this.#forAWhile(name, action, (proxy, on) => {
          proxy.refuse(on);
          if (on) proxy.cutAll('close');
        });
      case 'slice':
        return this.#forAWhile(name, action, (proxy, on) => proxy.slice(on ? SLICE_BYTES : null));
      case 'SIGSTOP': {
        const { process } = action.side === 'source' ? this.#source : this.#target;
        process.kill('SIGSTOP');
        this.#going.set(
          name,
          delay(action.ms).then(() => void process.kill('SIGCONT')),
        );
        return;
      }
      case 'kill the tool':
        return this.#tool.end('SIGKILL');
      case 'quit the tool':
        return this.#tool.end('SIGTERM');
      case 'kill the target': {
        const again = this.#restartTarget();
        this.#going.set(name, again);
        return again;
      }
    }
  }

  async #restartTarget(): Promise<void> {
    const { process, port, dir } = this.#target;
    const ended = new Promise((resolve) => process.once('exit', resolve));
    process.kill('SIGKILL');
    await ended;
    this.#target = await startServer({ dir, port, args: TARGET_ARGS });
  }

  #forAWhile(
    name: string,
    { side, ms }: { readonly side: Side; readonly ms: number },
    turn: (proxy: FaultProxy, on: boolean) => void,
  ): void {
    const proxies = this.#proxiesOf(side);
    for (const proxy of proxies) turn(proxy, true);
    const over = delay(ms).then(() => {
      for (const proxy of proxies) turn(proxy, false);
    });
    this.#going.set(name, over);
  }

  #proxiesOf(side: Side | 'both'): FaultProxy[] {
    const { source, target, feed } = this.#proxies;
    switch (side) {
      case 'source':
        return [source];
      case 'target':
        return [target, feed];
      case 'both':
        return [source, target, feed];
    }
  }

  #note(what: string): void {
    this.#journal.push(`${Date.now() - this.#began} ms: ${what}`);
  }

  /** Into the folder: what happened when, what each process said, and both datasets. */
  async keepEvidence(): Promise<void> {
    writeFileSync(join(this.#folder, 'plan.json'), JSON.stringify(this.#plan, null, 2));
    writeFileSync(join(this.#folder, 'faults.txt'), `${this.#journal.join('\n')}\n`);
    for (const [at, run] of (this.#tool?.runs ?? []).entries()) {
      writeFileSync(join(this.#folder, `tool-${at}.ndjson`), run.stdout());
      writeFileSync(join(this.#folder, `tool-${at}.stderr`), run.stderr());
    }
    for (const { port, process } of [this.#source, this.#target]) {
      process.kill('SIGCONT');
      await ask(port, 'SAVE').catch(() => undefined);
    }
  }
}

const TARGET_ARGS = ['--appendonly', 'yes', '--appendfsync', 'always'] as const;
