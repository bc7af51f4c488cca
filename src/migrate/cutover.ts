/**
 * The last steps, each timed, each undone if a later one fails: fence the source → drain to the offset read behind
 * the fence → end the stream → target writable. Told as steps so that the story in migration.ts stays short.
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
  readonly timeoutMs: number;
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
 * @throws CutoverError `cutover-timeout` and what the servers refuse; `cutover-undo` (exit 7) where undoing failed
 */
export async function cutOver(request: CutoverRequest): Promise<CutoverResult> {
  const { pair, source, sourceFence, hold, feed, timeoutMs, emit } = request;
  const began = performance.now();
  const undo: { readonly name: string; readonly run: () => Promise<unknown> }[] = [];
  const step = async <Value>(name: string, work: () => Promise<Value>): Promise<Value> => {
    const value = await work();
    emit({ event: 'step', pair, name, ms: round(performance.now() - began) });
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
    await step('drained', () => within(feed.whenApplied(offset), timeoutMs, offset, feed));
    undo.push({ name: 'stream goes on', run: async () => feed.goOn() });
    await step('stream ended', () => within(feed.finish(), timeoutMs, offset, feed));
    undo.push({ name: 'target fenced again', run: () => hold.closeGates() });
    const notes = await step('target writable', () => hold.openGates());
    return { writeOutageMs: round(performance.now() - fencedAt), notes };
  } catch (error) {
    const cause = toCutoverError(error);
    for (const { name, run } of undo.reverse()) {
      try {
        await step(name, run);
      } catch (undoError) {
        throw attention(pair, name, cause, toCutoverError(undoError));
      }
    }
    throw cause;
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

async function within(
  work: Promise<void>,
  timeoutMs: number,
  offset: number,
  feed: WriteFeed,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
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
      timeoutMs,
    );
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
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
