/**
 * What a cutover needs besides its steps: the fence, the hooks, the comparison of the last keys, and whether the old
 * source can follow behind it. Made for one pair; cutover.ts has the steps.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TargetError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { Fence } from '../target/write/fence.ts';
import { type CutoverBasics, sourceOffset } from './cutover.ts';
import type { Feed } from './feed.ts';
import type { CheckedPair } from './pair-context.ts';
import { pairHook } from './pair-hooks.ts';
import { replicationState } from './roles.ts';
import { readSettingIfAllowed } from './settings.ts';
import { Steps } from './steps.ts';
import type { StreamTail } from './stream-tail.ts';
import { compareTail, latestKeys } from './tail-check.ts';
import { whyNoNativeWayBack } from './way-back.ts';

/**
 * Keys that are compared on both sides before the target is opened. Each costs time in which applications wait; a
 * replica has them by the servers' own doing.
 */
const TAIL_KEYS = { attach: 6, write: 32 } as const;
const WARM_UP_ROUNDS = 10;
const WARM_UP_LIMIT_MS = 500;

export class CutoverKit {
  readonly #pair: CheckedPair;

  constructor(pair: CheckedPair) {
    this.#pair = pair;
  }

  /** Why the old source is not to follow the new master by itself; null: it is. */
  async whyNotFollowing(fence: Fence | null): Promise<string | null> {
    const { source, options, pair } = this.#pair;
    if (!options.reverse) return '--no-reverse';
    if (fence === null) return '--no-source-fence leaves the source writable';
    return whyNoNativeWayBack(
      await replicationState(source),
      await readSettingIfAllowed(source, 'tls-replication'),
      pair.target,
    );
  }

  /** The fence of the source, not set yet; null after `--no-source-fence`. */
  async prepareSourceFence(exceptUser: string | null): Promise<Fence | null> {
    const { source, facts, options, note } = this.#pair;
    const fence = options.sourceFence
      ? await Fence.prepare(source, facts.source, { side: 'source', exceptUser })
      : null;
    if (fence === null || fence.kind === 'none') {
      note(
        `writes on the source are not stopped (${fence?.reason ?? '--no-source-fence'}): the last ones can be lost`,
      );
    }
    return fence;
  }

  /** What cutOver() and swapRoles() have in common, but for the comparison of the tail. */
  basics(signal: AbortSignal, fence: Fence | null): Omit<CutoverBasics, 'tailCheck'> {
    const { pair, source, facts, options, emit, note, journal } = this.#pair;
    return {
      steps: new Steps(pair.name, emit, signal),
      from: { session: source, info: facts.source },
      fence,
      timeoutMs: options.cutoverTimeoutMs,
      signal,
      note,
      journalFence: (set: boolean) =>
        set ? journal('source-fence', fence?.toJournal() ?? null) : journal('source-fence-lifted'),
      hooks: {
        before: pairHook(this.#pair, 'before', signal),
        onCutover: pairHook(this.#pair, 'cutover', signal),
      },
    };
  }

  /** Goes through what comes a few times before it counts: what is done for the first time takes many times as long. */
  async warmUp(feed: Feed, fence: Fence | null): Promise<void> {
    const { source, target, facts } = this.#pair;
    let rounds = 0;
    const round = async (): Promise<void> => {
      const tail = feed.tail();
      if (tail !== null)
        await compareTail(source, target, latestKeys(tail.bytes, tail.db, TAIL_KEYS[facts.feed]));
      await Promise.all([sourceOffset(source), feed.refresh(), replicationState(target), fence?.recheck()]);
      if (++rounds < WARM_UP_ROUNDS) await round();
    };
    // a server that does not answer is found out by the steps themselves
    await Promise.race([round().catch(() => undefined), delay(WARM_UP_LIMIT_MS, undefined, { ref: false })]);
    rounds = WARM_UP_ROUNDS;
  }

  /** Compares the keys that were written last; says how many. @throws TargetError `tail-differs` */
  async compareTail(tail: StreamTail | null): Promise<string> {
    if (tail === null) return '';
    const { source, target, facts, options } = this.#pair;
    const keys = latestKeys(tail.bytes, tail.db, TAIL_KEYS[facts.feed]);
    const types = options.skipUnknown ? facts.lacking.typesTaken : null;
    const { compared, different, refused } = await compareTail(source, target, keys, types);
    if (refused !== null) this.#pair.note(`not all of the last keys could be compared: ${refused.reply}`);
    const [first] = different;
    if (first === undefined) return keys.length === 0 ? '' : `${compared} keys equal`;
    throw new TargetError(
      `${different.length} of the ${keys.length} keys written last differ, the first is ${first.keyDigest} in database ${first.db}`,
      {
        code: 'tail-differs',
        hint: 'somebody else may write to the target (CLIENT LIST there); take a new copy if the keys stay different',
      },
    );
  }
}

/** How to give the applications their rights on the source back, as commands to type. */
export function fenceLeftNotes(fence: Fence, where: string): string[] {
  const commands = fence.liftCommands();
  if (commands.length === 0) return [];
  return [
    `the source ${where} stays fenced: its users have lost write commands and nothing else; to lift it, on the source:`,
    ...commands.map((command) => printable(command, 2000)),
  ];
}
