/**
 * The last steps, each timed, each undone if a later one fails or the cutover is called off: fence the source → drain
 * to the offset read behind the fence → end the stream → target writable. Told as steps so that the story in
 * migration.ts stays short.
 */
import { performance } from 'node:perf_hooks';
import type { ServerSession } from '../client/session.ts';
import { type CutoverError, EXIT, SourceError, TargetError, toCutoverError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import type { Fence } from '../target/write/fence.ts';
import type { TargetHold } from './target-hold.ts';
import type { WriteFeed } from './write-feed.ts';

export interface CutoverRequest {
  readonly pair: string;
  readonly source: ServerSession;
  /** null after `--no-source-fence`. */
  readonly sourceFence: Fence | null;
  readonly hold: TargetHold;
  readonly feed: WriteFeed;
  /** For draining: from the fence on the source to the end of the stream. */
  readonly timeoutMs: number;
  /** Aborted with a CutoverError where the cutover is to be called off: everything is undone. */
  readonly signal: AbortSignal;
  readonly emit: (event: MigrationEvent) => void;
  /** Called before the source is touched and after it was set free again: must be durable when it resolves. */
  readonly journal: (kind: 'source-fence' | 'source-fence-lifted') => Promise<void>;
}

export interface CutoverResult {
  /** From the fence on the source to the target being writable. */
  readonly writeOutageMs: number;
  readonly notes: readonly string[];
}

/**
 * On return every write that the source acknowledged is on the target, which takes writes; the feed has ended.
 * On a failure everything is as before: source writable, target fenced, the feed goes on.
 * @throws CutoverError `cutover-timeout`, what the servers refuse, the signal's reason; `cutover-undo` (exit 7) where
 * undoing failed
 */
export async function cutOver(request: CutoverRequest): Promise<CutoverResult> {
  const { pair, source, sourceFence, hold, feed, timeoutMs, signal, emit } = request;
  const began = performance.now();
  const undo: { readonly name: string; readonly run: () => Promise<unknown> }[] = [];
  const timed = async <Value>(name: string, work: () => Promise<Value>): Promise<Value> => {
    const value = await work();
    emit({ event: 'step', pair, name, ms: round(performance.now() - began) });
    return value;
  };
  const step = async <Value>(name: string, work: () => Promise<Value>): Promise<Value> => {
    const value = await timed(name, work);
    signal.throwIfAborted();
    return value;
  };
  try {
    if (sourceFence !== null) {
      await request.journal('source-fence');
      undo.push({
        name: 'source writable again',
        run: async () => {
          await sourceFence.lift();
          await request.journal('source-fence-lifted');
        },
      });
    }
    const fencedAt = performance.now();
    if (sourceFence !== null) await step('source fenced', () => sourceFence.set());
    const offset = await step('source offset read', () => sourceOffset(source));
    const drainUntil = performance.now() + timeoutMs;
    const drained = (work: Promise<void>): Promise<void> =>
      within(work, { untilMs: drainUntil, timeoutMs, offset, feed, signal });
    await step('drained', () => drained(feed.whenApplied(offset)));
    undo.push({ name: 'stream goes on', run: async () => feed.goOn() });
    await step('stream ended', () => drained(feed.finish(offset)));
    if (hold.fenced) undo.push({ name: 'target fenced again', run: () => hold.closeGates() });
    const notes = await step('target writable', () => hold.openGates());
    return { writeOutageMs: round(performance.now() - fencedAt), notes };
  } catch (error) {
    const cause = toCutoverError(error);
    let left: CutoverError | null = null;
    // one that fails must not keep the others from being done: above all the source must become writable again
    for (const { name, run } of undo.reverse()) {
      try {
        await timed(name, run);
      } catch (undoError) {
        left ??= attention(pair, name, cause, toCutoverError(undoError));
      }
    }
    throw left ?? cause;
  }
}

/** `master_repl_offset`: of a replica as source, what it has received itself. */
export async function sourceOffset(source: ServerSession): Promise<number> {
  const offset = (await source.info('replication')).masterReplOffset;
  if (offset === null) {
    throw new SourceError('the source does not tell its replication offset', {
      code: 'source-offset',
      hint: 'INFO replication must show master_repl_offset: servers before 2.8 have none, some proxies hide it',
      recovery: 'operator',
    });
  }
  return offset;
}

interface DrainBounds {
  /** On the clock of performance.now(). */
  readonly untilMs: number;
  readonly timeoutMs: number;
  readonly offset: number;
  readonly feed: WriteFeed;
  readonly signal: AbortSignal;
}

/** Waits for `work`, but not past the time limit and not after the cutover was called off. */
async function within(work: Promise<void>, bounds: DrainBounds): Promise<void> {
  const { untilMs, timeoutMs, offset, feed, signal } = bounds;
  let timer: NodeJS.Timeout | undefined;
  let calledOff: (() => void) | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    calledOff = () => reject(signal.reason);
    signal.addEventListener('abort', calledOff);
    timer = setTimeout(
      () =>
        reject(
          new TargetError(
            `draining took longer than ${timeoutMs / 1000} s (${Math.max(0, offset - feed.appliedOffset())} bytes were left)`,
            {
              code: 'cutover-timeout',
              hint: 'everything was undone and the pair goes on syncing: try when there is less traffic, or raise --cutover-timeout',
            },
          ),
        ),
      Math.max(0, untilMs - performance.now()),
    );
  });
  try {
    await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
    if (calledOff !== undefined) signal.removeEventListener('abort', calledOff);
  }
}

function attention(pair: string, name: string, cause: CutoverError, undoError: CutoverError): TargetError {
  return new TargetError(
    `${pair}: the cutover failed (${cause.message}), and undoing it failed at "${name}": ${undoError.message}`,
    {
      code: 'cutover-undo',
      hint: 'a fence may be left: redis-cutover resume with the run folder lifts it, or ACL SETUSER <user> +@write',
      exitCode: EXIT.attention,
      cause,
    },
  );
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
