/**
 * The live view on a terminal: the table is redrawn in place, messages scroll above it, single steps before the
 * table get a spinner. table.ts lays out, this file only knows how to get lines onto a screen.
 */
import type { WriteStream } from 'node:tty';
import ora, { type Ora } from 'ora';
import stringWidth from 'string-width';
import type { MigrationEvent, PairSnapshot } from '../core/events.ts';
import type { Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import { detailLines } from './detail.ts';
import { eventLines, textLines, verifyLine } from './lines.ts';
import { safeWriter } from './output.ts';
import { ansiPaint, noPaint, type Paint } from './paint.ts';
import { PairHistory } from './pair-history.ts';
import { pageOf, type TableSize, tableLines, wrapWords } from './table.ts';
import { guardTerminal } from './terminal-guard.ts';
import { FIRST_VIEW, footerFor, sorted, type TableView, type ViewKey, viewAfter } from './view.ts';

/** What the operator needs of the screen while it asks. */
export interface Screen {
  /** Shows `text` in place of the footer for a moment. */
  hint(text: string): void;
  /** Takes the table away for a question; messages still come, and `repaint` draws the question again below them. */
  suspend(repaint: () => void): void;
  /** Brings the table back. */
  resume(): void;
  /** Moves about in the table; false where there is none, or the key has nothing to do. */
  viewKey(key: ViewKey): boolean;
  /** Name of the pair that is chosen in the table; null: none. */
  chosen(): string | null;
}

export interface LiveRenderer extends Renderer, Screen {}

const MIN_REDRAW_MS = 100;
const HINT_MS = 3_000;
const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const CLEAR_BELOW = '\x1b[J';
const CLEAR_LINE = '\x1b[2K';

/** Colour follows the terminal and NO_COLOR (node's `hasColors`). */
export function liveRenderer(out: WriteStream): LiveRenderer {
  return new LiveView(out);
}

class LiveView implements LiveRenderer {
  readonly #out: WriteStream;
  readonly #write: (text: string) => void;
  readonly #paint: Paint;
  /** Lines of the table as they stand on the screen; the cursor is in the last one. Empty: no table there. */
  #drawn: string[] = [];
  #pairs: readonly PairSnapshot[] = [];
  #footer = '';
  #view: TableView = FIRST_VIEW;
  readonly #history = new PairHistory();
  #hint: string | null = null;
  #hintTimer: NodeJS.Timeout | undefined;
  #redrawTimer: NodeJS.Timeout | undefined;
  #lastRedrawMs = Number.NEGATIVE_INFINITY;
  #suspended: (() => void) | null = null;
  #spinner: Ora | null = null;
  /** Set while the cursor is hidden. */
  #release: (() => void) | null = null;
  #hasFrame = false;
  #finished = false;
  readonly #onResize = (): void => this.#resized();

  constructor(out: WriteStream) {
    this.#out = out;
    this.#write = safeWriter(out);
    this.#paint = out.hasColors() ? ansiPaint : noPaint;
    out.on('resize', this.#onResize);
  }

  event(event: MigrationEvent): void {
    if (event.event === 'verify-progress' && this.#spinner !== null) this.#spinner.text = verifyLine(event);
    if (event.event === 'summary') this.#finish();
    this.#history.event(event, Date.now());
    this.#print(eventLines(event, this.#paint));
  }

  frame(pairs: readonly PairSnapshot[], footer: string): void {
    if (this.#finished) return;
    this.#pairs = pairs;
    this.#history.frame(pairs, performance.now());
    this.#footer = footer;
    this.#hasFrame = true;
    this.#schedule();
  }

  say(text: string): void {
    this.#print(textLines(text));
  }

  step(text: string): (result: 'ok' | 'failed', text?: string) => void {
    const safe = printable(text);
    const end = (result: 'ok' | 'failed', endText: string): string =>
      `${result === 'ok' ? this.#paint('green', 'ok') : this.#paint('red', 'FAILED')} ${printable(endText)}`;
    if (this.#hasFrame || this.#spinner !== null || this.#suspended !== null) {
      // the table is there (or a question, or another spinner): two writers that move the cursor would fight
      if (this.#hasFrame) this.#setHint(`${safe} ...`);
      return (result, endText) => {
        this.#dropHint();
        this.#print([end(result, endText ?? text)]);
      };
    }
    this.#hideCursor();
    // hideCursor: ora's way installs signal handlers of its own that would keep ours from acting.
    // discardStdin: ora 9.4.1 swallows Ctrl-C with its default.
    const spinner = ora({
      text: safe,
      stream: this.#out,
      discardStdin: false,
      hideCursor: false,
      isEnabled: true,
      color: this.#paint === noPaint ? false : 'cyan',
    });
    this.#spinner = spinner.start();
    return (result, endText) => {
      if (this.#spinner === spinner) this.#stopSpinner();
      this.#print([end(result, endText ?? text)]);
      this.#schedule();
    };
  }

  hint(text: string): void {
    if (this.#finished) return;
    if (!this.#hasFrame) {
      this.#print([text]);
      return;
    }
    this.#setHint(text);
    this.#hintTimer = setTimeout(() => this.#dropHint(), HINT_MS).unref();
  }

  /** Stays until it is dropped. */
  #setHint(text: string): void {
    clearTimeout(this.#hintTimer);
    this.#hint = text;
    this.#schedule();
  }

  viewKey(key: ViewKey): boolean {
    if (!this.#hasFrame || this.#finished || this.#suspended !== null) return false;
    const names = sorted(this.#pairs, this.#view.sort).map(({ pair }) => pair);
    const before = this.#view;
    this.#view = viewAfter(before, key, names, pageOf(this.#pairs, this.#footerNow(), this.#size()));
    // Enter, where no pair is chosen
    if (key === 'details' && !this.#view.detail && !before.detail) return false;
    this.#dropHint();
    this.#schedule();
    return true;
  }

  chosen(): string | null {
    return this.#view.chosen;
  }

  suspend(repaint: () => void): void {
    this.#stopSpinner();
    this.#write(this.#erasing());
    this.#showCursor();
    this.#suspended = repaint;
  }

  resume(): void {
    this.#suspended = null;
    this.#schedule();
  }

  close(): void {
    this.#finish();
    this.#out.off('resize', this.#onResize);
  }

  /** Leaves the last table where it is; what is printed from here on follows below it. */
  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    clearTimeout(this.#hintTimer);
    this.#stopSpinner();
    if (this.#hasFrame && this.#suspended === null) {
      this.#hint = null;
      this.#footer = '';
      this.#view = FIRST_VIEW;
      this.#redraw();
    }
    if (this.#drawn.length > 0) this.#write('\n');
    this.#drawn = [];
    clearTimeout(this.#redrawTimer);
    this.#showCursor();
  }

  #dropHint(): void {
    if (this.#hint === null) return;
    clearTimeout(this.#hintTimer);
    this.#hint = null;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#finished || this.#redrawTimer !== undefined) return;
    const waitMs = this.#lastRedrawMs + MIN_REDRAW_MS - performance.now();
    if (waitMs <= 0) this.#redraw();
    else this.#redrawTimer = setTimeout(() => this.#redraw(), waitMs).unref();
  }

  /** Writes the lines that differ from those on the screen; nothing where none does. */
  #redraw(): void {
    clearTimeout(this.#redrawTimer);
    this.#redrawTimer = undefined;
    // a terminal that does not keep up gets the next frame instead of all of them
    if (
      !this.#hasFrame ||
      this.#suspended !== null ||
      this.#spinner !== null ||
      this.#out.writableNeedDrain
    ) {
      return;
    }
    this.#lastRedrawMs = performance.now();
    const lines = this.#layout();
    const same =
      lines.length === this.#drawn.length && lines.every((line, index) => line === this.#drawn[index]);
    if (same) return;
    this.#hideCursor();
    let output = this.#toFirstLine();
    for (const [index, line] of lines.entries()) {
      if (index > 0) output += '\n';
      // cleared before it is written: after a line of full width the cursor still is on its last column
      if (line !== this.#drawn[index]) output += `\r${CLEAR_LINE}${line}`;
    }
    if (lines.length < this.#drawn.length) output += `\r\x1b[B${CLEAR_BELOW}\x1b[A`;
    this.#drawn = lines;
    this.#write(output);
  }

  #layout(): string[] {
    const footer = this.#hint ?? this.#footerNow();
    const pair = this.#view.detail ? this.#pairs.find((each) => each.pair === this.#view.chosen) : undefined;
    if (pair !== undefined) {
      return detailLines(pair, this.#history.of(pair.pair), footer, this.#size(), this.#paint);
    }
    const verified = (name: string) => this.#history.of(name).verified;
    return tableLines(this.#pairs, footer, this.#size(), this.#paint, this.#view, verified);
  }

  #size(): TableSize {
    return { columns: this.#out.columns || 80, rows: this.#out.rows || 24 };
  }

  #footerNow(): string {
    return footerFor(this.#footer, this.#view, this.#pairs.length);
  }

  /** Lines above the table, in one write so that the table is never seen torn. */
  #print(lines: readonly string[]): void {
    if (lines.length === 0) return;
    const columns = this.#out.columns || 80;
    const text = `${lines.flatMap((line) => wrapWords(line, columns)).join('\n')}\n`;
    if (this.#suspended !== null) {
      this.#write(`\r${CLEAR_BELOW}${text}`);
      this.#suspended();
    } else if (this.#drawn.length > 0) {
      const table = this.#drawn;
      this.#write(`${this.#erasing()}${text}${table.join('\n')}`);
      this.#drawn = table;
    } else {
      // a running spinner steps aside by itself: it hooks the stream
      this.#write(text);
    }
  }

  #toFirstLine(): string {
    return this.#drawn.length > 1 ? `\r\x1b[${this.#drawn.length - 1}A` : '\r';
  }

  /** What takes the table off the screen, and forgets it. */
  #erasing(): string {
    if (this.#drawn.length === 0) return '';
    const output = this.#toFirstLine() + CLEAR_BELOW;
    this.#drawn = [];
    return output;
  }

  /** After a resize the terminal has wrapped lines that are now too wide: the table takes more rows than we drew. */
  #resized(): void {
    if (this.#drawn.length === 0) return;
    const columns = this.#out.columns || 80;
    const rows = this.#drawn.reduce(
      (sum, line) => sum + Math.max(1, Math.ceil(stringWidth(line) / columns)),
      0,
    );
    const up = Math.min(rows, this.#out.rows || 24) - 1;
    this.#write(`\r${up > 0 ? `\x1b[${up}A` : ''}${CLEAR_BELOW}`);
    this.#drawn = [];
    this.#redraw();
  }

  #stopSpinner(): void {
    if (this.#spinner === null) return;
    this.#spinner.stop();
    this.#spinner = null;
    this.#showCursor();
  }

  #hideCursor(): void {
    if (this.#release !== null) return;
    this.#release = guardTerminal({ restore: () => this.#leave(), reapply: () => this.#takeAgain() });
    this.#write(HIDE_CURSOR);
  }

  #showCursor(): void {
    if (this.#release === null) return;
    this.#release();
    this.#release = null;
    this.#write(SHOW_CURSOR);
  }

  /** For the guard: what the shell prints follows below the table. */
  #leave(): void {
    const midLine = this.#drawn.length > 0 || this.#spinner !== null;
    this.#write(`${midLine ? '\n' : ''}${SHOW_CURSOR}`);
    this.#drawn = [];
  }

  /** For the guard: nothing is known of the screen any more, so the table is drawn anew below. */
  #takeAgain(): void {
    this.#write(HIDE_CURSOR);
    this.#drawn = [];
    this.#schedule();
  }
}
