/**
 * What the session and its worker processes say to each other, over the channel that Node opens between a process and
 * its child (structured clones: plain data, buffers). Passwords go this way and no other: never by arguments, never by
 * the environment.
 */
import { type Endpoint, type PairSpec, Secret } from '../core/endpoint.ts';
import { CutoverError, type ExitCode, type Recovery } from '../core/errors.ts';
import type { MigrationEvent, PairSnapshot, PairSummary } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import type { Phase } from '../core/phase.ts';
import type { Throttle } from '../core/throttle.ts';
import type { FleetPair, PairSize } from './fleet-pair.ts';

/** What can be asked of a pair from afar; arguments and results are plain data. */
export type RemoteCall =
  | { readonly method: 'check' }
  | { readonly method: 'start'; readonly runDir: string; readonly tuned: boolean }
  | { readonly method: 'stop'; readonly reason: string }
  | { readonly method: 'abandon'; readonly error: SentError }
  | { readonly method: 'killClients'; readonly addresses: readonly string[] }
  | { readonly method: 'pause'; readonly on: boolean }
  | { readonly method: 'throttle'; readonly limits: Throttle }
  | {
      readonly method: Exclude<
        {
          [Name in keyof FleetPair]: FleetPair[Name] extends () => Promise<unknown> ? Name : never;
        }[keyof FleetPair],
        'check'
      >;
    };

export type ToWorker =
  | {
      readonly kind: 'take';
      readonly pair: number;
      readonly spec: SentPair;
      readonly options: RunOptions;
      /** What the operator has asked for so far. */
      readonly valve: { readonly paused: boolean; readonly limits: Throttle };
      /** The folder of a run that this pair was part of before; null: it is new. */
      readonly formerRunDir: string | null;
    }
  | { readonly kind: 'call'; readonly id: number; readonly pair: number; readonly call: RemoteCall }
  | { readonly kind: 'ping' };

export type FromWorker =
  | { readonly kind: 'event'; readonly pair: number; readonly event: MigrationEvent }
  | { readonly kind: 'state'; readonly pair: number; readonly state: PairState }
  | { readonly kind: 'done'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly error: SentError }
  | { readonly kind: 'pong' };

/** All that can be seen of a pair at one moment. */
export interface PairState {
  readonly phase: Phase;
  readonly error: SentError | null;
  readonly facts: PairSize | null;
  readonly snapshotReceived: boolean;
  readonly settled: boolean;
  readonly leftBehind: boolean;
  readonly wayBackOpen: boolean;
  readonly wayBackNeedsCopy: string | null;
  readonly snapshot: PairSnapshot;
  readonly summary: PairSummary;
}

export function stateOf(pair: FleetPair): PairState {
  const { phase, error, facts, snapshotReceived, settled, leftBehind, wayBackOpen, wayBackNeedsCopy } = pair;
  return {
    phase,
    error: error === null ? null : sendError(error),
    facts:
      facts === null
        ? null
        : { usedMemory: facts.usedMemory, keysTotal: facts.keysTotal, proposals: facts.proposals },
    snapshotReceived,
    settled,
    leftBehind,
    wayBackOpen,
    wayBackNeedsCopy,
    snapshot: pair.snapshot(),
    summary: pair.summary(),
  };
}

// ---- errors ----------------------------------------------------------------------------------------------

export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code: string;
  readonly hint: string;
  readonly recovery: Recovery;
  readonly exitCode: ExitCode;
}

export function sendError({ name, message, code, hint, recovery, exitCode }: CutoverError): SentError {
  return { name, message, code, hint, recovery, exitCode };
}

/** An error of another process of ours: the same to every reader, since nobody branches on its class. */
export class RelayedError extends CutoverError {
  constructor({ name, message, ...details }: SentError) {
    super(message, details, details);
    this.name = name;
  }
}

// ---- pairs -----------------------------------------------------------------------------------------------

/** A clone leaves nothing of a Secret. */
type SentEndpoint = Omit<Endpoint, 'password'> & { readonly password: string | null };
export type SentPair = Omit<PairSpec, 'source' | 'target'> & {
  readonly source: SentEndpoint;
  readonly target: SentEndpoint;
};

export function sendPair(pair: PairSpec): SentPair {
  return { ...pair, source: sendEndpoint(pair.source), target: sendEndpoint(pair.target) };
}

export function receivePair(pair: SentPair): PairSpec {
  return { ...pair, source: receiveEndpoint(pair.source), target: receiveEndpoint(pair.target) };
}

function sendEndpoint(endpoint: Endpoint): SentEndpoint {
  return { ...endpoint, password: endpoint.password?.reveal() ?? null };
}

function receiveEndpoint({ password, tls, ...endpoint }: SentEndpoint): Endpoint {
  // a clone of a Buffer is a plain array of bytes
  const buffer = (bytes: Uint8Array | null): Buffer | null => (bytes === null ? null : Buffer.from(bytes));
  return {
    ...endpoint,
    password: password === null ? null : new Secret(password),
    tls: tls === null ? null : { ...tls, ca: buffer(tls.ca), cert: buffer(tls.cert), key: buffer(tls.key) },
  };
}
