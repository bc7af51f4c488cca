/** A sink made of the real spool and RDB reader, which follows the stream by commands: the link end to end. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CutoverError } from '../../src/core/errors.ts';
import type { ReplicationPosition } from '../../src/core/position.ts';
import { RdbReader } from '../../src/rdb/reader.ts';
import { IGNORING_SINK, type RdbSink } from '../../src/rdb/sink.ts';
import { commandArguments } from '../../src/resp/arguments.ts';
import { frame, scanCommand } from '../../src/resp/command-frame.ts';
import type { Framing } from '../../src/source/handshake.ts';
import type { LinkSink } from '../../src/source/link.ts';
import { Spool } from '../../src/spool/spool.ts';
import type { Cleanup } from '../helpers/server.ts';

export class ReadingSink implements LinkSink {
  /** `full`, `continued`, `interrupted <code>`, in order. */
  readonly calls: string[] = [];
  framing: Framing | null = null;
  /** Where the snapshot stands in the source's history; null behind SYNC until its AUX fields said so. */
  position: ReplicationPosition | null = null;
  /** Plain strings of the snapshot by key; latin1. */
  readonly strings = new Map<string, string>();
  /** Commands of the stream as words; latin1. */
  readonly commands: string[][] = [];
  /** Set by the test: called upon REPLCONF GETACK. */
  ackWanted: () => void = () => {};
  #reader: RdbReader;
  readonly #spool: Spool;
  readonly #aux = new Map<string, string>();
  /** Position in the spool where the stream begins; null while the snapshot is not complete. */
  #streamStart: number | null = null;
  /** Position in the spool behind the last whole command. */
  #parsed = 0;
  #failure: unknown = null;

  constructor(t: Cleanup) {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-link-'));
    this.#spool = new Spool({ dir, memoryBytes: 4 << 20, limitBytes: Number.POSITIVE_INFINITY });
    t.after(() => this.#spool.close());
    this.#reader = new RdbReader(this.#rdbSink());
  }

  /** True once the snapshot was read to its end, checksum and mark included. */
  get loaded(): boolean {
    if (this.#failure !== null) throw this.#failure;
    return this.#streamStart !== null;
  }

  get keys(): number {
    return this.#reader.keys;
  }

  /** The source's offset of the last byte received; -1 while the snapshot is not complete. */
  get receivedOffset(): number {
    if (!this.loaded || this.position === null) return -1;
    return this.position.offset + this.#spool.end - this.#streamStart!;
  }

  reserve(): Buffer {
    return this.#spool.reserve();
  }

  commit(length: number): void {
    this.#spool.commit(length, Date.now());
    this.#look();
  }

  append(chunk: Buffer): void {
    this.#spool.append(chunk, Date.now());
    this.#look();
  }

  async resumePosition(): Promise<ReplicationPosition | null> {
    const offset = this.receivedOffset;
    return offset < 0 ? null : { replid: this.position!.replid, offset };
  }

  async fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    this.calls.push('full');
    this.#spool.reset();
    this.#reader = new RdbReader(this.#rdbSink());
    this.#streamStart = null;
    this.strings.clear();
    this.commands.length = 0;
    this.position = position;
    this.framing = framing;
  }

  continued(replid: string | null): void {
    this.calls.push('continued');
    if (replid !== null && this.position !== null) this.position = { replid, offset: this.position.offset };
  }

  appliedOffset(): number {
    if (this.#streamStart === null || this.position === null) return this.position?.offset ?? 0;
    return this.position.offset + this.#parsed - this.#streamStart;
  }

  interrupted(error: CutoverError): void {
    this.calls.push(`interrupted ${error.code}`);
  }

  #look(): void {
    try {
      if (this.#streamStart === null) this.#readSnapshot();
      if (this.#streamStart !== null) this.#readStream();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  #readSnapshot(): void {
    const reader = this.#reader;
    const spool = this.#spool;
    while (!reader.done) {
      const available = spool.end - reader.position;
      if (available === 0) return;
      const view = spool.view(reader.position, reader.want);
      if (!reader.consume(view) && view.length === available) return;
      spool.release(reader.keepFrom);
    }
    const framing = this.framing!;
    let start = reader.position;
    if (framing.kind === 'mark') {
      if (spool.end - start < framing.mark.length) return;
      const found = spool.view(start, framing.mark.length).subarray(0, framing.mark.length);
      if (!found.equals(framing.mark)) throw new Error(`not the mark: ${found.toString('latin1')}`);
      start += framing.mark.length;
    } else if (start !== framing.bytes) {
      throw new Error(`the snapshot has ${start} bytes, ${framing.bytes} were announced`);
    }
    const replid = this.#aux.get('repl-id');
    if (replid !== undefined) this.position ??= { replid, offset: Number(this.#aux.get('repl-offset')) };
    this.#streamStart = start;
    this.#parsed = start;
  }

  #readStream(): void {
    const spool = this.#spool;
    for (let want = 1; spool.end - this.#parsed >= want; ) {
      const view = spool.view(this.#parsed, want);
      const end = scanCommand(view, 0, view.length, this.#parsed);
      if (end < 0) {
        want = Math.max(frame.needed, view.length + 1);
        continue;
      }
      want = 1;
      const words = commandArguments(view.subarray(0, end)).map((word) => word.toString('latin1'));
      this.#parsed += end;
      this.commands.push(words);
      if (words[0]?.toUpperCase() === 'REPLCONF' && words[1]?.toUpperCase() === 'GETACK') this.ackWanted();
    }
  }

  #rdbSink(): RdbSink {
    return {
      ...IGNORING_SINK,
      aux: (_start, name, value) => this.#aux.set(name, value.toString('latin1')),
      string: (entry, buf, start, end) => {
        this.strings.set(
          entry.key.toString('latin1', entry.keyStart, entry.keyEnd),
          buf.toString('latin1', start, end),
        );
      },
    };
  }
}
