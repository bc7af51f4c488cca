/**
 * An eye on the source beside the replication link: how far it is, how many keys it holds, whether the server that
 * answers our questions is the one that the link follows, and whether a full copy would empty the target because the
 * source came back without its data.
 */
import { ReplyError } from '../client/reply-error.ts';
import { ServerInfo } from '../client/server-info.ts';
import type { ServerSession } from '../client/session.ts';
import { SourceError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';

/** A source that comes back with another history and fewer than this share of its keys has lost data. */
const LOST_SHARE = 0.5;

interface Seen {
  readonly offset: number;
  /** '' before 4.0, and where a service hides it. */
  readonly replid: string;
  readonly keys: number;
}

export class SourceWatch {
  readonly #session: ServerSession;
  /** Keys of the source when it was last seen with the history that the target has a copy of; null: there is no copy. */
  #keys: number | null = null;
  #offset = 0;

  constructor(session: ServerSession) {
    this.#session = session;
  }

  /** The source's replication offset when it was last asked. */
  get offset(): number {
    return this.#offset;
  }

  /** The target holds a copy. @param keys how many there are of it at least */
  copied(keys: number): void {
    this.#keys = keys;
  }

  /**
   * Asks the source. False where another server answers than the one whose history `followed` is: the address has
   * moved, and the next question goes to whoever has it now.
   * @throws SourceError `source-offset` (operator) where it tells no offset; what ServerSession throws
   */
  async look(followed: string): Promise<boolean> {
    const seen = await this.#ask();
    this.#offset = seen.offset;
    if (!isSame(seen.replid, followed)) return false;
    // where no history is followed yet it may be the one that has lost its data
    if (this.#keys !== null && isNamed(followed)) this.#keys = seen.keys;
    return true;
  }

  /** The next question is put on a new connection. */
  redial(): void {
    this.#session.redial();
  }

  /**
   * Before a full copy, which empties the target: not where the source came back without its data. A history that
   * goes on is trusted, whatever is left of the keys: the source was told to delete them.
   * @param copy where the copy is taken, as the source says; null behind SYNC
   * @param followed the history that was followed until now
   * @throws SourceError `source-emptied` (operator), `source-moved` (reconnect)
   */
  async assertNotEmptied(copy: ReplicationPosition | null, followed: string): Promise<void> {
    const before = this.#keys;
    if (before === null || (copy !== null && copy.replid === followed)) return;
    // the address may lead to another server since
    this.#session.redial();
    const { replid, keys } = await this.#ask();
    if (!isSame(replid, copy?.replid ?? '')) throw moved();
    if (keys > 0 ? keys >= before * LOST_SHARE : before === 0) {
      this.#keys = null;
      return;
    }
    throw new SourceError(
      `the source came back with another history and ${keys} keys, where there were at least ${before}: the target is not emptied for that`,
      {
        code: 'source-emptied',
        hint: 'the target still has the data. Give the source its data back (RDB, AOF) and go on with resume; if it is right as it is, begin a new run with --flush-target',
        recovery: 'operator',
      },
    );
  }

  async #ask(): Promise<Seen> {
    const replies = await this.#session.pipeline([
      ['INFO', 'replication'],
      ['INFO', 'keyspace'],
    ]);
    for (const reply of replies) if (reply instanceof ReplyError) throw reply;
    const info = ServerInfo.parse(replies.join('\r\n'));
    return { offset: offsetIn(info), replid: info.masterReplid ?? '', keys: keysOf(info) };
  }
}

/**
 * The replication offset in INFO.
 * @throws SourceError `source-offset`
 */
export function offsetIn(info: ServerInfo): number {
  const offset = info.masterReplOffset;
  if (offset !== null) return offset;
  throw new SourceError('the source does not tell its replication offset', {
    code: 'source-offset',
    hint: 'INFO replication must show master_repl_offset: servers before 2.8 have none, some proxies hide it',
    recovery: 'operator',
  });
}

/** Keys of all databases. INFO is answered also by a replica that serves no stale data. */
export function keysOf(info: ServerInfo): number {
  return info.keyspace.reduce((sum, { keys }) => sum + keys, 0);
}

/** Whether two ids name one history, as far as they name any: nothing, or zeros, does not. */
function isSame(one: string, other: string): boolean {
  return one === other || !isNamed(one) || !isNamed(other);
}

function isNamed(replid: string): boolean {
  return /[1-9a-f]/.test(replid);
}

function moved(): SourceError {
  return new SourceError('the address of the source leads to two servers, one after the other', {
    code: 'source-moved',
    hint: 'is a failover under way? it is tried again by itself',
    recovery: 'reconnect',
  });
}
