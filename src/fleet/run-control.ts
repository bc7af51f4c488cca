/**
 * What can be asked of a running session from a second terminal, over its pairs: the session's side of the socket
 * (control-server.ts). The keyboard does the same by operator-keys.ts.
 */
import { type CutoverError, EXIT, PreflightError, toCutoverError, UsageError } from '../core/errors.ts';
import type { MigrationEvent, PairSnapshot } from '../core/events.ts';
import { isOver, type Phase } from '../core/phase.ts';
import { printable } from '../core/text.ts';
import { type Throttle, throttleText } from '../core/throttle.ts';
import type { ControlTarget, PairChoice, PairResult, SessionStatus } from './control-messages.ts';
import { sendError } from './worker-messages.ts';

/** What it needs of a pair; FleetPair has it. */
export interface ControlledPair {
  readonly pair: { readonly name: string; readonly wave?: string };
  readonly phase: Phase;
  readonly paused: boolean;
  promote(): Promise<void>;
  pause(on: boolean): Promise<void>;
  throttle(limits: Throttle): Promise<void>;
}

/** What it needs of the session. */
export interface ControlledSession {
  readonly pairs: readonly ControlledPair[];
  /** More pairs of one request that fail than that, and the rest stays in sync; null: any number. */
  readonly maxFailures: number | null;
  /** null: no canary; else a wave's first pair is cut over alone, and the wave is asked for again for the others. */
  readonly canaryMs: number | null;
  phase(): SessionStatus['session'];
  snapshots(): readonly PairSnapshot[];
  emit(event: MigrationEvent): void;
  report(error: CutoverError, pair: string): void;
  /** What changes sides must not be compared any more. */
  stopComparing(): Promise<void>;
}

/** Names shown in a refusal. */
const NAMES_SHOWN = 5;

/** The session as the socket's server sees it. */
export function controlOf(session: ControlledSession): ControlTarget {
  let cuttingOver = false;
  return {
    status: () => ({ session: session.phase(), pairs: session.snapshots() }),
    async cutOver(choice, confirm) {
      if (session.phase() !== 'running') throw notNow(`the session is ${session.phase()}`);
      if (cuttingOver) throw notNow('a cutover that was asked for before is under way');
      const { pairs, words } = chosenForCutover(session.pairs, choice, choosable);
      if (confirm !== words) {
        throw new UsageError('the words that let the cutover happen are others', {
          code: 'confirm',
          hint: `--confirm "${printable(words)}"`,
        });
      }
      cuttingOver = true;
      try {
        return await cutOverEach(session, dueNow(session, choice, pairs));
      } finally {
        cuttingOver = false;
      }
    },
    pause: (choice, on) =>
      changeEach(session, choice, on ? 'pause' : 'pause --off', (pair) => pair.pause(on)),
    throttle: (choice, limits) =>
      changeEach(session, choice, `throttle ${throttleText(limits) || '--off'}`, (pair) =>
        pair.throttle(limits),
      ),
  };
}

/** With `--canary`, of a wave of which nothing is through its first pair; as the key for a wave (operator-keys.ts). */
function dueNow(
  { pairs: all, canaryMs }: ControlledSession,
  choice: PairChoice,
  chosen: readonly ControlledPair[],
): readonly ControlledPair[] {
  const whole = choice.pairs === null && choice.wave !== null;
  const untouched = chosen.length === chosenPairs(all, choice, choosable).length;
  return canaryMs !== null && whole && untouched ? chosen.slice(0, 1) : chosen;
}

/** Of a wave, and of all, those that are over are left out. */
async function changeEach(
  session: ControlledSession,
  choice: PairChoice,
  action: string,
  work: (pair: ControlledPair) => Promise<void>,
): Promise<readonly PairResult[]> {
  if (session.phase() !== 'running') throw notNow(`the session is ${session.phase()}`);
  const chosen = chosenPairs(session.pairs, choice, choosable);
  const pairs = choice.pairs === null ? chosen.filter(({ phase }) => !isOver(phase)) : chosen;
  if (pairs.length === 0) throw notNow('no pair is left that something could be changed of');
  return Promise.all(
    pairs.map(async (pair): Promise<PairResult> => {
      const { name } = pair.pair;
      const done = (result: 'done' | 'failed'): void =>
        session.emit({ event: 'action', pair: name, by: 'control', action, result });
      try {
        await work(pair);
        done('done');
        return { pair: name, phase: pair.phase, error: null };
      } catch (thrown) {
        const error = toCutoverError(thrown);
        session.report(error, name);
        done('failed');
        return { pair: name, phase: pair.phase, error: sendError(error) };
      }
    }),
  );
}

