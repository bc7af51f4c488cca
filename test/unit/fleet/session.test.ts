/**
 * The session's loop around a cutover: when it goes on, when it is over, and with which outcome. In this process no
 * Migration touches a server: what the loop calls is replaced by steps that only move the phase.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type RawOptions, resolveRunOptions } from '../../../src/cli/options.ts';
import type { PairSpec } from '../../../src/core/endpoint.ts';
import { type CutoverError, TargetError } from '../../../src/core/errors.ts';
import type { MigrationEvent, SettingProposal } from '../../../src/core/events.ts';
import { isOver, type Phase } from '../../../src/core/phase.ts';
import type { OperatorCommand } from '../../../src/core/ports.ts';
import { runMigrate } from '../../../src/fleet/session.ts';
import { Migration } from '../../../src/migrate/migration.ts';

/** A pair of this name fails in its cutover. */
const BROKEN = 'broken';

/** The cutover of a pair of this name never ends by itself. */
const HANGING = 'hanging';

/** The source of a pair of this name would do better with a larger backlog, as the first check finds. */
const TUNABLE = 'tunable';
const BACKLOG: SettingProposal = { tuning: 'backlog', setting: 'repl-backlog-size', value: '4096' };
let checks = 0;
/** For each pair that was begun, whether the operator had agreed to other settings. */
let started: boolean[] = [];

/** How many are under way, and the most that were at once. */
const cutovers = { now: 0, most: 0 };

/** Stands in for Migration: its members are put into Migration's prototype below. */
class Steered {
  declare readonly pair: PairSpec;
  declare now: { phase: Phase; wayBackOpen: boolean; error: CutoverError | null } | undefined;

  get phase(): Phase {
    return this.now?.phase ?? 'checking';
  }
  get wayBackOpen(): boolean {
    return this.now?.wayBackOpen ?? false;
  }
  get error(): CutoverError | null {
    return this.now?.error ?? null;
  }
  get wayBackNeedsCopy(): null {
    return null;
  }
  get leftBehind(): boolean {
    return false;
  }
  async check(): Promise<readonly []> {
    if (this.pair.name === TUNABLE) checks += 1;
    return [];
  }
  get facts(): { usedMemory: number; keysTotal: number; proposals: readonly SettingProposal[] } {
    const proposals = this.pair.name === TUNABLE && checks < 2 ? [BACKLOG] : [];
    return { usedMemory: 0, keysTotal: 0, proposals };
  }
  async start(_folder: unknown, tuned: boolean): Promise<void> {
    started.push(tuned);
    this.now = { phase: 'in-sync', wayBackOpen: false, error: null };
  }
  async cutOver(): Promise<void> {
    if (this.pair.name === HANGING) return new Promise(() => {});
    if (this.pair.name === BROKEN) {
      const error = new TargetError('gone', { code: 'gone', hint: 'none' });
      this.now = { phase: 'failed', wayBackOpen: false, error };
      throw error;
    }
    cutovers.now += 1;
    cutovers.most = Math.max(cutovers.most, cutovers.now);
    await new Promise((resolve) => setImmediate(resolve));
    cutovers.now -= 1;
    this.now = { phase: 'promoted', wayBackOpen: true, error: null };
  }
  async promote(): Promise<void> {
    return this.cutOver();
  }
  async rollBack(): Promise<void> {
    this.now = { phase: 'rolled-back', wayBackOpen: false, error: null };
  }
  async finish(): Promise<void> {
    this.now = { phase: 'promoted', wayBackOpen: false, error: null };
  }
  get settled(): boolean {
    return isOver(this.phase);
  }
  async stop(): Promise<void> {
    if (this.phase === 'in-sync') this.now = { phase: 'stopped', wayBackOpen: false, error: null };
  }
  async clients(): Promise<readonly []> {
    return [];
  }
  abandon(error: CutoverError): void {
    this.now = { phase: 'failed', wayBackOpen: false, error };
  }
  snapshot(): object {
    return { pair: this.pair.name, phase: this.phase, divergences: 0 };
  }
  summary(): object {
    return { pair: this.pair.name, phase: this.phase, keys: 0, seconds: 0, writeOutageMs: null, notes: [] };
  }
}
const { constructor: _, ...members } = Object.getOwnPropertyDescriptors(Steered.prototype);
Object.defineProperties(Migration.prototype, members);

function pairOf(name: string): PairSpec {
  const endpoint = (host: string) => ({ host, port: 6379, username: null, password: null, tls: null });
  return { name, source: endpoint(`old-${name}`), target: endpoint(`new-${name}`) };
}

interface Ended {
  readonly exitCode: number;
  readonly outcome: string;
  readonly phases: string;
  /** The keys that acted when each one was asked for. */
  readonly allowed: readonly string[];
  readonly said: readonly string[];
}

/**
 * Runs a session in which `keys` are pressed, and every question is answered with the right words.
 * 'interrupt' is Ctrl-C instead of a key.
 */
