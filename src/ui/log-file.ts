/** `--log`: every event of a session as NDJSON in a file, beside whatever the screen shows. */
import { closeSync, fchmodSync, fstatSync, openSync, writeSync } from 'node:fs';
import { UsageError } from '../core/errors.ts';
import type { Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import { filtered } from './filter.ts';
import { eventLine } from './json.ts';

/** It names hosts, users and clients. */
const FILE_MODE = 0o600;

/**
 * `inner`, and each event at the end of the file `path`: on the disk's way before the screen shows it, so that it is
 * there also after a kill -9. A file that cannot be written any more is said once, and the session goes on.
 *
 * @throws UsageError `log-file` where it cannot be opened
 */
export function withLog(inner: Renderer, path: string): Renderer {
  let file: number | null = open(path);
  const write = (line: string): void => {
    if (file === null) return;
    try {
      writeSync(file, line);
    } catch (error) {
      closeSync(file);
      file = null;
      inner.say(`the log ${printable(path)} cannot be written any more: ${codeOf(error)}`);
    }
  };
  return filtered(inner, (event) => {
    write(eventLine(event));
    inner.event(event);
  });
}

function open(path: string): number {
  try {
    const file = openSync(path, 'a', FILE_MODE);
    // of before, with more rights
    if (fstatSync(file).isFile()) fchmodSync(file, FILE_MODE);
    return file;
  } catch (cause) {
    throw new UsageError(`--log ${printable(path)} cannot be written: ${codeOf(cause)}`, {
      code: 'log-file',
      hint: 'give a file in a folder that you may write to',
      cause,
    });
  }
}

function codeOf(error: unknown): string {
  return printable((error as NodeJS.ErrnoException).code ?? 'unknown');
}
