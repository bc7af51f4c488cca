/**
 * `--keep-snapshot`: a full copy that was received and is not loaded yet stays in the spool on disk, so that a later
 * process of the run loads it from there. The bytes are the spool's business (spool.ts); here is what is needed
 * besides them, which stands in the run folder's journal, and the look at whether the snapshot is all there.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type CutoverError, RdbFormatError, toCutoverError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';
import { RdbReader } from '../rdb/reader.ts';
import { IGNORING_SINK } from '../rdb/sink.ts';
import type { Framing } from '../source/handshake.ts';
import type { Spool } from '../spool/spool.ts';

export interface KeptCopy {
  /** As Spool.keep() named it. */
  readonly name: string;
  /** Of the last byte before the stream. */
  readonly position: ReplicationPosition;
  readonly framing: Framing;
}

/** The whole snapshot is in the spool, and what of the stream had come behind it. */
export interface CompleteCopy extends KeptCopy {
  /** Where in the spool the stream begins. */
  readonly streamStart: number;
}

/** For a feed: its present copy is kept from its first byte on until it is on the target. */
export class CopyKeeper {
  readonly #spool: Spool;
  readonly #note: ((copy: KeptCopy | null) => Promise<void>) | null;
  readonly #failed: (error: CutoverError) => void;
  /** As the spool keeps the copy; null: it does not, or not any more. */
  #name: string | null = null;

  /**
   * @param note durable when it resolves; null: copies are not kept
   * @param failed where a note that nobody waits for could not be made
   */
  constructor(
    spool: Spool,
    note: ((copy: KeptCopy | null) => Promise<void>) | null,
    failed: (error: CutoverError) => void,
  ) {
    this.#spool = spool;
    this.#note = note;
    this.#failed = failed;
  }

  /** A copy that an earlier process has kept, and that lies in the spool. */
  takeOver({ name }: CompleteCopy): void {
    this.#name = name;
  }

  /**
   * A copy begins, in an empty spool. What was kept before is gone.
   * @param position null: it is not kept, since the source could not be asked for what follows
   * @throws CheckpointError `spool-disk-full` or `spool-io`, or where it cannot be noted
   */
  async begin(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    this.#name = null;
    if (this.#note === null || position === null) return;
    this.#name = this.#spool.keep();
    await this.#note({ name: this.#name, position, framing });
  }

  /** The history of the copy goes on under another name. */
  renamed(position: ReplicationPosition, framing: Framing): void {
    if (this.#name !== null) this.#noteLater({ name: this.#name, position, framing });
  }

  /** The copy is on the target: its bytes may go from the disk. */
  end(): void {
    if (this.#name === null) return;
    this.#name = null;
    this.#spool.keepNoLonger();
    this.#noteLater(null);
  }

  #noteLater(copy: KeptCopy | null): void {
    this.#note?.(copy).catch((error: unknown) => this.#failed(toCutoverError(error)));
  }
}

/** Bytes of the snapshot that are looked at before the event loop gets its turn. */
const TURN_BYTES = 4 << 20;

export function keptCopyToJournal({ name, position, framing }: KeptCopy): unknown {
  const frame = framing.kind === 'length' ? { bytes: framing.bytes } : { mark: framing.mark.toString('hex') };
  return { name, replid: position.replid, offset: position.offset, ...frame };
}

/** @param data as made by keptCopyToJournal(); null: nothing is kept any more */
export function keptCopyFromJournal(data: unknown): KeptCopy | null {
  if (data === null) return null;
  const { name, replid, offset, bytes, mark } = data as {
    readonly name: string;
    readonly replid: string;
    readonly offset: number;
    readonly bytes?: number;
    readonly mark?: string;
  };
  const framing: Framing =
    bytes === undefined ? { kind: 'mark', mark: Buffer.from(mark ?? '', 'hex') } : { kind: 'length', bytes };
  return { name, position: { replid, offset }, framing };
}

/**
 * Takes up in an empty spool what an earlier process has kept there; null, and a free disk, where there is nothing, or
 * not the whole snapshot.
 * @param left what the journal says; null: nothing is kept
 * @throws CheckpointError `spool-disk-full` or `spool-io`; the reason of `signal`, and what is kept stays then
 */
export async function takeUpKeptCopy(
  spool: Spool,
  left: KeptCopy | null,
  note: (message: string) => void,
  signal: AbortSignal,
): Promise<CompleteCopy | null> {
  if (left !== null) {
    await spool.reopen(left.name, signal);
    const streamStart = await payloadEnd(spool, left.framing, signal);
    if (streamStart !== null) {
      note(`the snapshot is loaded from the spool, which has kept it (${spool.end} bytes)`);
      return { ...left, streamStart };
    }
    note('the run had ended before the whole snapshot was kept: a new copy is taken');
  }
  spool.close();
  return null;
}

/** Whether the bytes behind `at` are all in the spool: a target that is there can be handed what follows. */
export function reaches(copy: CompleteCopy, spool: Spool, at: ReplicationPosition): boolean {
  const { replid, offset } = copy.position;
  const received = offset + spool.end - copy.streamStart;
  return at.replid === replid && at.offset >= offset && at.offset <= received;
}

/** Position behind the snapshot and its mark; null where not all of it is there. */
async function payloadEnd(spool: Spool, framing: Framing, signal: AbortSignal): Promise<number | null> {
  if (framing.kind === 'length') return spool.end >= framing.bytes ? framing.bytes : null;
  const end = await endOfRdb(spool, signal);
  const { mark } = framing;
  if (end === null || spool.end - end < mark.length) return null;
  return spool.view(end, mark.length).subarray(0, mark.length).equals(mark) ? end + mark.length : null;
}

/** Only its structure says where a snapshot without a length ends. null: not within what is there. */
async function endOfRdb(spool: Spool, signal: AbortSignal): Promise<number | null> {
  const reader = new RdbReader(IGNORING_SINK, { verify: false });
  let pause = TURN_BYTES;
  try {
    while (!reader.done) {
      const view = spool.view(reader.position, reader.want);
      const moved = view.length > 0 && reader.consume(view);
      if (!moved && view.length >= spool.end - reader.position) return null;
      if (reader.position < pause) continue;
      pause = reader.position + TURN_BYTES;
      await nextTurn();
      signal.throwIfAborted();
    }
    return reader.position;
  } catch (error) {
    // bytes that are no snapshot: the source gave its payload up, or something of it is missing
    if (error instanceof RdbFormatError) return null;
    throw error;
  }
}
