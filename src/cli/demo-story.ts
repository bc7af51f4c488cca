/**
 * The demo: two throwaway servers, an application that keeps writing, and between them the very migration that
 * `redis-cutover migrate` runs. Behind it the proof: every key compared, both digests, and the acknowledged writes
 * counted on the new server. Whatever happens, servers and folders are removed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Endpoint } from '../core/endpoint.ts';
import { EXIT, type ExitCode } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import type { Operator, Renderer } from '../core/ports.ts';
import { compareServers } from '../demo/compare.ts';
import { loadDataset } from '../demo/dataset.ts';
import { findServer } from '../demo/find-server.ts';
import { type DemoServer, startServer } from '../demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../demo/traffic.ts';
import { runMigrate, type SessionIo } from '../fleet/session.ts';
import { RespConnection } from '../resp/connection.ts';
import { filtered } from '../ui/filter.ts';
import { formatCount, formatDuration } from '../ui/format.ts';

type Summary = Extract<MigrationEvent, { event: 'summary' }>;

const WRITES_PER_SECOND = 2_000;
/** The pair's name: what is typed to promote. */
const PAIR = 'demo';
/** Behind the cutover the application goes on until a write of it was refused, at most this long. */
const REFUSAL_WAIT_MS = 2_000;

interface Stage {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
}

/** What must be undone, last in, first out. */
type CleanUps = (() => unknown)[];

/**
 * Runs the demo to its `summary` event. The run folder is a temporary one, whatever `options.runDir` says.
 *
 * @param keys how many keys to load
 * @returns 0 where the target was promoted and holds the same data, 5 where they differ, else the migration's code
 * @throws UsageError `no-redis-server`; SourceError where a server of the demo fails; AbortError after a signal
 */
export async function runDemo(keys: number, options: RunOptions, io: SessionIo): Promise<ExitCode> {
  const cleanUps: CleanUps = [];
  const stage = setStage(keys, io.renderer, cleanUps);
  try {
    const { source, target, traffic } = await orAborted(stage, io.signal);
    const runDir = temporaryFolder(cleanUps);
    const { renderer, summary } = holdingSummary(io.renderer, traffic);
    const operator = explaining(io.operator, io.renderer);
    if (options.cutover === 'ask') io.renderer.say(EXPLAIN_START);
    await runMigrate(
      [{ name: PAIR, source: endpointOf(source), target: endpointOf(target) }],
      { ...options, runDir },
      { ...io, renderer, operator },
    );
    let ended = summary();
    if (ended.exitCode === EXIT.done) {
      const equal = await orAborted(prove({ source, target, traffic }, ended, io.renderer), io.signal);
      if (!equal) ended = { ...ended, outcome: 'different', exitCode: EXIT.different };
    } else {
      io.renderer.say('There was no cutover, so there is nothing to compare.');
    }
    await undo(cleanUps);
    io.renderer.say('Both servers and their folders are removed.');
    io.renderer.event(ended);
    return ended.exitCode as ExitCode;
  } finally {
    await undo(cleanUps);
    // what was still being set up has lost its servers by now; it may have left something to undo
    await stage.catch(() => {});
    await undo(cleanUps);
  }
}

async function undo(cleanUps: CleanUps): Promise<void> {
  for (let last = cleanUps.pop(); last !== undefined; last = cleanUps.pop()) await last();
}

/** `work`, or the signal's AbortError as soon as it comes; `work` then ends by itself, unheard. */
function orAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

async function setStage(keys: number, renderer: Renderer, cleanUps: CleanUps): Promise<Stage> {
  const binary = findServer((text) => renderer.say(text));
  const started = renderer.step('starting two throwaway servers');
  // the demo is about the move, not about what check would have an operator set first
  const source = await startServer({ binary, args: ['--repl-backlog-size', '64mb'] });
  cleanUps.push(() => source.stop());
  const target = await startServer({ binary });
  cleanUps.push(() => target.stop());
  started('ok', `two throwaway servers ${source.version}: old on port ${source.port}, new on ${target.port}`);

  const loading = renderer.step(`loading ${formatCount(keys)} keys of all types into the old one`);
  const loaded = await loadDataset(source.port, { keys });
  loading('ok', `${formatCount(loaded)} keys of all types in three databases`);

  const traffic = await startTraffic({ port: source.port, ratePerSecond: WRITES_PER_SECOND });
  cleanUps.push(() => traffic.stop());
  renderer.say(
    `An application writes ${formatCount(WRITES_PER_SECOND)} times a second now (INCR, RPUSH, LPOP, APPEND, MULTI ...): ` +
      'a write that is lost, or done twice, leaves other data behind.',
  );
  return { source, target, traffic };
}

