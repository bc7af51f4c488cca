/** After how long without a word a connection of a pair counts as dead. In one place, so that tests can be short. */

/** Milliseconds each. */
export interface Silence {
  /** The replication link: a replica of Redis' own uses repl-timeout, 60 s, and a source sends a PING every 10 s. */
  readonly sourceMs: number;
  /** A target with commands of ours to answer; an attached one acknowledges each second. */
  readonly targetMs: number;
  /** INFO, ACL and the like, on either side. Long: FLUSHALL can take long. */
  readonly replyMs: number;
}

export const USUAL_SILENCE: Silence = { sourceMs: 60_000, targetMs: 60_000, replyMs: 60_000 };
