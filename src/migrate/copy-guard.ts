/**
 * Decides before each full copy whether it may be taken, since it empties the target: never where that would wipe what
 * applications have written, never in the middle of a cutover, not from a source that came back without its data, and
 * not again and again.
 */
import { performance } from 'node:perf_hooks';
import type { ServerSession } from '../client/session.ts';
import { InvariantError, SourceError, TargetError } from '../core/errors.ts';
import { isOver } from '../core/phase.ts';
import type { ReplicationPosition } from '../core/position.ts';
import { askConfig } from './checks/context.ts';
import { notNow, type PairState } from './pair-context.ts';
import { type LoopSettings, loopHint, parseOutputBuffer, ResyncLoop } from './resync-loop.ts';
import type { SourceWatch } from './source-watch.ts';

export class CopyGuard {
  readonly #session: ServerSession;
  readonly #watch: SourceWatch;
  readonly #state: () => PairState;
  readonly #loop = new ResyncLoop();
  #begun = 0;

  /** @param session the operator's, with the source */
  constructor(session: ServerSession, watch: SourceWatch, state: () => PairState) {
    this.#session = session;
    this.#watch = watch;
    this.#state = state;
  }

  /** Copies that this process has begun. */
  get begun(): number {
    return this.#begun;
  }

  /** The pair is in sync: what comes later has another cause. */
  inSync(): void {
    this.#loop.reset();
  }

  /**
   * A copy is to begin, at `position` where the source tells one. The source is asked, and meanwhile things may change:
   * assertAllowed() is due once more behind it.
   * @throws what assertAllowed() does; SourceError `resync-loop`, `source-emptied`, `source-moved`
   */
  async begins(position: ReplicationPosition | null): Promise<void> {
    this.assertAllowed();
    this.#begun++;
    const { into } = this.#state();
    if (into === null) throw new InvariantError('the pair was not started');
    const { feed } = into;
    const share = feed.snapshotTotal === null ? null : feed.snapshotBytes / Math.max(1, feed.snapshotTotal);
    this.#loop.begins(performance.now(), position?.offset ?? this.#watch.offset, share);
    if (this.#loop.tooMany) throw await this.#loopError();
    await this.#watch.assertNotEmptied(position, feed.replid);
  }

  /** @throws PreflightError `not-now`; SourceError `full-resync-in-cutover`; TargetError `full-resync-refused` */
  assertAllowed(): void {
    const { phase, inCutover, open } = this.#state();
    if (isOver(phase)) throw notNow('take a copy', phase);
    if (inCutover) {
      throw new SourceError('the source wants a full copy in the middle of a cutover: first that is undone', {
        code: 'full-resync-in-cutover',
        hint: 'nothing is to be done: the copy is taken behind --cutover-timeout',
      });
    }
    if (phase === 'writable' || open) {
      throw new TargetError(
        'the source wants a full copy, but the target already takes writes, which it would wipe',
        {
          code: 'full-resync-refused',
          hint: 'decide which side is right: point the applications back to the source and start again, or promote without draining',
        },
      );
    }
  }

  async #loopError(): Promise<SourceError> {
    const setting = async (name: string): Promise<string | null> => {
      const value = await askConfig(this.#session, name).catch(() => null);
      return typeof value === 'string' ? value : null;
    };
    const backlog = await setting('repl-backlog-size');
    const now: LoopSettings = {
      backlogBytes: backlog === null ? null : Number(backlog),
      outputBuffer: parseOutputBuffer(await setting('client-output-buffer-limit')),
    };
    return new SourceError(
      `the source has asked for ${this.#loop.copies} full copies without the pair getting in sync`,
      { code: 'resync-loop', hint: loopHint(this.#loop.measure, now), recovery: 'operator' },
    );
  }
}