/** Removed with the rest, and by process.exit() too: a second Ctrl-C ends with that. (servers see to it themselves) */
function temporaryFolder(cleanUps: CleanUps): string {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-demo-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  cleanUps.push(() => {
    process.off('exit', remove);
    remove();
  });
  return folder;
}

function endpointOf(server: DemoServer): Endpoint {
  return { host: '127.0.0.1', port: server.port, username: null, password: null, tls: null };
}

/** Keeps the migration's summary back, for the demo's own end comes later; tells what the application has done so far. */
function holdingSummary(inner: Renderer, traffic: Traffic): { renderer: Renderer; summary: () => Summary } {
  let held: Summary = { event: 'summary', outcome: 'failed', exitCode: EXIT.failed, pairs: [] };
  const renderer = filtered(inner, (event) => {
    if (event.event === 'summary') {
      // notes tell how to lift the fence of a server that is about to vanish
      held = { ...event, pairs: event.pairs.map((pair) => ({ ...pair, notes: [] })) };
      return;
    }
    inner.event(event);
    if (event.event === 'phase' && event.to === 'in-sync') {
      const { acknowledged } = traffic.stats();
      inner.say(`The application has written ${formatCount(acknowledged)} times and noticed nothing.`);
    }
  });
  return { renderer, summary: () => held };
}

/** Says what the keys of each moment do, once, before they can be pressed. */
function explaining(inner: Operator, renderer: Renderer): Operator {
  const said = new Set<string>();
  const sayOnce = (text: string): void => {
    if (!said.has(text)) renderer.say(text);
    said.add(text);
  };
  return {
    selected: () => inner.selected(),
    next(allowed) {
      if (allowed.includes('enable-writes')) sayOnce(EXPLAIN_IN_SYNC);
      else if (allowed.includes('promote')) sayOnce(EXPLAIN_WRITABLE);
      return inner.next(allowed);
    },
    confirmByTyping: (question, expected) => inner.confirmByTyping(question, expected),
    ask: (question) => inner.ask(question),
    close: () => inner.close(),
  };
}

const EXPLAIN_START = `
Nothing is changed yet. After s nobody but us can write to the new server, and we follow the old one as a replica. \
After q, at any time, the old server is as it was.
`;
const EXPLAIN_IN_SYNC = `
The new server has all that the old one has, and keeps up. Here you would wait for the right hour.
l  shows who is still on the old server.
c  cuts over: no more writes on the old server, the last ones are carried over, the new one is the master.
e  lets the new server take writes beside the old one, for applications that are moved one by one; then m.
`;
const EXPLAIN_WRITABLE = `
The new server takes writes now: you would move your applications, and see with l who is left. The one of the demo \
stays, so that m can be seen to stop its writes.
`;

/** Ends the application, compares both servers and says what was found; true where they are equal. */
async function prove(
  { source, target, traffic }: Stage,
  migrated: Summary,
  renderer: Renderer,
): Promise<boolean> {
  const deadline = Date.now() + REFUSAL_WAIT_MS;
  while (traffic.stats().refused === 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const writes = await traffic.stop();
  const comparing = renderer.step('comparing every key of both servers');
  const found = await compareServers(source.port, target.port);
  const counted = await witnessOn(target.port);
  comparing('ok', 'compared every key of both servers');

  const { compared, different, missing, extra, digestA, digestB } = found;
  renderer.event({ event: 'verify', pair: PAIR, compared, different, missing, extra });
  const digests =
    digestA === null ? 'not to be had' : digestA === digestB ? `equal (${digestA})` : 'DIFFERENT';
  const outageMs = migrated.pairs[0]?.writeOutageMs ?? null;
  const countsAgree = counted >= writes.witness && counted <= writes.witness + writes.unanswered;
  const equal = different + missing + extra === 0 && digestA === digestB && countsAgree;
  const lines = [
    `write outage: ${outageMs === null ? 'none' : formatDuration(outageMs / 1000)}`,
    `writes acknowledged by the old server: ${formatCount(writes.acknowledged)}; refused after the cutover: ${formatCount(writes.refused)}`,
    `one counter went up with each batch: ${formatCount(writes.witness)} times acknowledged, ${formatCount(counted)} on the new server`,
    `digests (DEBUG DIGEST): ${digests}`,
    ...(found.first === null ? [] : [`first difference: ${found.first}`]),
    equal
      ? 'EQUAL: the new server holds every acknowledged write, exactly once.'
      : 'DIFFERENT: this must not happen; please report it with the lines above.',
  ];
  for (const message of lines) renderer.event({ event: 'note', message });
  return equal;
}

async function witnessOn(port: number): Promise<number> {
  const connection = await RespConnection.connect(port);
  try {
    return Number(await connection.call('GET', WITNESS_KEY));
  } finally {
    connection.close();
  }
}
