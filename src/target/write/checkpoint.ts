/**
 * The checkpoint: how far the target's own dataset has come in the source's history. It is written in the same
 * MULTI/EXEC as the data it speaks of, so the two can never disagree (design.md, exactly once).
 */
import { CheckpointError } from '../../core/errors.ts';
import { isReplid, parseOffset, type ReplicationPosition } from '../../core/position.ts';

/** Fixed by design.md; always in database 0. */
export const CHECKPOINT_KEY = 'redis-cutover:checkpoint';

export interface Checkpoint extends ReplicationPosition {
  /** Database selected in the source's stream at `offset`. */
  readonly db: number;
  /** Identifier of the run that writes the target. */
  readonly run: string;
  /** `snapshot`: the copy is not complete, the target must be loaded again. */
  readonly phase: 'snapshot' | 'stream';
}

/** The fields as HMSET takes them. HMSET, since HSET takes one field only before 4.0. */
export function checkpointFields(checkpoint: Checkpoint): string[] {
  return [
    'replid',
    checkpoint.replid,
    'offset',
    String(checkpoint.offset),
    'db',
    String(checkpoint.db),
    'run',
    checkpoint.run,
    'phase',
    checkpoint.phase,
  ];
}

/**
 * A checkpoint out of the reply to HGETALL; null where the key does not exist.
 * @throws CheckpointError where it is there but not ours
 */
export function parseCheckpoint(reply: unknown): Checkpoint | null {
  const fields = fieldsOf(reply);
  if (fields.size === 0) return null;
  const replid = fields.get('replid') ?? '';
  const offset = parseOffset(fields.get('offset') ?? '');
  const db = parseOffset(fields.get('db') ?? '');
  const phase = fields.get('phase');
  const known = phase === 'snapshot' || phase === 'stream';
  if (!isReplid(replid) || offset === null || offset < 0 || db === null || db < 0 || !known) {
    throw new CheckpointError(`the key ${CHECKPOINT_KEY} on the target holds no checkpoint of ours`, {
      code: 'checkpoint-damaged',
      hint: `look at it with HGETALL ${CHECKPOINT_KEY}; if nothing needs it, DEL it and start again`,
    });
  }
  return { replid, offset, db, run: fields.get('run') ?? '', phase };
}

function fieldsOf(reply: unknown): Map<string, string> {
  const fields = new Map<string, string>();
  if (Array.isArray(reply)) {
    for (let i = 0; i + 1 < reply.length; i += 2) fields.set(String(reply[i]), String(reply[i + 1]));
  } else if (reply !== null && typeof reply === 'object') {
    for (const [name, value] of Object.entries(reply)) fields.set(name, String(value));
  }
  return fields;
}
