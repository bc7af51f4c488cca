/** What a run was asked to do: filled by cli/, read by migrate/ and fleet/. Paths and URIs are already resolved. */

/** Names under which the source knows its replication commands: some services rename them. */
export interface ReplicationCommandNames {
  readonly psync: string;
  readonly sync: string;
  readonly replconf: string;
}

/** Shell commands of the operator, run with the facts of the pair in their environment; null: none. */
export interface CutoverHooks {
  /** Before the source is touched. Another exit code than 0 calls the cutover off. */
  readonly before: string | null;
  /** As soon as the target takes writes. Another exit code than 0 undoes the cutover. */
  readonly onCutover: string | null;
}

export interface ListenOptions {
  /** null: the address from which we reach the target. */
  readonly host: string | null;
  /** 0: any free port. */
  readonly port: number;
  /** What the target is told to connect to; null: the address that is listened on. */
  readonly advertise: string | null;
}

export interface RunOptions {
  readonly feed: 'auto' | 'attach' | 'write';
  readonly cutover: 'ask' | 'auto' | 'never';
  /** Rehearsal: end as soon as every pair is in sync. */
  readonly stopAtInSync: boolean;
  readonly cutoverTimeoutMs: number;
  /** False after `--no-source-fence`: the last writes on the source can be lost. */
  readonly sourceFence: boolean;
  /** False after `--no-reverse`: no way back is kept open behind the cutover. */
  readonly reverse: boolean;
  readonly hooks: CutoverHooks;
  /** Feed `attach`: where the target finds us. */
  readonly listen: ListenOptions;
  readonly flushTarget: boolean;
  readonly allowNonempty: boolean;
  /** What the target has no place for may be left out, where nothing older holds it. */
  readonly allowLoss: boolean;
  /** Values and commands of types and modules that the target does not have may be left out, counted. */
  readonly skipUnknown: boolean;
  readonly assumeYes: boolean;
  /** The run that is gone on with; null: a new one. */
  readonly resumes: string | null;
  /** Absolute path; state, journal, spool and report live here. */
  readonly runDir: string;
  readonly commandNames: ReplicationCommandNames;
  /** Send PUBLISH and SPUBLISH on to the target; off: subscribers are still on the source. */
  readonly forwardPublish: boolean;
  /** Keep the snapshot on disk until it is loaded, so that resume need not ask the source for a second one. */
  readonly keepSnapshot: boolean;
  /** Bytes of the source's stream kept in memory before they go to disk. */
  readonly spoolMemoryBytes: number;
  /** Bytes of spool on disk at which the run ends cleanly; Infinity: what the disk holds. */
  readonly spoolLimitBytes: number;
}
