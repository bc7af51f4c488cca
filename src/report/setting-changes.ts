/** What a run has changed on the servers, and whether it was put back: read from the journal of the run folder. Pure. */
import type { JournalLine } from '../migrate/run-folder.ts';
import { settingsFromJournal } from '../migrate/settings.ts';

/** Stands in the journal before it is done: after a crash it may have been noted only. */
export interface SettingChange {
  readonly side: 'source' | 'target';
  readonly what: string;
  /** ISO times; `putBackAt` null: it is still there, or was when the run ended. */
  readonly changedAt: string;
  readonly putBackAt: string | null;
}

/** `name` tells changes apart; the same change noted again, by a resumed run, is still the one change. */
type Noted =
  | {
      readonly kind: 'changed';
      readonly side: SettingChange['side'];
      readonly name: string;
      readonly what: string;
    }
  | { readonly kind: 'put-back'; readonly names: readonly string[] }
  | { readonly kind: 'nothing' };

const NOTHING: Noted = { kind: 'nothing' };
const NO_WRITES = 'fence: users may not write';

/** All changes for one pair, oldest first. */
export function settingChanges(journal: readonly JournalLine[], pair: string): SettingChange[] {
  const changes: SettingChange[] = [];
  /** Indices in `changes`. */
  const open = new Map<string, number>();
  for (const line of journal) {
    if (line.pair !== pair) continue;
    const noted = read(line);
    if (noted.kind === 'changed' && !open.has(noted.name)) {
      open.set(noted.name, changes.length);
      changes.push({ side: noted.side, what: noted.what, changedAt: line.at, putBackAt: null });
    }
    for (const name of noted.kind === 'put-back' ? noted.names : []) {
      const index = open.get(name);
      const change = index === undefined ? undefined : changes[index];
      if (index !== undefined && change !== undefined) changes[index] = { ...change, putBackAt: line.at };
      open.delete(name);
    }
  }
  return changes;
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
  return { kind: 'put-back', names };
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
