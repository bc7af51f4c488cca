/**
 * A worker process: runs the pairs that the session gives it, each a Migration, and tells what happens. It has no
 * screen, no keys and no run folder of its own. It ends with the session, at once and without a word: what it was about
 * to do is known from the journal, and resume takes it up, as after any crash.
 */
import { setFlagsFromString } from 'node:v8';
import { assertNever, crashText, InvariantError, toCutoverError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import { giveWay } from '../migrate/give-way.ts';
import { leftoversOf } from '../migrate/leftovers.ts';
import { Migration } from '../migrate/migration.ts';
import { RunFolder } from '../migrate/run-folder.ts';
import {
  type FromWorker,
  RelayedError,
  type RemoteCall,
  receivePair,
  sendError,
  stateOf,
  type ToWorker,
} from './worker-messages.ts';

/** As in bin/: see there. */
setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--no-parallel-scavenge');
Object.assign(process.report, { reportOnFatalError: false, reportOnSignal: false });

giveWay.enable();

/** Figures need no more; a change of phase is told at once. */
const STATE_EVERY_MS = 250;

interface Held {
  readonly migration: Migration;
  /** The state that was told last, as text. */
  told: string;
}

const pairs = new Map<number, Held>();
/** The run folder, opened by the first pair that needs it. */
let folder: Promise<RunFolder> | null = null;

function tell(message: FromWorker): void {
  // the session may have gone this moment: 'disconnect' ends us
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

function tellState(pair: number): void {
  const held = pairs.get(pair);
  if (held === undefined) return;
  const state = stateOf(held.migration);
  const text = JSON.stringify(state);
  if (text === held.told) return;
  held.told = text;
  tell({ kind: 'state', pair, state });
}

function openFolder(dir: string): Promise<RunFolder> {
  folder ??= RunFolder.join(dir);
  return folder;
}

async function take(message: ToWorker & { readonly kind: 'take' }): Promise<void> {
  const { pair, spec, options, valve, formerRunDir } = message;
  const former = formerRunDir === null ? null : await (await openFolder(formerRunDir)).readJournal();
  const ports = {
    emit: (event: MigrationEvent) => tell({ kind: 'event', pair, event }),
    phaseChanged: () => tellState(pair),
  };
  const left = former === null ? null : leftoversOf(former, spec.name);
  const migration = new Migration(receivePair(spec), options, ports, left);
  migration.takeValve(valve.paused, valve.limits);
  pairs.set(pair, { migration, told: '' });
}

async function obey(migration: Migration, call: RemoteCall): Promise<unknown> {
  switch (call.method) {
    case 'check':
      await migration.check();
      return null;
    case 'start':
      return migration.start(await openFolder(call.runDir), call.tuned);
    case 'stop':
      return migration.stop(call.reason);
    case 'abandon':
      return migration.abandon(new RelayedError(call.error));
    case 'killClients':
      return migration.killClients(call.addresses);
    case 'pause':
      return migration.pause(call.on);
    case 'throttle':
      return migration.throttle(call.limits);
    default:
      return migration[call.method]();
  }
}

async function answer({ id, pair, call }: ToWorker & { readonly kind: 'call' }): Promise<void> {
  try {
    await taken;
    const held = pairs.get(pair);
    if (held === undefined) throw new InvariantError(`the worker has no pair ${pair}`);
    const value = await obey(held.migration, call);
    tellState(pair);
    tell({ kind: 'done', id, value });
  } catch (error) {
    tellState(pair);
    tell({ kind: 'failed', id, error: sendError(toCutoverError(error)) });
  }
}

/** Pairs are taken one after the other; a call waits for those that came before it. */
let taken: Promise<void> = Promise.resolve();

process.on('message', (message: ToWorker) => {
  switch (message.kind) {
    case 'take':
      taken = taken.then(() => take(message));
      // the call that waits for it says why
      taken.catch(() => undefined);
      return;
    case 'call':
      void answer(message);
      return;
    case 'ping':
      tell({ kind: 'pong' });
      return;
    default:
      assertNever(message);
  }
});
process.on('disconnect', () => process.exit(0));
process.on('uncaughtException', (error) => {
  // the session shows the message (worker-pool.ts)
  process.stderr.write(`${crashText(error)}\n`);
  process.exit(1);
});
// Ctrl-C in the terminal reaches the whole group: the session alone decides what it means
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
setInterval(() => {
  for (const pair of pairs.keys()) tellState(pair);
}, STATE_EVERY_MS);
