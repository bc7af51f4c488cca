/** What a run was asked to do: filled by cli/, read by migrate/ and fleet/. Paths and URIs are already resolved. */

/** Names under which the source knows its replication commands: some services rename them. */
export interface ReplicationCommandNames {
  readonly psync: string;
  readonly sync: string;
  readonly replconf: string;
}

export interface RunOptions {
  readonly feed: 'auto' | 'attach' | 'write';
  readonly cutover: 'ask' | 'auto' | 'never';
  /** Rehearsal: end as soon as every pair is in sync. */
  readonly stopAtInSync: boolean;
  readonly cutoverTimeoutMs: number;
  /** False after `--no-source-fence`: the last writes on the source can be lost. */
  readonly sourceFence: boolean;
  readonly flushTarget: boolean;
  readonly allowNonempty: boolean;
  readonly assumeYes: boolean;
  /** The run that is gone on with; null: a new one. */
  readonly resumes: string | null;
  /** Absolute path; state, journal, spool and report live here. */
  readonly runDir: string;
  readonly commandNames: ReplicationCommandNames;
  /** Send PUBLISH and SPUBLISH on to the target; off: subscribers are still on the source. */
  readonly forwardPublish: boolean;
  /** Bytes of the source's stream kept in memory before they go to disk. */
  readonly spoolMemoryBytes: number;
  /** Bytes of spool on disk at which the run ends cleanly; Infinity: what the disk holds. */
  readonly spoolLimitBytes: number;
}
