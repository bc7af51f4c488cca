/**
 * The folder of a run: what it is to do (run.json), what must be undone or gone on with after a crash
 * (journal.ndjson), and a lock against a second process. No secret is ever written: to undo a fence needs none, and
 * to resume the operator gives the credentials again.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Endpoint, PairSpec } from '../core/endpoint.ts';
import { CheckpointError, UsageError } from '../core/errors.ts';
import type { RunOptions } from '../core/options.ts';
import { printable } from '../core/text.ts';

/** A server without its secrets: keys of TLS and passwords stay with the operator. */
export interface StoredEndpoint {
  readonly host: string;
  readonly port: number;
  readonly username: string | null;
  readonly tls: { readonly sni: string | null; readonly insecure: boolean } | null;
}

/** The content of run.json. */
export interface RunFile {
  readonly runId: string;
  /** ISO time. */
  readonly startedAt: string;
  readonly pairs: readonly {
    readonly name: string;
    readonly source: StoredEndpoint;
    readonly target: StoredEndpoint;
  }[];
  /** `spoolLimitBytes` is null where there is no limit: JSON has no Infinity. */
  readonly options: Omit<RunOptions, 'spoolLimitBytes'> & { readonly spoolLimitBytes: number | null };
}

/** One line of the journal: what happened, to which pair, and what is needed to go on from there. */
export interface JournalEntry {
  /** `fence-set`, `fence-lifted`, `phase`, … */
  readonly kind: string;
  readonly pair: string;
  readonly data: unknown;
}

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** Hex digits of SHA-256 before each line of the journal: a torn line does not match its own. */
const CHECKSUM_LENGTH = 8;

export class RunFolder {
  readonly dir: string;
  readonly run: RunFile;
  readonly #journal: FileHandle;
  /** Lines are written one after the other, whoever calls. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, run: RunFile, journal: FileHandle) {
    this.dir = dir;
    this.run = run;
    this.#journal = journal;
  }

  /**
   * Makes the folder of a new run and takes its lock.
   * Throws UsageError `run-dir-used` where a run is in it already, `run-dir` where it cannot be made.
   */
  static async create(
    dir: string,
    runId: string,
    pairs: readonly PairSpec[],
    options: RunOptions,
  ): Promise<RunFolder> {
    const run: RunFile = {
      runId,
      startedAt: new Date().toISOString(),
      pairs: pairs.map(({ name, source, target }) => ({
        name,
        source: withoutSecrets(source),
        target: withoutSecrets(target),
      })),
      options: {
        ...options,
        spoolLimitBytes: Number.isFinite(options.spoolLimitBytes) ? options.spoolLimitBytes : null,
      },
    };
    await mkdir(dir, { recursive: true, mode: FOLDER_MODE }).catch((error: unknown) => {
      throw folderError(dir, error);
    });
    await lock(dir);
    try {
      if ((await readIfThere(join(dir, 'run.json'))) !== null) {
        throw new UsageError(`there is a run in ${printable(dir)} already`, {
          code: 'run-dir-used',
          hint: `redis-cutover resume ${printable(dir)}, or give another folder with --run-dir`,
        });
      }
      await writeDurably(dir, 'run.json', `${JSON.stringify(run, null, 2)}\n`);
      return new RunFolder(dir, run, await open(join(dir, 'journal.ndjson'), 'a', FILE_MODE));
    } catch (error) {
      await unlock(dir);
      throw error instanceof UsageError ? error : folderError(dir, error);
    }
  }

  /**
   * Opens the folder of an earlier run and takes its lock, also from a process that has died.
   * Throws UsageError `run-dir` where there is no run, CheckpointError `run-dir-damaged`, `run-dir-locked`.
   */
  static async open(dir: string): Promise<RunFolder> {
    const text = await readIfThere(join(dir, 'run.json'));
    if (text === null) {
      throw new UsageError(`there is no run in ${printable(dir)}`, {
        code: 'run-dir',
        hint: 'give the folder that the run printed when it began',
      });
    }
    const run = parseRun(dir, text);
    await lock(dir);
    try {
      await dropTornLine(join(dir, 'journal.ndjson'));
      return new RunFolder(dir, run, await open(join(dir, 'journal.ndjson'), 'a', FILE_MODE));
    } catch (error) {
      await unlock(dir);
      throw error;
    }
  }

  /** Adds a line. With `durable` it is on the disk when the promise resolves: for what must survive a power cut. */
  append(entry: JournalEntry, durability: 'durable' | 'buffered' = 'buffered'): Promise<void> {
    const line = encodeLine(entry);
    const written = this.#writing.then(async () => {
      await this.#journal.appendFile(line);
      if (durability === 'durable') await this.#journal.sync();
    });
    // A failed line is reported to its own caller; it must not fail the next one.
    this.#writing = written.catch(() => {});
    return written;
  }

  /** All whole lines, oldest first. Throws CheckpointError `run-dir-damaged` where one in the middle is broken. */
  async readJournal(): Promise<readonly JournalEntry[]> {
    await this.#writing;
    const text = (await readIfThere(join(this.dir, 'journal.ndjson'))) ?? '';
    const { entries, wholeLength } = decodeLines(text);
    if (text.indexOf('\n', wholeLength) !== -1 && text.indexOf('\n', wholeLength) !== text.length - 1) {
      throw damaged(this.dir, 'journal.ndjson');
    }
    return entries;
  }

  /** Closes the journal and gives the lock back. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#journal.close();
    await unlock(this.dir);
  }
}

function withoutSecrets({ host, port, username, tls }: Endpoint): StoredEndpoint {
  return { host, port, username, tls: tls === null ? null : { sni: tls.sni, insecure: tls.insecure } };
}

function encodeLine(entry: JournalEntry): string {
  const json = JSON.stringify({ ...entry, at: new Date().toISOString() });
  return `${JSON.stringify({ sum: checksum(json), entry: json })}\n`;
}
