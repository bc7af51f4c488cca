/** The text of INFO with typed getters. Knows what forks and releases leave out: a missing field is null, never a guess. */

export type ServerFamily = 'redis' | 'valkey' | 'keydb' | 'dragonfly' | 'other';

/** Line of `INFO keyspace` for one database. */
export interface KeyspaceEntry {
  readonly db: number;
  readonly keys: number;
  readonly expires: number;
  /** Mean time to live of the keys that have one, ms, as the server samples it; null: not told, or not sampled yet. */
  readonly averageTtlMs: number | null;
  /** Hashes of which fields expire (Redis >= 7.4, Valkey >= 9.0); 0 where there are none, or the server knows none. */
  readonly expiringHashes: number;
}

export class ServerInfo {
  readonly #fields: ReadonlyMap<string, string>;

  private constructor(fields: ReadonlyMap<string, string>) {
    this.#fields = fields;
  }

  static parse(text: string): ServerInfo {
    const fields = new Map<string, string>();
    for (const line of text.split(/\r?\n/)) {
      const colon = line.indexOf(':');
      if (colon > 0 && !line.startsWith('#')) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
    }
    return new ServerInfo(fields);
  }

  /** One field as the server wrote it; null where the server has none. */
  text(field: string): string | null {
    return this.#fields.get(field) ?? null;
  }

  /** One field as a number; null where it is missing or no number. */
  number(field: string): number | null {
    const value = this.#fields.get(field);
    return value === undefined || !/^-?\d+(\.\d+)?$/.test(value) ? null : Number(value);
  }

  get family(): ServerFamily {
    if (this.#fields.has('valkey_version') || this.text('server_name') === 'valkey') return 'valkey';
    if (this.#fields.has('dragonfly_version')) return 'dragonfly';
    // KeyDB has no field of its own in every release; these are its additions to INFO.
    if (this.#fields.has('mvcc_depth') || this.text('executable')?.includes('keydb') === true) return 'keydb';
    // Other servers with this protocol name themselves instead of, or besides, redis_version.
    if (['kvrocks_version', 'pika_version', 'garnet_version'].some((name) => this.#fields.has(name)))
      return 'other';
    return this.#fields.has('redis_version') ? 'redis' : 'other';
  }

  /** The family's own version: Valkey, KeyDB and Dragonfly report a compatible Redis version besides. */
  get version(): string {
    return (
      this.text('valkey_version') ??
      this.text('dragonfly_version')?.replace(/^df-v?/, '') ??
      this.text('redis_version') ??
      '0.0.0'
    );
  }

  /**
   * Major, minor, patch of the Redis command set that the server has: for Valkey its own version, as its numbers
   * go on from Redis 7.2 (8.0, 8.1, 9.0).
   */
  get commandLevel(): readonly [number, number, number] {
    const text = this.text('valkey_version') ?? this.text('redis_version') ?? '0.0.0';
    const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
    return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0), Number(match?.[3] ?? 0)];
  }

  /** True where the command set is that of `major.minor` or later. */
  atLeast(major: number, minor: number): boolean {
    const [ownMajor, ownMinor] = this.commandLevel;
    return ownMajor > major || (ownMajor === major && ownMinor >= minor);
  }

  /** 40 hex digits, new with each start of the process; null where a service hides it. */
  get runId(): string | null {
    const id = this.text('run_id');
    return id === null || /^0*$/.test(id) ? null : id;
  }

  get role(): 'master' | 'replica' {
    return this.text('role') === 'slave' ? 'replica' : 'master';
  }

  /** Of a replica: its link to its master is up. */
  get masterLinkUp(): boolean {
    return this.text('master_link_status') === 'up';
  }

  /** null before 4.0. */
  get masterReplid(): string | null {
    return this.text('master_replid');
  }

  /** Bytes; null where INFO replication does not say. Of a replica: what it took from its master. */
  get masterReplOffset(): number | null {
    return this.role === 'replica'
      ? (this.number('slave_repl_offset') ?? this.number('master_repl_offset'))
      : this.number('master_repl_offset');
  }

  get connectedReplicas(): number {
    return this.number('connected_slaves') ?? 0;
  }

  /** Bytes. */
  get usedMemory(): number | null {
    return this.number('used_memory');
  }

  /** Bytes; 0: no limit; null before 3.2, and where hidden. */
  get maxmemory(): number | null {
    return this.number('maxmemory');
  }

  get maxmemoryPolicy(): string | null {
    return this.text('maxmemory_policy');
  }

  get loading(): boolean {
    return this.text('loading') === '1';
  }

  get clusterEnabled(): boolean {
    return this.text('cluster_enabled') === '1';
  }

  /** Databases that hold keys, in order. */
  get keyspace(): readonly KeyspaceEntry[] {
    const entries: KeyspaceEntry[] = [];
    for (const [name, value] of this.#fields) {
      const db = /^db(\d+)$/.exec(name)?.[1];
      const counts = /^keys=(\d+),expires=(\d+)(?:,avg_ttl=(\d+))?/.exec(value);
      if (db !== undefined && counts !== null) {
        const averageTtlMs = Number(counts[3] ?? 0) || null;
        const expiringHashes = Number(/,(?:subexpiry|keys_with_volatile_items)=(\d+)/.exec(value)?.[1] ?? 0);
        entries.push({
          db: Number(db),
          keys: Number(counts[1]),
          expires: Number(counts[2]),
          averageTtlMs,
          expiringHashes,
        });
      }
    }
    return entries.sort((a, b) => a.db - b.db);
  }
}
