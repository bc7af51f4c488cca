/**
 * The session's loop around a cutover: when it goes on, when it is over, and with which outcome. In this process no
 * Migration touches a server: what the loop calls is replaced by steps that only move the phase.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { resolveRunOptions } from '../../../src/cli/options.ts';
import type { PairSpec } from '../../../src/core/endpoint.ts';
import { type CutoverError, TargetError } from '../../../src/core/errors.ts';
import type { MigrationEvent } from '../../../src/core/events.ts';
import { isOver, type Phase } from '../../../src/core/phase.ts';
import type { OperatorCommand } from '../../../src/core/ports.ts';
import { runMigrate } from '../../../src/fleet/session.ts';
import { Migration } from '../../../src/migrate/migration.ts';

/** A pair of this name fails in its cutover. */
const BROKEN = 'broken';

/** The cutover of a pair of this name never ends by itself. */
const HANGING = 'hanging';

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
    return [];
  }
  async start(): Promise<void> {
    this.now = { phase: 'in-sync', wayBackOpen: false, error: null };
  }
  async cutOver(): Promise<void> {
    if (this.pair.name === HANGING) return new Promise(() => {});
    if (this.pair.name === BROKEN) {
      const error = new TargetError('gone', { code: 'gone', hint: 'none' });
      this.now = { phase: 'failed', wayBackOpen: false, error };
      throw error;
    }
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
): Promise<Ended> {
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
  const exitCode = await runMigrate(names.map(pairOf), resolveRunOptions({ cutover, workers: '0' }, around), {
    renderer: {
      event: (event) => events.push(event),
      frame() {},
      say() {},
      step: () => () => {},
      close() {},
    },
    operator: {
      selected: () => null,
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
  });
  const last = events.at(-1);
  assert.equal(last?.event, 'summary');
  assert.deepEqual([last.exitCode, keys], [exitCode, []]);
  const phases = last.pairs.map(({ phase }) => phase).join(' ');
  return { exitCode, outcome: last.outcome, phases, allowed };
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
