/**
 * NDJSON for scripts: one event per line on stdout, people's text on stderr. Keys are those of core/events.ts
 * (design.md fixes some of them) behind `ts`.
 */
import type { Writable } from 'node:stream';
import type { MigrationEvent } from '../core/events.ts';
import type { Renderer } from '../core/ports.ts';
import { textLines } from './lines.ts';
import { safeWriter } from './output.ts';

// Legal in JSON as they are, but a terminal that shows the stream would act on them.
const ACTS_ON_TERMINALS = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** `say` and `step` go to `people`; `frame` emits nothing, progress comes as events. */
export function jsonRenderer(out: Writable, people: Writable = process.stderr): Renderer {
  const write = safeWriter(out);
  const tell = safeWriter(people);
  const say = (text: string): void => {
    for (const line of textLines(text)) tell(`${line}\n`);
  };
  return {
    event(event) {
      // a reader that does not keep up loses samples, never a state change
      if (event.event === 'progress' && out.writableNeedDrain) return;
      write(eventLine(event));
    },
    frame() {},
    say,
    step(text) {
      say(`${text} ...`);
      return (result, endText) => say(`${result === 'ok' ? 'ok' : 'FAILED'}: ${endText ?? text}`);
    },
    close() {},
  };
}

/** One line of NDJSON, with its newline and the time. */
export function eventLine(event: MigrationEvent): string {
  return `${harmlessJson({ ts: new Date().toISOString(), ...event })}\n`;
}

/** JSON without indentation that is harmless on a terminal, too. NaN and Infinity become null. */
export function harmlessJson(value: object): string {
  return JSON.stringify(value).replace(ACTS_ON_TERMINALS, escapeUnit);
}

function escapeUnit(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