function choosable({ pair, phase, paused }: ControlledPair): ChoosablePair {
  return { name: pair.name, wave: pair.wave ?? null, phase, paused };
}

async function cutOverEach(
  session: ControlledSession,
  pairs: readonly ControlledPair[],
): Promise<readonly PairResult[]> {
  const results: PairResult[] = [];
  const tell = (pair: string, result: 'asked' | 'done' | 'failed'): void =>
    session.emit({ event: 'action', pair, by: 'control', action: 'cutover', result });
  for (const { pair } of pairs) tell(pair.name, 'asked');
  await session.stopComparing();
  let failures = 0;
  for (const pair of pairs) {
    const { name } = pair.pair;
    try {
      if (session.maxFailures !== null && failures > session.maxFailures) {
        throw notNow(`${failures} pairs before it did not come through (--max-failures)`);
      }
      if (session.phase() !== 'running') throw notNow('the session ends');
      await pair.promote();
      tell(name, 'done');
      results.push({ pair: name, phase: pair.phase, error: null });
    } catch (thrown) {
      const error = toCutoverError(thrown);
      failures += 1;
      session.report(error, name);
      tell(name, 'failed');
      results.push({ pair: name, phase: pair.phase, error: sendError(error) });
    }
  }
  return results;
}

/** What is looked at of a pair to choose it. */
interface ChoosablePair {
  readonly name: string;
  readonly wave: string | null;
  readonly phase: Phase;
  readonly paused: boolean;
}

/**
 * The pairs that a cutover is for, and the words that let it happen: the name of a single pair, `wave NAME`, or
 * `cut over 3`. Of a wave, and of all, those that are through already are left out. Both ends of the socket use this.
 *
 * @throws UsageError `unknown-pair`; PreflightError `not-now` where one of them is not in sync: no part of a choice is
 *   cut over without the rest
 */
export function chosenForCutover<Pair>(
  all: readonly Pair[],
  choice: PairChoice,
  look: (pair: Pair) => ChoosablePair,
): { readonly pairs: readonly Pair[]; readonly words: string } {
  const chosen = chosenPairs(all, choice, look);
  const pairs = choice.pairs === null ? chosen.filter((pair) => !isOver(look(pair).phase)) : chosen;
  if (pairs.length === 0) throw notNow('no pair is left to be cut over');
  const unready = pairs
    .map(look)
    .filter(({ phase, paused }) => paused || (phase !== 'in-sync' && phase !== 'writable'));
  if (unready.length > 0) {
    const names = unready
      .slice(0, NAMES_SHOWN)
      .map(({ name, phase, paused }) => `${printable(name)} is ${paused ? 'paused' : phase}`);
    const more =
      unready.length > NAMES_SHOWN ? `, and ${unready.length - NAMES_SHOWN} more are not in sync` : '';
    throw notNow(`${names.join(', ')}${more}`);
  }
  const [first] = pairs;
  if (choice.wave !== null && choice.pairs === null) return { pairs, words: `wave ${choice.wave}` };
  return { pairs, words: pairs.length === 1 && first ? look(first).name : `cut over ${pairs.length}` };
}

/**
 * All pairs, those of a wave, or those that are named.
 *
 * @throws UsageError `unknown-pair` where a name, or the wave, is of none
 */
export function chosenPairs<Pair>(
  all: readonly Pair[],
  { pairs, wave }: PairChoice,
  look: (pair: Pair) => Pick<ChoosablePair, 'name' | 'wave'>,
): readonly Pair[] {
  const unknown = pairs?.find((name) => !all.some((pair) => look(pair).name === name));
  if (unknown !== undefined) throw unknownPair(`no pair is called "${printable(unknown)}"`);
  if (wave !== null && !all.some((pair) => look(pair).wave === wave)) {
    throw unknownPair(`no wave is called "${printable(wave)}"`);
  }
  return all.filter((pair) => {
    const { name, wave: own } = look(pair);
    return (pairs === null || pairs.includes(name)) && (wave === null || own === wave);
  });
}

function unknownPair(message: string): UsageError {
  return new UsageError(message, { code: 'unknown-pair', hint: 'redis-cutover status RUN_DIR lists them' });
}

function notNow(why: string): PreflightError {
  return new PreflightError(`not now: ${why}`, {
    code: 'not-now',
    hint: 'nothing was touched: redis-cutover status RUN_DIR says how things are',
    exitCode: EXIT.attention,
  });
}
