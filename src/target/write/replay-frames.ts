/**
 * KeyDB with `active-replica yes` wraps what it sends (protocol.md 2.2): `RREPLAY <uuid> <commands> [<db> [<mvcc>]]`, where
 * a command may be such a frame again. Servers that follow each other in a ring bring the same frame more than once: one
 * whose number is not above all that came from its server is passed over, as KeyDB itself does. (Read in KeyDB 6.3's
 * sources, not run.)
 */
import { SourceError } from '../../core/errors.ts';

export interface ReplayFrame {
  /** Raw commands, one behind the other. */
  readonly commands: Buffer;
  /** Selected from here on; null: as before. */
  readonly db: number | null;
}

export class ReplayFrames {
  readonly #newest = new Map<string, bigint>();

  /** The stream is read from another place: what comes there has not been seen. */
  forget(): void {
    this.#newest.clear();
  }

  /**
   * @param words of RREPLAY
   * @returns null for a frame that came before
   * @throws SourceError `stream-garbage`
   */
  open(words: readonly Buffer[]): ReplayFrame | null {
    const [, uuid, commands, dbWord, number] = words.map((word, i) =>
      i === 2 ? word : word.toString('latin1'),
    );
    const db = dbWord === undefined ? null : Number(dbWord);
    if (
      typeof uuid !== 'string' ||
      !Buffer.isBuffer(commands) ||
      !(db === null || Number.isSafeInteger(db))
    ) {
      throw badFrame();
    }
    if (typeof number === 'string') {
      if (!/^\d{1,20}$/.test(number)) throw badFrame();
      const mvcc = BigInt(number);
      if (mvcc !== 0n && mvcc <= (this.#newest.get(uuid) ?? 0n)) return null;
      this.#newest.set(uuid, mvcc);
    }
    return { commands, db };
  }
}

/** What is no such frame, or holds no whole commands. */
export function badFrame(): SourceError {
  return new SourceError("the source's stream holds an RREPLAY that is none", {
    code: 'stream-garbage',
    hint: 'bytes were damaged on the way, or a proxy speaks: connect to the server itself and start again',
    recovery: 'resync',
  });
}
