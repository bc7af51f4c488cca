/**
 * The folder of a run: what it is to do (run.json), what must be undone or gone on with after a crash
 * (journal.ndjson), and a lock against a second session. The worker processes of a session write to the same journal:
 * a line is one write at the end of the file, so that lines of two processes never mix. No secret is ever written: to undo a fence needs none, and
 * to resume the operator gives the credentials again.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import {
  constants,
  type FileHandle,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Endpoint, PairSpec } from '../core/endpoint.ts';
import { CheckpointError, UsageError } from '../core/errors.ts';
import type { RunOptions } from '../core/options.ts';
import { harmlessJson, printable } from '../core/text.ts';

/** A server without its secrets: keys of TLS and passwords stay with the operator. */
export interface StoredEndpoint {
  readonly host: string;
  readonly port: number;
  readonly username: string | null;
  readonly tls: { readonly sni: string | null; readonly insecure: boolean } | null;
}

export type StoredPair = Omit<PairSpec, 'source' | 'target'> & {
  readonly source: StoredEndpoint;
  readonly target: StoredEndpoint;
};

/** The content of run.json. */
export interface RunFile {
  readonly runId: string;
  /** ISO time. */
  readonly startedAt: string;
  readonly pairs: readonly StoredPair[];
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

/** `buffered`: with the system, and on the disk with the next line that is `durable`. */
export type Durability = 'durable' | 'buffered';

/** A line as it was written; `at` is an ISO time. */
export interface JournalLine extends JournalEntry {
  readonly at: string;
}

const RUN_FILE = 'run.json';
const JOURNAL = 'journal.ndjson';
const LOCK = 'lock';
/** A process that lives writes into the lock that it has made at once. */
const EMPTY_LOOKS = 5;
const EMPTY_PAUSE_MS = 100;
/** Workers end when they hear that their session has: at once, unless they are in the middle of something. */
const WORKER_LOOKS = 200;
const WORKER_PAUSE_MS = 50;
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** Hex digits of SHA-256 in each line of the journal: a torn line does not match its own. */
const CHECKSUM_LENGTH = 8;

export class RunFolder {
  readonly dir: string;
  readonly run: RunFile;
  readonly #journal: FileHandle;
  /** False in a worker: the lock is the session's. */
  readonly #locked: boolean;
  /** Lines are written one after the other, whoever calls. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, run: RunFile, journal: FileHandle, locked = true) {
    this.dir = dir;
    this.run = run;
    this.#journal = journal;
    this.#locked = locked;
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
      pairs: pairs.map(({ source, target, ...rest }) => ({
        ...rest,
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
      if ((await readIfThere(join(dir, RUN_FILE))) !== null) {
        throw new UsageError(`there is a run in ${printable(dir)} already`, {
          code: 'run-dir-used',
          hint: `redis-cutover resume ${printable(dir)}, or give another folder with --run-dir`,
        });
      }
      await writeWhole(dir, RUN_FILE, `${harmlessJson(run, 2)}\n`);
      return new RunFolder(dir, run, await openJournal(dir));
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
    const run = await readRun(dir);
    await lock(dir);
    try {
      const journal = (await readIfThere(join(dir, JOURNAL))) ?? '';
      const { end } = decodeJournal(dir, journal);
      // A torn last line goes, so that the next one does not become its tail.
      const bytes = Buffer.byteLength(journal.slice(0, end));
      if (end < journal.length) await truncate(join(dir, JOURNAL), bytes);
      return new RunFolder(dir, run, await openJournal(dir));
    } catch (error) {
      await unlock(dir);
      throw error;
    }
  }

  /**
   * For a worker process: opens the folder that its session has locked, and puts its own number into the lock.
   * Throws UsageError `run-dir` where there is no run, CheckpointError `run-dir-damaged`.
   */
  static async join(dir: string): Promise<RunFolder> {
    const run = await readRun(dir);
    await addToLock(dir);
    return new RunFolder(dir, run, await openJournal(dir), false);
  }

  /**
   * Adds a line. With `durable` it, and all before it, is on the disk when the promise resolves: for what must
   * survive a power cut.
   * Throws CheckpointError `run-dir-full`, `run-dir-io`.
   */
  append(entry: JournalEntry, durability: Durability = 'buffered'): Promise<void> {
    const line = encodeLine(entry);
    const written = this.#writing.then(async () => {
      try {
        await this.#journal.appendFile(line);
        if (durability === 'durable') await this.#journal.sync();
      } catch (cause) {
        throw notWritten(this.dir, cause);
      }
    });
    // A failed line is reported to its own caller; it must not fail the next one.
    this.#writing = written.catch(() => {});
    return written;
  }

  /** All lines, oldest first. Throws CheckpointError `run-dir-damaged` where one before the last is broken. */
  async readJournal(): Promise<readonly JournalEntry[]> {
    await this.#writing;
    const { lines } = decodeJournal(this.dir, (await readIfThere(join(this.dir, JOURNAL))) ?? '');
    return lines.map(({ kind, pair, data }) => ({ kind, pair, data }));
  }

  /** Closes the journal and gives the lock back. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#journal.close();
    if (this.#locked) await unlock(this.dir);
  }
}

/**
 * What a run is, and its journal with the times, for the report: at once, and without the lock.
 *
 * @returns null where there is no run in the folder
 * @throws CheckpointError `run-dir-damaged`, errors of the file system
 */
