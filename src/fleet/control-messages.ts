/**
 * What a second terminal and a running session say to each other over the socket of the run folder: one JSON object on
 * a line each way (control-server.ts, control-client.ts). Nothing of it is secret.
 */
import { UsageError } from '../core/errors.ts';
import type { PairSnapshot } from '../core/events.ts';
import type { Phase } from '../core/phase.ts';
import { isInRange, type Throttle } from '../core/throttle.ts';
import type { SentError } from './worker-messages.ts';

/** Some pairs by name, or those of a wave, or neither: all. */
export interface PairChoice {
  readonly pairs: readonly string[] | null;
  readonly wave: string | null;
}

export type ControlRequest =
  | { readonly kind: 'status' }
  /** `confirm` are the words that let it happen, as chosenForCutover() has them. */
  | { readonly kind: 'cutover'; readonly choice: PairChoice; readonly confirm: string }
  /** `on` false: they go on. */
  | { readonly kind: 'pause'; readonly choice: PairChoice; readonly on: boolean }
  | { readonly kind: 'throttle'; readonly choice: PairChoice; readonly limits: Throttle };

export interface SessionStatus {
  /** `checking`: nothing has begun; `ending`: what runs is being put away. */
  readonly session: 'checking' | 'running' | 'ending';
  readonly pairs: readonly PairSnapshot[];
}

/** What came of a request for one pair. */
export interface PairResult {
  readonly pair: string;
  readonly phase: Phase;
  /** null: done. */
  readonly error: SentError | null;
}

export type ControlAnswer =
  | ({ readonly kind: 'status' } & SessionStatus)
  | { readonly kind: 'cutover' | 'pause' | 'throttle'; readonly results: readonly PairResult[] }
  /** Nothing was done. */
  | { readonly kind: 'refused'; readonly error: SentError };

/** What the socket can ask of a session. */
export interface ControlTarget {
  status(): SessionStatus;
  /**
   * Cuts over pair after pair; what fails in one is in its result.
   *
   * @throws PreflightError `not-now`, UsageError `unknown-pair`, `confirm`: nothing was touched
   */
  cutOver(choice: PairChoice, confirm: string): Promise<readonly PairResult[]>;
  /**
   * Holds pairs back, or lets them go on; what one refuses is in its result.
   *
   * @throws PreflightError `not-now`, UsageError `unknown-pair`: nothing was touched
   */
  pause(choice: PairChoice, on: boolean): Promise<readonly PairResult[]>;
  /** The same with limits, which take the place of those before. */
  throttle(choice: PairChoice, limits: Throttle): Promise<readonly PairResult[]>;
}

/** Names in one request; a fleet has 500 pairs at most. */
const MOST_NAMES = 1_000;

/**
 * A line of the socket as a request. Whoever can write there may ask anything: it is looked at field by field.
 *
 * @throws UsageError `bad-request`
 */
export function parseRequest(line: string): ControlRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw badRequest('it is no JSON');
  }
  if (!isObject(value)) throw badRequest('it is no object');
  switch (value['kind']) {
    case 'status':
      return { kind: 'status' };
    case 'cutover': {
      const { confirm } = value;
      if (typeof confirm !== 'string') throw badRequest('a field is missing');
      return { kind: 'cutover', choice: choiceOf(value), confirm };
    }
    case 'pause': {
      const { on } = value;
      if (typeof on !== 'boolean') throw badRequest('a field is missing');
      return { kind: 'pause', choice: choiceOf(value), on };
    }
    case 'throttle':
      return { kind: 'throttle', choice: choiceOf(value), limits: limitsOf(value) };
    default:
      throw badRequest('it asks for nothing that is known');
  }
}

/** @throws UsageError `bad-request` */
function choiceOf({ choice }: Record<string, unknown>): PairChoice {
  if (!isObject(choice)) throw badRequest('a field is missing');
  const { pairs, wave } = choice;
  if (!isNames(pairs) || (wave !== null && typeof wave !== 'string')) throw badRequest('no choice of pairs');
  return { pairs, wave };
}

/** @throws UsageError `bad-request` */
function limitsOf({ limits }: Record<string, unknown>): Throttle {
  if (!isObject(limits)) throw badRequest('a field is missing');
  const { keysPerSecond, bytesPerSecond } = limits;
  if (!isLimit(keysPerSecond) || !isLimit(bytesPerSecond)) throw badRequest('a limit is no number');
  const throttle = { keysPerSecond, bytesPerSecond };
  if (!isInRange(throttle)) throw badRequest('a limit is out of range');
  return throttle;
}

function isLimit(value: unknown): value is number | null {
  return value === null || Number.isFinite(value);
}

function isNames(value: unknown): value is readonly string[] | null {
  if (value === null) return true;
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= MOST_NAMES &&
    value.every((name) => typeof name === 'string')
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @param why without anything of the line itself */
export function badRequest(why: string): UsageError {
  return new UsageError(`the request cannot be read: ${why}`, {
    code: 'bad-request',
    hint: 'use the redis-cutover of the release that runs the session',
  });
}
