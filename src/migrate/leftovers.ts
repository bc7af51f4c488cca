/**
 * What a run that ended, or was ended, has left: read from the run folder's journal. Pure; resume acts on it.
 * A fence stands in the journal before it is set, so "set" here means "may be set".
 */
import { CheckpointError } from '../core/errors.ts';
import type { Phase } from '../core/phase.ts';
import type { StopPlace } from './attach-feed.ts';
import type { AttachAddress } from './attach-hold.ts';
import { type KeptCopy, keptCopyFromJournal } from './kept-copy.ts';
import type { JournalEntry } from './run-folder.ts';
import { type Setting, settingsFromJournal } from './settings.ts';
import { type TunedSetting, tunedFromJournal } from './source-tuning.ts';

export interface OwnHistory {
  readonly replid: string;
  /** It is the source's history `of` up to here. */
  readonly of: string;
  readonly offset: number;
}

export interface UselessTarget {
  /** The source's history then. */
  readonly of: string;
  /** The target's: another one. */
  readonly replid: string;
  /** See change-mark.ts. */
  readonly mark: string;
}

export interface Leftovers {
  /** The last phase that was noted; null: the pair was never begun. */
  readonly phase: Phase | null;
  /** As written by Fence.toJournal(); null: lifted, or never set. */
  readonly targetFence: unknown;
  readonly sourceFence: unknown;
  /** True where the cutover had come as far as letting the applications onto the target, the source fenced. */
  readonly cutOver: boolean;
  readonly runUser: boolean;
  /** How the target was fed; null: not decided yet. */
  readonly feed: 'attach' | 'write' | null;
  /** Settings of an attached target that may be changed, with the values of before; null: put back, or never changed. */
  readonly attached: readonly Setting[] | null;
  /** Where in the stream an attached target was when it was given back; null: not known, or it was not. */
  readonly releasedAt: StopPlace | null;
  /** What an attached target called its history when a change of roles was undone, and up to where it is ours; null: none was. */
  readonly ownHistory: OwnHistory | null;
  /** An attached target that was given back without a place in the source's history; null: it had one, or is not known. */
  readonly useless: UselessTarget | null;
  /** Where an attached target was told to find us, the last time; null: never. */
  readonly attachedAt: AttachAddress | null;
  /** Where **e** has made, or was about to make, an attached target a master. */
  readonly handover: StopPlace | null;
  /** A change of roles that may have begun, and what must be put back on the source. */
  readonly swap: { readonly pings: Setting | null } | null;
  /** The same for a rollback; the PINGs are the target's. */
  readonly backSwap: { readonly pings: Setting | null } | null;
  /** True where a user of ours may be on the source, for the way back. */
  readonly sourceUser: boolean;
  /** True where the target may be in import mode, see expiry.ts. */
  readonly importMode: boolean;
  /** What others have written to the target, as it was found; null: nothing. */
  readonly foreignWrites: string | null;
  /** A copy that the spool keeps, and that was not known to be loaded; null: none. */
  readonly kept: KeptCopy | null;
  /** Settings of the source that may be changed for the run. */
  readonly tuned: readonly TunedSetting[];
}

export function leftoversOf(journal: readonly JournalEntry[], pair: string): Leftovers {
  let phase: Phase | null = null;
  let targetFence: unknown = null;
  let sourceFence: unknown = null;
  let cutOver = false;
  let runUser = false;
  let feed: Leftovers['feed'] = null;
  let attached: Leftovers['attached'] = null;
  let releasedAt: Leftovers['releasedAt'] = null;
  let ownHistory: Leftovers['ownHistory'] = null;
  let useless: Leftovers['useless'] = null;
  let attachedAt: Leftovers['attachedAt'] = null;
  let handover: Leftovers['handover'] = null;
  let swap: Leftovers['swap'] = null;
  let backSwap: Leftovers['backSwap'] = null;
  let sourceUser = false;
  let importMode = false;
  let kept: Leftovers['kept'] = null;
  let foreignWrites: string | null = null;
  const tuned = new Map<string, TunedSetting>();
  for (const entry of journal) {
    if (entry.pair !== pair) continue;
    switch (entry.kind) {
      case 'phase':
        phase = entry.data as Phase;
        break;
      case 'run-user':
        runUser = true;
        break;
      case 'run-user-dropped':
        runUser = false;
        break;
      case 'feed':
        feed = entry.data === 'attach' ? 'attach' : 'write';
        break;
      case 'attach-at':
        attachedAt = entry.data as AttachAddress;
        break;
      case 'attach':
        attached = settingsFromJournal(entry.data);
        releasedAt = null;
        useless = null;
        break;
      case 'attach-useless':
        useless = entry.data as UselessTarget;
        break;
      case 'attach-own-history':
        ownHistory = entry.data as OwnHistory;
        break;
      case 'attach-released':
        attached = null;
        releasedAt = entry.data as StopPlace | null;
        break;
      case 'handover':
        handover = entry.data as StopPlace | null;
        break;
      case 'swap':
        swap = entry.data as Leftovers['swap'];
        break;
      case 'back-swap':
        backSwap = entry.data as Leftovers['backSwap'];
        break;
      case 'source-user':
        sourceUser = true;
        break;
      case 'source-user-dropped':
        sourceUser = false;
        break;
      case 'foreign-writes':
        foreignWrites = entry.data === null ? null : String(entry.data);
        break;
      case 'kept-copy':
        kept = keptCopyFromJournal(entry.data);
        break;
      case 'tuned': {
        const setting = tunedFromJournal(entry.data);
        if (setting !== null) tuned.set(setting.tuning, setting);
        break;
      }
      case 'tuned-back':
      case 'tuned-left':
      case 'tuned-refused':
        tuned.delete(String(entry.data));
        break;
      case 'import-mode':
        importMode = entry.data === true;
        break;
      case 'target-fence':
        targetFence = entry.data;
        cutOver = false;
        break;
      case 'target-fence-lifted':
        targetFence = null;
        cutOver = sourceFence !== null;
        break;
      case 'source-fence':
        sourceFence = entry.data;
        break;
      case 'source-fence-lifted':
        sourceFence = null;
        cutOver = false;
        break;
      default:
        throw new CheckpointError(`the journal of the run holds an entry of unknown kind "${entry.kind}"`, {
          code: 'run-dir-damaged',
          hint: 'the run was made by another release of redis-cutover: resume it with that one',
        });
    }
  }
  return {
    phase,
    targetFence,
    sourceFence,
    cutOver,
    runUser,
    feed,
    attached,
    releasedAt,
    ownHistory,
    useless,
    attachedAt,
    handover,
    swap,
    backSwap,
    sourceUser,
    importMode,
    kept,
    foreignWrites,
    tuned: [...tuned.values()],
  };
}