export function readRunFolder(dir: string): { run: RunFile; journal: readonly JournalLine[] } | null {
  if (!existsSync(join(dir, RUN_FILE))) return null;
  const run = parseRun(dir, readFileSync(join(dir, RUN_FILE), 'utf8'));
  // whatever stands there must not be read without end
  const isFile = statSync(join(dir, JOURNAL), { throwIfNoEntry: false })?.isFile() === true;
  const journal = isFile ? readFileSync(join(dir, JOURNAL), 'utf8') : '';
  return { run, journal: decodeJournal(dir, journal).lines };
}

function withoutSecrets({ host, port, username, tls }: Endpoint): StoredEndpoint {
  return { host, port, username, tls: tls === null ? null : { sni: tls.sni, insecure: tls.insecure } };
}

/** `{"sum":"<8 hex digits>","kind":…}`: the sum is of the line as it would be without it. */
function encodeLine(entry: JournalEntry): string {
  const json = harmlessJson({ ...entry, at: new Date().toISOString() });
  return `{"sum":"${checksum(json)}",${json.slice(1)}\n`;
}

/** Null where the line, which is without its newline, is torn or damaged. */
function decodeLine(line: string): JournalLine | null {
  const parts = /^\{"sum":"([0-9a-f]{8})",(.*)$/s.exec(line);
  if (parts === null || checksum(`{${parts[2]}`) !== parts[1]) return null;
  const { kind, pair, data, at } = JSON.parse(line) as JournalLine;
  return { kind, pair, data, at };
}

/** The whole lines, and where in the text the last one ends. Only the last line may be torn. */
function decodeJournal(dir: string, text: string): { lines: JournalLine[]; end: number } {
  const lines: JournalLine[] = [];
  let end = 0;
  while (end < text.length) {
    const newline = text.indexOf('\n', end);
    const line = newline === -1 ? null : decodeLine(text.slice(end, newline));
    if (line === null) {
      if (newline !== -1 && newline !== text.length - 1) throw damaged(dir, JOURNAL);
      break;
    }
    lines.push(line);
    end = newline + 1;
  }
  return { lines, end };
}

function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, CHECKSUM_LENGTH);
}

async function readRun(dir: string): Promise<RunFile> {
  const text = await readIfThere(join(dir, RUN_FILE));
  if (text !== null) return parseRun(dir, text);
  throw new UsageError(`there is no run in ${printable(dir)}`, {
    code: 'run-dir',
    hint: 'give the folder that the run printed when it began',
  });
}

function parseRun(dir: string, text: string): RunFile {
  try {
    const run: unknown = JSON.parse(text);
    if (isRun(run)) return run;
  } catch {
    // not JSON: damaged, as below
  }
  throw damaged(dir, RUN_FILE);
}

/** True for what create() writes. What stands in its options is not looked at: they are checked where they are used. */
function isRun(run: unknown): run is RunFile {
  if (!isObject(run) || typeof run['runId'] !== 'string' || !isObject(run['options'])) return false;
  const { pairs } = run;
  return Array.isArray(pairs) && pairs.every(isPair);
}

function isPair(pair: unknown): boolean {
  return (
    isObject(pair) &&
    typeof pair['name'] === 'string' &&
    isStoredEndpoint(pair['source']) &&
    isStoredEndpoint(pair['target']) &&
    (pair['wave'] === undefined || typeof pair['wave'] === 'string') &&
    (pair['options'] === undefined || isObject(pair['options'])) &&
    (pair['auth'] === undefined || isObject(pair['auth'])) &&
    (pair['tls'] === undefined || isObject(pair['tls']))
  );
}