async function session(
  t: TestContext,
  names: readonly string[],
  keys: (OperatorCommand | 'interrupt')[],
  cutover: 'ask' | 'auto' = 'ask',
  more: RawOptions = {},
): Promise<Ended> {
  checks = 0;
  started = [];
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-session-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const around = {
    env: {},
    cwd: folder,
    now: new Date(),
    terminal: true,
    readStdin: async () => '',
    askPassword: null,
    warn: () => {},
  };
  const abort = new AbortController();
  const allowed: string[] = [];
  const events: MigrationEvent[] = [];
  const said: string[] = [];
  const exitCode = await runMigrate(
    names.map(pairOf),
    resolveRunOptions({ cutover, workers: '0', ...more }, around),
    {
      renderer: {
        event: (event) => events.push(event),
        frame() {},
        say: (line) => void said.push(line),
        step: () => () => {},
        close() {},
      },
      operator: {
        selected: () => null,
        ask: async () => null,
        next: (now) => {
          const key = keys.shift();
          assert.ok(key !== undefined, 'the session goes on without a key');
          allowed.push(now.join(' '));
          if (key === 'interrupt') {
            abort.abort();
            return new Promise(() => {});
          }
          assert.ok(now.includes(key), `${key} does not act: ${now.join(' ')}`);
          return Promise.resolve(key);
        },
        confirmByTyping: async () => {
          // the step has begun by then
          if (names.includes(HANGING)) setImmediate(() => abort.abort());
          return true;
        },
        close() {},
      },
      signal: abort.signal,
      keysLine: () => '',
      totalsLine: () => '',
    },
  );
  const last = events.at(-1);
  assert.equal(last?.event, 'summary');
  assert.deepEqual([last.exitCode, keys], [exitCode, []]);
  const phases = last.pairs.map(({ phase }) => phase).join(' ');
  return { exitCode, outcome: last.outcome, phases, allowed, said };
}

test('behind the cutover the session goes on until f, b or q', async (t) => {
  const cases = [
    ['finish', 'promoted', 0, 'promoted promoted'],
    ['roll-back', 'rolled-back', 6, 'rolled-back rolled-back'],
    ['quit', 'promoted', 0, 'promoted promoted'],
    ['interrupt', 'interrupted', 130, 'promoted promoted'],
  ] as const;
  for (const [key, outcome, exitCode, phases] of cases) {
    const ended = await session(t, ['cart', 'sess'], ['start', 'cut-over', key]);
    assert.deepEqual([ended.outcome, ended.exitCode, ended.phases], [outcome, exitCode, phases], key);
    assert.equal(ended.allowed.at(-1), 'clients roll-back finish quit help');
  }
});

test('a pair that failed beside one that was promoted or rolled back: attention', async (t) => {
  for (const [key, phases] of [
    ['finish', 'failed promoted'],
    ['roll-back', 'failed rolled-back'],
    ['quit', 'failed promoted'],
  ] as const) {
    const ended = await session(t, [BROKEN, 'cart'], ['start', 'cut-over', key]);
    assert.deepEqual([ended.outcome, ended.exitCode, ended.phases], ['partly-failed', 7, phases], key);
  }
});

test('Ctrl-C ends a session whose cutover hangs', { timeout: 60_000 }, async (t) => {
  const ended = await session(t, [HANGING], ['start', 'cut-over']);
  assert.deepEqual([ended.outcome, ended.exitCode, ended.phases], ['interrupted', 130, 'stopped']);
});

test('q before the cutover stops the pairs', async (t) => {
  const ended = await session(t, ['cart'], ['start', 'clients', 'quit']);
  assert.deepEqual([ended.outcome, ended.exitCode, ended.phases], ['cancelled', 6, 'stopped']);
});

test('--cutover auto is over with the cutover, whatever way back there is', {
  timeout: 60_000,
}, async (t) => {
  const ended = await session(t, ['cart', 'sess'], [], 'auto');
  assert.deepEqual([ended.outcome, ended.exitCode, ended.phases], ['promoted', 0, 'promoted promoted']);
});

test('--cutover auto cuts over a few at once, and all in the end', { timeout: 60_000 }, async (t) => {
  cutovers.most = 0;
  const names = Array.from({ length: 20 }, (_, at) => `pair${at}`);
  const ended = await session(t, names, [], 'auto', { parallel: '20' });
  assert.equal(ended.phases, names.map(() => 'promoted').join(' '));
  assert.equal(cutovers.most, 8);
});

test('settings of a source are shown before the start, and set with f alone', async (t) => {
  const asking = 'start start-tuned check-again quit';
  const agreed = await session(t, [TUNABLE, 'cart'], ['start-tuned', 'quit']);
  assert.equal(agreed.allowed[0], asking);
  assert.ok(agreed.said.includes('  tunable: CONFIG SET repl-backlog-size 4096'));
  assert.deepEqual(started, [true, true]);
  await session(t, [TUNABLE], ['start', 'quit']);
  assert.deepEqual(started, [false]);
  // the second check finds nothing any more
  const again = await session(t, [TUNABLE], ['check-again', 'start', 'quit']);
  assert.deepEqual(again.allowed.slice(0, 2), [asking, 'start quit']);
  assert.deepEqual([checks, started], [2, [false]]);
});

test('nobody is asked for settings that the command line agrees to, nor with --yes, which agrees to none', async (t) => {
  const named = await session(t, [TUNABLE], ['start', 'quit'], 'ask', { tuneSource: 'backlog' });
  assert.equal(named.allowed[0], 'start quit');
  const yes = await session(t, [TUNABLE], ['quit'], 'ask', { yes: true });
  assert.deepEqual([yes.said.some((line) => /CONFIG SET/.test(line)), started], [false, [false]]);
});
