/**
 * What the snapshot loses on the way to a target that has no place for it: counted, each kind told once behind the copy.
 * Without --allow-loss the first that is more than bookkeeping stops the run.
 */
import { assertNever, TargetError } from '../../core/errors.ts';
import type { Loss as ValueLoss } from '../../rdb/transcode.ts';

export type Loss =
  | ValueLoss
  | 'functions'
  /** Members of sets, sorted sets and hashes that would expire (KeyDB's EXPIREMEMBER) stay. */
  | 'member-ttls';

/** No application is told these by any command but XINFO: they need no flag. */
const BOOKKEEPING: ReadonlySet<Loss> = new Set(['stream-counters']);

export class Losses {
  readonly #allowed: boolean;
  readonly #counts = new Map<Loss, number>();
  /** Entries from here on are not counted yet: an entry can come twice. */
  #countedTo = -1;

  /** @param allowed whether --allow-loss was given */
  constructor(allowed: boolean) {
    this.#allowed = allowed;
  }

  /** The copy begins, or begins again. */
  begin(): void {
    this.#counts.clear();
    this.#countedTo = -1;
  }

  /**
   * Something is about to be lost.
   * @param position of the entry or record that loses it
   * @param keyDigest of the key; null: it has none
   * @throws TargetError `would-lose`
   */
  meet(losses: readonly Loss[], position: number, keyDigest: string | null): void {
    if (position <= this.#countedTo) return;
    this.#countedTo = position;
    for (const loss of losses) {
      if (!this.#allowed && !BOOKKEEPING.has(loss)) throw wouldLose(loss, keyDigest);
      this.#counts.set(loss, (this.#counts.get(loss) ?? 0) + 1);
    }
  }

  /** What was lost, a sentence for each kind. */
  told(): readonly string[] {
    return [...this.#counts].map(
      ([loss, count]) => `lost, since the target has no place for it: ${described(loss, count)}`,
    );
  }
}

function wouldLose(loss: Loss, keyDigest: string | null): TargetError {
  const what = `the target has no place for ${described(loss, 1)}`;
  return new TargetError(keyDigest === null ? what : `${what} (key ${keyDigest})`, {
    code: 'would-lose',
    hint: 'take a newer release for the target, or go on without such things: redis-cutover resume RUN_DIR --allow-loss',
    ...(keyDigest === null ? {} : { keyDigest }),
  });
}

function described(loss: Loss, count: number): string {
  const of = (one: string, several: string): string => `${count} ${count === 1 ? one : several}`;
  switch (loss) {
    case 'field-ttls':
      return `the expiry of fields in ${of('hash', 'hashes')}: these fields never expire there`;
    case 'stream-producers':
      return `the ids of producers (IDMP) in ${of('stream', 'streams')}: a message that is sent again comes twice`;
    case 'stream-nacks':
      return `pending entries without an owner (XNACK) in ${of('stream', 'streams')}: a consumer "nacked" has them there`;
    case 'stream-counters':
      return `counters and times of activity, as XINFO shows them, of ${of('stream', 'streams')}`;
    case 'member-ttls':
      return `the expiry of ${of('member', 'members')} of sets, sorted sets and hashes (KeyDB): they never expire there`;
    case 'functions':
      return of('library of functions', 'libraries of functions');
    default:
      return assertNever(loss);
  }
}