function isStoredEndpoint(server: unknown): server is StoredEndpoint {
  if (!isObject(server)) return false;
  const { host, port, username, tls } = server;
  return (
    typeof host === 'string' &&
    Number.isInteger(port) &&
    (username === null || typeof username === 'string') &&
    (tls === null || isObject(tls))
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The file is whole or not there, whatever happens: temporary file, fsync, rename; openJournal() has the folder's fsync. */
async function writeWhole(dir: string, name: string, content: string): Promise<void> {
  const temporary = join(dir, `${name}.new`);
  const file = await open(temporary, 'w', FILE_MODE);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(dir, name));
}

async function syncFolder(dir: string): Promise<void> {
  const folder = await open(dir, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function openJournal(dir: string): Promise<FileHandle> {
  const file = await open(join(dir, JOURNAL), 'a', FILE_MODE);
  await syncFolder(dir);
  return file;
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null;
    throw damaged(dirname(path), basename(path), error);
  }
}

/** Folders locked by this very process: a process number alone does not tell it from a namesake before a restart. */
const lockedHere = new Set<string>();

/** Throws CheckpointError `run-dir-locked` where another living process, or another machine, has the folder. */
async function lock(dir: string): Promise<void> {
  const path = join(dir, LOCK);
  const content = `${process.pid} ${hostname()}\n`;
  for (let attempt = 1; attempt <= 2; attempt += 1) {
    try {
      await writeFile(path, content, { flag: 'wx', mode: FILE_MODE });
      lockedHere.add(dir);
      return;
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw folderError(dir, error);
    }
    const [owner = '', ...workers] = (await lockText(path)).split('\n');
    const [pid = '', host = ''] = owner.split(' ');
    const left = owner === '' || (host === hostname() && !isAlive(Number(pid)));
    const dead = left && !lockedHere.has(dir);
    // they end by themselves when their session does
    if (dead && host === hostname()) await untilGone(dir, workers.map(Number));
    if (!dead || attempt === 2) {
      throw new CheckpointError(
        `process ${printable(pid)} on ${printable(host)} works in ${printable(dir)}`,
        {
          code: 'run-dir-locked',
          hint: `end that process; if there is none any more: rm ${printable(path)}`,
        },
      );
    }
    await rm(path, { force: true });
  }
}

/** A worker's number, into a lock that is there: a session that has gone meanwhile has taken it away. */
async function addToLock(dir: string): Promise<void> {
  try {
    const file = await open(join(dir, LOCK), constants.O_WRONLY | constants.O_APPEND);
    await file.write(`${process.pid}\n`);
    await file.close();
  } catch (error) {
    throw folderError(dir, error);
  }
}

/** Throws CheckpointError `run-dir-locked` where a worker of a session that has died goes on living. */
async function untilGone(dir: string, workers: readonly number[]): Promise<void> {
  for (let look = 1; ; look++) {
    const living = workers.find(isAlive);
    if (living === undefined) return;
    if (look === WORKER_LOOKS) {
      throw new CheckpointError(`worker process ${living} of a session that has died still runs`, {
        code: 'run-dir-locked',
        hint: `end it: kill -9 ${living}; if that is another program: rm ${printable(join(dir, LOCK))}`,
      });
    }
    await delay(WORKER_PAUSE_MS);
  }
}

/** What the lock says; '' where it is gone, or was left by a process that was killed before it had written to it. */
async function lockText(path: string): Promise<string> {
  for (let look = 1; ; look++) {
    const text = (await readIfThere(path))?.trim() ?? '';
    if (text !== '' || look === EMPTY_LOOKS) return text;
    await delay(EMPTY_PAUSE_MS);
  }
}

async function unlock(dir: string): Promise<void> {
  await rm(join(dir, LOCK), { force: true });
  lockedHere.delete(dir);
}

/** Our own number means a process before a restart of the machine or container, see lockedHere. */
function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function folderError(dir: string, error: unknown): UsageError {
  const reason = error instanceof Error ? error.message : String(error);
  return new UsageError(`the run folder ${printable(dir)} cannot be used: ${printable(reason)}`, {
    code: 'run-dir',
    hint: 'give a folder that you may write to with --run-dir',
  });
}

/** @param cause why it cannot be read; left out: its content is not what was written */
function damaged(dir: string, file: string, cause?: unknown): CheckpointError {
  const how = cause === undefined ? 'is damaged' : `cannot be read (${codeOf(cause)})`;
  return new CheckpointError(`${file} in ${printable(dir)} ${how}`, {
    code: 'run-dir-damaged',
    hint: `keep the folder; see what is fenced with ACL LIST on both servers, and begin a new run`,
    cause,
  });
}

function notWritten(dir: string, cause: unknown): CheckpointError {
  const full = hasCode(cause, 'ENOSPC') || hasCode(cause, 'EDQUOT');
  return new CheckpointError(
    `the journal in ${printable(dir)} cannot be written: ${full ? 'the disk is full' : codeOf(cause)}`,
    {
      code: full ? 'run-dir-full' : 'run-dir-io',
      hint: 'what it does not hold could not be undone after a crash: make room on the disk of the run folder (df -h), then redis-cutover resume RUN_DIR',
      cause,
    },
  );
}

function codeOf(error: unknown): string {
  return printable((error as NodeJS.ErrnoException | null)?.code ?? 'unknown');
}

/**
 * The name of a pair as part of a file's name. Two pairs never share one: a name that is not plain gets a checksum,
 * and so do capitals, which some file systems take for small letters.
 */
export function safeFileName(name: string): string {
  if (/^[a-z0-9_-][a-z0-9._-]{0,99}$/.test(name)) return name;
  return `${name.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 100)}-${checksum(name)}`;
}
