/**
 * The live table as lines of text: snapshots and a screen size in, lines out. Pure; live.ts puts them on the
 * screen. No line is wider than the screen, and there are fewer lines than rows.
 */
import stringWidth from 'string-width';
import type { PairSnapshot } from '../core/events.ts';
import { isTerminal } from '../core/phase.ts';
import { printable } from '../core/text.ts';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatEta,
  formatPercent,
  formatRate,
  formatShortCount,
} from './format.ts';
import { divergenceText, phaseStyle } from './lines.ts';
import type { Paint } from './paint.ts';

export interface TableSize {
  readonly columns: number;
  readonly rows: number;
}

const GAP = '  ';
/** `10.0.0.1:6379 ==> 10.0.0.2:6379`: a narrower first column would cut an everyday pair. */
const LINK_MIN = 31;
const NAME_MIN = 6;
/** A reason cut shorter than this says nothing. */
const REASON_MIN = 16;

/** `[s] start`: one item of the footer. */
const KEY_LABEL = /(\[.\]) [^[]*\S(?= {2}|$)/g;

interface Column {
  readonly title: string;
  readonly width: number;
  readonly cell: (pair: PairSnapshot) => string;
}

const PHASE: Column = { title: 'PHASE', width: 11, cell: (pair) => pair.phase };
const FEED: Column = { title: 'FEED', width: 6, cell: (pair) => pair.feed ?? '' };
const SNAPSHOT: Column = { title: 'SNAPSHOT', width: 12, cell: snapshotCell };
const LAG: Column = { title: 'LAG', width: 14, cell: lagCell };
/** The figure that matters now, where there is no room for both. */
const NOW: Column = {
  title: 'SNAPSHOT/LAG',
  width: 14,
  cell: (pair) => (pair.phase === 'snapshot' ? snapshotCell(pair) : lagCell(pair)),
};
const KEYS: Column = {
  title: 'KEYS',
  width: 13,
  cell: (pair) => (pair.phase === 'checking' ? '' : formatCount(pair.keys)),
};
const SHORT_KEYS: Column = {
  title: 'KEYS',
  width: 6,
  cell: (pair) => (pair.phase === 'checking' ? '' : formatShortCount(pair.keys)),
};
const RATE: Column = { title: 'RATE', width: 10, cell: rateCell };
const ETA: Column = { title: 'ETA', width: 7, cell: (pair) => formatEta(pair) ?? '' };
/** Phase and progress in one, for the narrowest screens. */
const STATE: Column = {
  title: 'STATE',
  width: 11,
  cell: (pair) => {
    const percent = pair.phase === 'snapshot' ? formatPercent(pair.snapshotBytes, pair.snapshotTotal) : null;
    return percent === null ? pair.phase : `load ${percent}`;
  },
};

/** From the richest to the poorest; the first that fits is taken. Columns behind the first one, which is the pair. */
const LAYOUTS: readonly { readonly pairMin: number; readonly columns: readonly Column[] }[] = [
  { pairMin: LINK_MIN, columns: [PHASE, FEED, SNAPSHOT, KEYS, RATE, ETA, LAG] },
  { pairMin: LINK_MIN, columns: [PHASE, SNAPSHOT, KEYS, RATE, ETA, LAG] },
  { pairMin: LINK_MIN, columns: [PHASE, NOW, SHORT_KEYS, RATE, ETA] },
  { pairMin: LINK_MIN, columns: [PHASE, NOW, SHORT_KEYS, RATE] },
  { pairMin: LINK_MIN, columns: [PHASE, NOW, SHORT_KEYS] },
  { pairMin: LINK_MIN, columns: [PHASE, NOW] },
  { pairMin: NAME_MIN, columns: [PHASE, NOW] },
  { pairMin: NAME_MIN, columns: [STATE] },
];

/** Header, a line per pair (reasons below it where they do not fit beside), totals, footer. */
export function tableLines(
  pairs: readonly PairSnapshot[],
  footer: string,
  size: TableSize,
  paint: Paint,
): string[] {
  const columns = Math.max(1, size.columns);
  // one row stays free: drawing in the very last one would scroll the screen
  const room = Math.max(1, size.rows - 1);
  const totals = fit(joinWhile(totalParts(pairs), columns), columns);
  const footRoom = Math.max(1, Math.floor(room / 3));
  let foot = wrapFooter(footer, columns);
  // rather every key without its word than half of the keys
  if (foot.length > footRoom) foot = wrapFooter(footer.replace(KEY_LABEL, '$1'), columns).slice(0, footRoom);
  const pairRoom = room - 2 - foot.length;
  if (pairRoom < 1) return [totals, ...foot].slice(-room);

  const shown = pairs.length > pairRoom ? pairs.slice(0, pairRoom - 1) : pairs;
  const hidden = pairs.slice(shown.length);
  const rows = shown.map((pair) => ({
    pair,
    name: nameOf(pair),
    link: linkOf(pair),
    reason: reasonOf(pair),
  }));

  const natural = Math.max(0, ...rows.map((row) => stringWidth(row.link)));
  const layout = LAYOUTS.find(
    ({ pairMin, columns: behind }) => Math.min(natural, pairMin) + widthOf(behind) <= columns,
  ) ?? { pairMin: NAME_MIN, columns: [STATE] };
  const showsLink = layout.pairMin === LINK_MIN;
  const pairWidth = Math.max(
    1,
    Math.min(
      showsLink ? natural : Math.max(NAME_MIN, ...rows.map((row) => stringWidth(row.name))),
      columns - widthOf(layout.columns),
    ),
  );
  const used = pairWidth + widthOf(layout.columns);

  const lines: string[] = [];
  const header = [pad(fit(showsLink ? 'SOURCE ==> TARGET' : 'PAIR', pairWidth), pairWidth)];
  for (const column of layout.columns) header.push(pad(column.title, column.width));
  lines.push(paint('dim', fit(header.join(GAP).trimEnd(), columns)));

  let spare = pairRoom - shown.length - (hidden.length > 0 ? 1 : 0);
  for (const { pair, name, reason } of rows) {
    const label = pad(showsLink ? fitLink(pair, pairWidth) : fit(name, pairWidth), pairWidth);
    // a pair without figures has the whole rest of the line for its reason
    const columnsOfPair = reason !== '' && hasNoFigures(pair) ? layout.columns.slice(0, 1) : layout.columns;
    const cells = columnsOfPair.map((column) => pad(fit(column.cell(pair), column.width), column.width));
    const left = columns - (pairWidth + widthOf(columnsOfPair)) - GAP.length;
    const beside = reason !== '' && left >= Math.min(REASON_MIN, stringWidth(reason));
    const painted = cells.map((cell, index) => (index === 0 ? paint(phaseStyle(pair.phase), cell) : cell));
    if (used <= columns) {
      const line = [label, ...painted].join(GAP);
      lines.push(beside ? `${line}${GAP}${fit(reason, left)}` : line.trimEnd());
    } else {
      lines.push(fit(`${label}${GAP}${cells.join(GAP)}`, columns));
    }
    if (reason !== '' && !beside && spare > 0) {
      lines.push(fit(`${GAP}${reason}`, columns));
      spare -= 1;
    }
  }
  if (hidden.length > 0) lines.push(fit(hiddenText(hidden), columns));
  lines.push(totals, ...foot.map((line) => paint('dim', line)));
  return lines;
}

function widthOf(columns: readonly Column[]): number {
  return columns.reduce((sum, column) => sum + GAP.length + column.width, 0);
}

function hasNoFigures(pair: PairSnapshot): boolean {
  return pair.phase === 'checking' || isTerminal(pair.phase);
}

function snapshotCell(pair: PairSnapshot): string {
  if (pair.phase === 'checking') return '';
  const percent = formatPercent(pair.snapshotBytes, pair.snapshotTotal);
  const bytes = formatBytes(pair.snapshotBytes);
  return percent === null ? bytes : `${percent} ${bytes}`;
}

function isStreaming(pair: PairSnapshot): boolean {
  return pair.phase === 'catching-up' || pair.phase === 'in-sync' || pair.phase === 'writable';
}

function lagCell(pair: PairSnapshot): string {
  return isStreaming(pair) ? `${formatBytes(pair.lagBytes)} ${formatDuration(pair.lagSeconds)}` : '';
}

function rateCell(pair: PairSnapshot): string {
  if (pair.phase === 'snapshot') return formatRate(pair.bytesPerSecond);
  return isStreaming(pair) ? `${formatShortCount(pair.commandsPerSecond)} op/s` : '';
}

function reasonOf(pair: PairSnapshot): string {
  const parts = [
    pair.divergences === 0 ? '' : divergenceText(pair),
    pair.reason === null ? '' : printable(pair.reason),
    pair.wayBack === null ? '' : printable(pair.wayBack),
  ];
  return parts.filter((part) => part !== '').join('; ');
}

function nameOf(pair: PairSnapshot): string {
  return printable(pair.pair);
}

/** `source ==> target`, behind the pair's name where it has one of its own: people must type it later. */
function linkOf(pair: PairSnapshot): string {
  const link = `${printable(pair.source)} ==> ${printable(pair.target)}`;
  return pair.pair === pair.source ? link : `${nameOf(pair)}: ${link}`;
}

/** The link in `width` columns: whole, or the name for the source, each side cut in its middle. */
function fitLink(pair: PairSnapshot, width: number): string {
  const whole = linkOf(pair);
  if (stringWidth(whole) <= width) return whole;
  const arrow = ' ==> ';
  const name = nameOf(pair);
  const target = printable(pair.target);
  const room = width - arrow.length;
  if (room < 8) return fit(name, width);
  const half = Math.floor(room / 2);
  const left = Math.min(stringWidth(name), Math.max(half, room - stringWidth(target)));
  return `${fitAddress(name, left)}${arrow}${fitAddress(target, room - left)}`;
}

/** A `host:port` cut inside the host: the port tells instances of one host apart. */
function fitAddress(address: string, width: number): string {
  const port = /:\d{1,5}$/.exec(address)?.[0] ?? '';
  if (stringWidth(address) <= width || port.length + 3 > width) return fit(address, width);
  return `${fit(address.slice(0, -port.length), width - port.length)}${port}`;
}

/** Sums over all pairs, the most telling first; the first part is always shown. */
function totalParts(pairs: readonly PairSnapshot[]): string[] {
  const loading = pairs.filter((pair) => pair.phase === 'snapshot');
  const streaming = pairs.filter(isStreaming);
  const parts = [`${formatCount(pairs.length)} pair${pairs.length === 1 ? '' : 's'}`];
  if (loading.length > 0) {
    const bytes = sum(loading, (pair) => pair.snapshotBytes);
    const total = loading.some((pair) => pair.snapshotTotal === null)
      ? null
      : sum(loading, (pair) => pair.snapshotTotal ?? 0);
    const percent = formatPercent(bytes, total);
    parts.push(
      percent === null || total === null ? formatBytes(bytes) : `${percent} of ${formatBytes(total)}`,
    );
  }
  if (streaming.length > 0) {
    const seconds = Math.max(...streaming.map((pair) => pair.lagSeconds));
    parts.push(`lag ${formatBytes(sum(streaming, (pair) => pair.lagBytes))} ${formatDuration(seconds)}`);
  }
  parts.push(`${formatCount(sum(pairs, (pair) => pair.keys))} keys`);
  if (loading.length > 0) {
    parts.push(formatRate(sum(loading, (pair) => pair.bytesPerSecond)));
    // the slowest pair ends the snapshot, so one unknown makes the whole unknown
    const known = loading.every((pair) => formatEta(pair) !== null);
    if (known) parts.push(`ETA ${formatDuration(Math.max(...loading.map((pair) => pair.etaSeconds ?? 0)))}`);
  }
  if (streaming.length > 0) {
    parts.push(`${formatShortCount(sum(streaming, (pair) => pair.commandsPerSecond))} op/s`);
  }
  return parts;
}

function hiddenText(hidden: readonly PairSnapshot[]): string {
  const counts = new Map<string, number>();
  for (const pair of hidden) counts.set(pair.phase, (counts.get(pair.phase) ?? 0) + 1);
  const phases = [...counts].map(([phase, count]) => `${count} ${phase}`).join(', ');
  return `... and ${hidden.length} more: ${phases}`;
}

function sum(pairs: readonly PairSnapshot[], figure: (pair: PairSnapshot) => number): number {
  return pairs.reduce((total, pair) => total + figure(pair), 0);
}

/** As many of the parts as fit in `width`, at least the first. */
function joinWhile(parts: readonly string[], width: number): string {
  let line = parts[0] ?? '';
  for (const part of parts.slice(1)) {
    if (stringWidth(line) + GAP.length + stringWidth(part) > width) break;
    line += GAP + part;
  }
  return line;
}

/** The footer's items (two spaces between them) on as many lines as they need. */
function wrapFooter(footer: string, width: number): string[] {
  if (footer === '') return [];
  const lines: string[] = [];
  for (const item of printable(footer).split(/ {2,}/)) {
    const last = lines.at(-1);
    if (last !== undefined && stringWidth(last) + GAP.length + stringWidth(item) <= width) {
      lines[lines.length - 1] = last + GAP + item;
    } else {
      lines.push(fit(item, width));
    }
  }
  return lines;
}

/**
 * A line of prose broken between words. Indented lines stay whole: they hold what people copy, and a terminal that
 * breaks a line by itself copies it as one.
 */
export function wrapWords(line: string, width: number): string[] {
  if (line.startsWith(' ') || stringWidth(line) <= width) return [line];
  const [first = '', ...words] = line.split(' ');
  const lines = [first];
  for (const word of words) {
    const longer = `${lines.at(-1)} ${word}`;
    if (stringWidth(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

const graphemes = new Intl.Segmenter();

/** Text in at most `width` columns, with `…` where something was cut off. */
function fit(text: string, width: number): string {
  if (stringWidth(text) <= width) return text;
  if (width < 1) return '';
  let kept = '';
  let used = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = stringWidth(segment);
    if (used + next > width - 1) break;
    kept += segment;
    used += next;
  }
  return `${kept}…`;
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stringWidth(text)));
}
