/** What a run has changed on the servers, and whether it was put back: read from the journal of the run folder. Pure. */
import { assertNever } from '../core/errors.ts';
import type { JournalLine } from '../migrate/run-folder.ts';
import { settingsFromJournal } from '../migrate/settings.ts';
import { tunedFromJournal, tunedText } from '../migrate/source-tuning.ts';

/** Stands in the journal before it is done: after a crash it may have been noted only. */
export interface SettingChange {
  readonly side: 'source' | 'target';
  readonly what: string;
  /** ISO times; `putBackAt` null: it is still there, or was when the run ended. */
  readonly changedAt: string;
  readonly putBackAt: string | null;
}

/** `left`: somebody else has changed it since, so it is not ours any more. `not-made`: the server has refused it. */
type Ending = 'put-back' | 'left' | 'not-made';

/** `name` tells changes apart; the same change noted again, by a resumed run, is still the one change. */
type Noted =
  | {
      readonly kind: 'changed';
      readonly side: SettingChange['side'];
      readonly name: string;
      readonly what: string;
    }
  | { readonly kind: 'ended'; readonly how: Ending; readonly names: readonly string[] }
  | { readonly kind: 'nothing' };

const NOTHING: Noted = { kind: 'nothing' };
const NO_WRITES = 'fence: users may not write';

/** All changes for one pair, oldest first. */
export function settingChanges(journal: readonly JournalLine[], pair: string): SettingChange[] {
  const changes: (SettingChange | null)[] = [];
  /** Indices in `changes`. */
  const open = new Map<string, number>();
  for (const line of journal) {
    if (line.pair !== pair) continue;
    const noted = read(line);
    if (noted.kind === 'changed' && !open.has(noted.name)) {
      open.set(noted.name, changes.length);
      changes.push({ side: noted.side, what: noted.what, changedAt: line.at, putBackAt: null });
    }
    if (noted.kind !== 'ended') continue;
    for (const name of noted.names) {
      const index = open.get(name);
      const change = index === undefined ? null : (changes[index] ?? null);
      if (index !== undefined && change !== null) changes[index] = ended(change, noted.how, line.at);
      open.delete(name);
    }
  }
  return changes.filter((change) => change !== null);
}

/** null: there was no change. */
function ended(change: SettingChange, how: Ending, at: string): SettingChange | null {
  switch (how) {
    case 'put-back':
      return { ...change, putBackAt: at };
    case 'left':
      return { ...change, what: `${change.what}; changed by somebody else meanwhile, and left so` };
    case 'not-made':
      return null;
    default:
      return assertNever(how);
  }
}

function read({ kind, data }: JournalLine): Noted {
  switch (kind) {
    case 'source-fence':
      return data === null ? putBack(kind) : changed('source', kind, NO_WRITES);
    case 'source-fence-lifted':
      // a change of roles that is undone takes its PINGs along
      return putBack('source-fence', 'swap');
    case 'target-fence':
      return data === null ? putBack(kind) : changed('target', kind, NO_WRITES);
    case 'target-fence-lifted':
      return putBack('target-fence', 'back-swap');
    case 'run-user':
      return changed('target', kind, 'a user of the run');
    case 'run-user-dropped':
      return putBack('run-user');
    case 'source-user':
      return changed('source', kind, 'a user of the run, for the way back');
    case 'source-user-dropped':
      return putBack('source-user');
    case 'import-mode':
      return data === true ? changed('target', kind, 'import-mode: was no') : putBack(kind);
    case 'tuned': {
      const tuned = tunedFromJournal(data);
      return tuned === null ? NOTHING : changed('source', `tuned ${tuned.tuning}`, tunedText(tuned));
    }
    case 'tuned-back':
      return putBack(`tuned ${String(data)}`);
    case 'tuned-left':
      return { kind: 'ended', how: 'left', names: [`tuned ${String(data)}`] };
    case 'tuned-refused':
      return { kind: 'ended', how: 'not-made', names: [`tuned ${String(data)}`] };
    case 'attach':
      return changed('target', kind, ['replica of the run', ...valuesBefore(data)].join('; '));
    case 'attach-released':
      return putBack('attach');
    case 'swap':
      return data === null ? putBack(kind) : pingsKeptAway('source', kind, data);
    case 'back-swap':
      return data === null ? putBack(kind) : pingsKeptAway('target', kind, data);
    default:
      return NOTHING;
  }
}

function changed(side: SettingChange['side'], name: string, what: string): Noted {
  return { kind: 'changed', side, name, what };
}

function putBack(...names: readonly string[]): Noted {
  return { kind: 'ended', how: 'put-back', names };
}

function pingsKeptAway(side: SettingChange['side'], name: string, swap: unknown): Noted {
  const pings = typeof swap === 'object' && swap !== null && 'pings' in swap ? swap.pings : null;
  const [before] = valuesBefore([pings]);
  return before === undefined ? NOTHING : changed(side, name, before);
}

function valuesBefore(settings: unknown): string[] {
  return settingsFromJournal(settings).map(
    ({ name, value }) => `${name}: was ${value === '' ? '""' : value}`,
  );
}
