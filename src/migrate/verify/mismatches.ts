/** The list of keys that differ, for people and scripts: NDJSON, one key a line, never a value. */
import { type FileHandle, open } from 'node:fs/promises';
import { UsageError } from '../../core/errors.ts';
import { harmlessJson, printable } from '../../core/text.ts';
import type { DifferenceKind } from './compare-keys.ts';

/** `unsettled`: see VerifyResult. `library`: a function library. */
type MismatchKind = DifferenceKind | 'unsettled' | 'library';

export interface Mismatch {
  /** null: not in a database (functions). */
  readonly db: number | null;
  readonly key: Buffer;
  readonly kind: MismatchKind;
  /** As TYPE says; '' where it has none. */
  readonly type: string;
  /** True: it is the same now. Left out: nothing was repaired. A text: why it could not be. */
  readonly repaired?: true | string;
}

/** Takes what was found, one after the other. */
export type MismatchSink = (mismatch: Mismatch) => void;

const FILE_MODE = 0o600;
const FLUSH_BYTES = 64 * 1024;

/**
 * One line without its newline: `{"pair":"cart","db":0,"key":"cart:1","kind":"value","type":"hash"}`. A key that could not be typed
 * as it is shown stands there as `keyBase64` instead.
 */
export function mismatchLine(pair: string, { db, key, kind, type, repaired }: Mismatch): string {
  const text = key.toString('utf8');
  const plain = Buffer.from(text, 'utf8').equals(key) && printable(text, text.length) === text;
  const named = plain ? { key: text } : { keyBase64: key.toString('base64') };
  return harmlessJson({
    pair: printable(pair),
    db,
    ...named,
    kind,
    type: printable(type, 80),
    ...(repaired === undefined ? {} : { repaired }),
  });
}

/** The same for people: `different (value, hash): db0 "cart:1"`. */
export function mismatchText({ db, key, kind, type, repaired }: Mismatch): string {
  const where = db === null ? '' : `db${db} `;
  const what = type === '' ? kind : `${kind}, ${printable(type, 80)}`;
  const now =
    repaired === undefined ? '' : repaired === true ? ': repaired' : `: not repaired: ${printable(repaired)}`;
  return `${where}"${printable(key.toString('utf8'), 80)}" (${what})${now}`;
}

export class MismatchFile {
  readonly #path: string;
  readonly #file: FileHandle;
  #text = '';
  #written: Promise<unknown> = Promise.resolve();

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** A new file that its owner alone can read. Throws UsageError `mismatch-file`. */
  static async create(path: string): Promise<MismatchFile> {
    try {
      return new MismatchFile(path, await open(path, 'wx', FILE_MODE));
    } catch (cause) {
      throw fileError(
        path,
        cause,
        'give another name with --mismatches; a file that is there is not overwritten',
      );
    }
  }

  /** @param pair its name */
  add(pair: string, mismatch: Mismatch): void {
    this.#text += `${mismatchLine(pair, mismatch)}\n`;
    if (this.#text.length >= FLUSH_BYTES) this.#flush();
  }

  /** Throws UsageError `mismatch-file` where not all of it could be written. */
  async close(): Promise<void> {
    this.#flush();
    try {
      await this.#written;
    } catch (cause) {
      throw fileError(this.#path, cause, 'is the disk full?');
    } finally {
      await this.#file.close();
    }
  }

  #flush(): void {
    const text = this.#text;
    this.#text = '';
    this.#written = this.#written.then(() => this.#file.appendFile(text));
    // close() tells of it
    this.#written.catch(() => undefined);
  }
}

function fileError(path: string, cause: unknown, hint: string): UsageError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'failed';
  return new UsageError(`the list of keys ${printable(path)} cannot be written: ${printable(code)}`, {
    code: 'mismatch-file',
    hint,
    cause,
  });
}
