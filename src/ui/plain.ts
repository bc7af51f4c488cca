/** Off a terminal: one line per state change, no colour, nothing redrawn; progress now and then. */
import type { Writable } from 'node:stream';
import type { WriteStream } from 'node:tty';
import type { Renderer } from '../core/ports.ts';
import { eventLines, progressLine, textLines, verifyLine } from './lines.ts';
import { safeWriter } from './output.ts';
import { noPaint } from './paint.ts';

const PROGRESS_EVERY_MS = 10_000;

/** Lines to `out`; a pair's progress at most every 10 s, and only where it changed. `now` in ms. */
export function plainRenderer(out: Writable, now: () => number = Date.now): Renderer {
  const write = safeWriter(out);
  const lastProgress = new Map<string, { atMs: number; line: string }>();

  const say = (text: string): void => {
    for (const line of textLines(text)) write(`${line}\n`);
  };
  const progress = (pair: string, line: string | null): void => {
    const last = lastProgress.get(pair);
    if (last !== undefined && now() - last.atMs < PROGRESS_EVERY_MS) return;
    if (line === null || line === last?.line) return;
    lastProgress.set(pair, { atMs: now(), line });
    write(`${line}\n`);
  };

  return {
    event(event) {
      if (event.event === 'progress') progress(event.pair, progressLine(event));
      else if (event.event === 'verify-progress') progress(event.pair, verifyLine(event));
      else for (const line of eventLines(event, noPaint)) write(`${line}\n`);
    },
    frame(pairs) {
      for (const pair of pairs) progress(pair.pair, progressLine(pair));
    },
    say,
    step(text) {
      say(`${text} ...`);
      return (result, endText) => say(`${result === 'ok' ? 'ok' : 'FAILED'}: ${endText ?? text}`);
    },
    close() {},
  };
}

/** True where a table can be redrawn in place; elsewhere this is the renderer. */
export function canRedraw(out: WriteStream): boolean {
  return out.isTTY && process.env['TERM'] !== 'dumb';
}
