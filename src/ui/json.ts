/**
 * NDJSON for scripts: one event per line on stdout, people's text on stderr. Keys are those of core/events.ts
 * (design.md fixes some of them) behind `ts`.
 */
import type { Writable } from 'node:stream';
import type { MigrationEvent } from '../core/events.ts';
import type { Renderer } from '../core/ports.ts';
import { harmlessJson } from '../core/text.ts';
import { textLines } from './lines.ts';
import { safeWriter } from './output.ts';

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
