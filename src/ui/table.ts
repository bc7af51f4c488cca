/**
 * The live table as lines of text: snapshots and a screen size in, lines out. Pure; live.ts puts them on the
 * screen. No line is wider than the screen, and there are fewer lines than rows.
 */
import stringWidth from 'string-width';
import type { PairSnapshot, VerifyResult } from '../core/events.ts';
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
import { FIRST_VIEW, shareLoaded, sorted, type TableView, topOf } from './view.ts';

export interface TableSize {
  readonly columns: number;
  readonly rows: number;
}

const GAP = '  ';
/** Behind the name of the chosen pair; takes no room, so that choosing moves no column. */
const MARK = '< ';
/** `10.0.0.1:6379 ==> 10.0.0.2:6379`: a narrower first column would cut an everyday pair. */
const LINK_MIN = 31;
const NAME_MIN = 6;
/** A reason cut shorter than this says nothing. */
const REASON_MIN = 16;

/** Every key at once, and a name, fit into so many characters. */
const LONG_FOOTER = 500;

/** `[s] start`: one item of the footer. */
const KEY_LABEL = /(\[[^\]]+\]) [^[]*?\S(?= {2}|$)/g;
/** The totals take a second line only where the screen has so many rows. */
const TWO_TOTALS_ROWS = 12;

type Verified = (pair: string) => VerifyResult | null;

interface Column {
  readonly title: string;
  readonly width: number;
  readonly cell: (pair: PairSnapshot) => string;
  /** Shown for a pair without figures, too. */
  readonly always?: true;
}

const PHASE: Column = { title: 'PHASE', width: 11, cell: (pair) => pair.phase, always: true };
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
  always: true,
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
];
/** What is left where nothing else fits: without the columns that only some runs have. */
const NARROW_LAYOUTS: typeof LAYOUTS = [
  { pairMin: NAME_MIN, columns: [PHASE, NOW] },
  { pairMin: NAME_MIN, columns: [STATE] },
];

/** The layouts for these pairs: WAVE where the host list has waves, VERIFY where something was compared. */
function layoutsFor(pairs: readonly PairSnapshot[], verified: Verified): typeof LAYOUTS {
  const widest = Math.max(0, ...pairs.map((pair) => stringWidth(printable(pair.wave ?? ''))));
  const wave: Column = {
    title: 'WAVE',
    width: Math.min(8, Math.max(4, widest)),
    cell: (pair) => printable(pair.wave ?? ''),
    always: true,
  };
  const verify: Column = { title: 'VERIFY', width: 8, cell: (pair) => verifyCell(verified(pair.pair)) };
  const waves = widest === 0 ? [] : [wave];
  const verifies = pairs.some((pair) => verified(pair.pair) !== null) ? [verify] : [];
  return [
    ...LAYOUTS.map(({ pairMin, columns }) => ({ pairMin, columns: [...waves, ...columns, ...verifies] })),
    ...NARROW_LAYOUTS,
  ];
}

/** `ok`, `3 bad`, or `2 open` where keys could not be judged. */
function verifyCell(result: VerifyResult | null): string {
  if (result === null) return '';
  const bad = result.different + result.missing + result.extra - (result.repaired ?? 0);
  if (bad > 0) return `${formatShortCount(bad)} bad`;
  const open = result.unsettled ?? 0;
  return open > 0 ? `${formatShortCount(open)} open` : 'ok';
}

interface Frame {
  readonly columns: number;
  readonly room: number;
  readonly totals: readonly string[];
  readonly foot: readonly string[];
  readonly pairRoom: number;
  readonly page: number;
}

/** How the rows of the screen are shared out between pairs, totals and footer. */
function frameOf(pairs: readonly PairSnapshot[], footer: string, size: TableSize): Frame {
  const columns = Math.max(1, size.columns);
  // one row stays free: drawing in the very last one would scroll the screen
  const room = Math.max(1, size.rows - 1);
  const totals = fill(totalParts(pairs), columns).slice(0, room < TWO_TOTALS_ROWS ? 1 : 2);
  const footRoom = Math.max(1, Math.floor(room / 3));
  let foot = wrapFooter(footer, columns);
  // rather every key without its word than half of the keys
  if (foot.length > footRoom) foot = wrapFooter(footer.replace(KEY_LABEL, '$1'), columns).slice(0, footRoom);
  const pairRoom = room - 1 - totals.length - foot.length;
  // one row says what is hidden
  const page = Math.max(1, pairs.length > pairRoom ? pairRoom - 1 : pairRoom);
  return { columns, room, totals, foot, pairRoom, page };
}

/** So many pairs fit on the screen; what PgDn goes on by. */
export function pageOf(pairs: readonly PairSnapshot[], footer: string, size: TableSize): number {
  return frameOf(pairs, footer, size).page;
}

/** Header, a line per pair that fits (reasons below it where they do not fit beside), totals, footer. */
export function tableLines(
  pairs: readonly PairSnapshot[],
  footer: string,
  size: TableSize,
  paint: Paint,
  view: TableView = FIRST_VIEW,
  verified: Verified = () => null,
): string[] {
  const { columns, room, totals, foot, pairRoom, page } = frameOf(pairs, footer, size);
  if (pairRoom < 1) return [...totals, ...foot].slice(-room);

  const ordered = sorted(pairs, view.sort);
  const top = topOf(
    view,
    ordered.map(({ pair }) => pair),
    page,
  );
  const shown = ordered.slice(top, top + page);
  const hidden = [...ordered.slice(0, top), ...ordered.slice(top + page)];
  const position = hidden.length > 0 && pairRoom > shown.length;
  const rows = shown.map((pair) => ({
    pair,
    name: nameOf(pair),
    reason: reasonOf(pair),
  }));

  // over all pairs: scrolling must move no column
  const natural = Math.max(0, ...pairs.map((pair) => stringWidth(linkOf(pair))));
  const layout = layoutsFor(pairs, verified).find(
    ({ pairMin, columns: behind }) => Math.min(natural, pairMin) + widthOf(behind) <= columns,
  ) ?? { pairMin: NAME_MIN, columns: [STATE] };
  const showsLink = layout.pairMin === LINK_MIN;
  const pairWidth = Math.max(
    1,
    Math.min(
      showsLink ? natural : Math.max(NAME_MIN, ...pairs.map((pair) => stringWidth(nameOf(pair)))),
      columns - widthOf(layout.columns),
    ),
  );
  const used = pairWidth + widthOf(layout.columns);

  const lines: string[] = [];
  const header = [pad(fit(showsLink ? 'SOURCE ==> TARGET' : 'PAIR', pairWidth), pairWidth)];
  for (const column of layout.columns) header.push(pad(column.title, column.width));
  lines.push(paint('dim', fit(header.join(GAP).trimEnd(), columns)));

  let spare = pairRoom - shown.length - (position ? 1 : 0);
  for (const { pair, name, reason } of rows) {
    const label = pad(showsLink ? fitLink(pair, pairWidth) : fit(name, pairWidth), pairWidth);
    // a pair without figures has the whole rest of the line for its reason
    const columnsOfPair =
      reason !== '' && hasNoFigures(pair) ? layout.columns.filter(({ always }) => always) : layout.columns;
    const cells = columnsOfPair.map((column) => pad(fit(column.cell(pair), column.width), column.width));
    const left = columns - (pairWidth + widthOf(columnsOfPair)) - GAP.length;
    const beside = reason !== '' && left >= Math.min(REASON_MIN, stringWidth(reason));
    const painted = cells.map((cell, index) => {
      const column = columnsOfPair[index];
      return column === PHASE || column === STATE ? paint(phaseStyle(pair.phase), cell) : cell;
    });
    const chosen = pair.pair === view.chosen;
    if (used <= columns) {
      const line = `${chosen ? `${paint('inverse', label)}${MARK}` : `${label}${GAP}`}${painted.join(GAP)}`;
      lines.push(beside ? `${line}${GAP}${fit(reason, left)}` : line.trimEnd());
    } else {
      lines.push(fit(`${label}${chosen ? MARK : GAP}${cells.join(GAP)}`, columns));
    }
    if (reason !== '' && !beside && spare > 0) {
      lines.push(fit(`${GAP}${reason}`, columns));
      spare -= 1;
    }
  }
  if (position) {
    const rows = `rows ${top + 1}-${top + shown.length} of ${pairs.length}`;
    lines.push(fit(`${rows}, hidden: ${countPhases(hidden)}`, columns));
  }
  lines.push(...totals, ...foot.map((line) => paint('dim', line)));
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

/** All that is to be said beside a state; empty where there is nothing. */
export function reasonOf(pair: PairSnapshot): string {
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
export function linkOf(pair: PairSnapshot): string {
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

/** Sums over all pairs, the most telling first. */
function totalParts(pairs: readonly PairSnapshot[]): string[] {
  const loading = pairs.filter((pair) => pair.phase === 'snapshot');
  const streaming = pairs.filter(isStreaming);
  const several = pairs.length !== 1;
  const count = `${formatCount(pairs.length)} pair${several ? 's' : ''}`;
  const parts = [several && pairs.length > 0 ? `${count}: ${countPhases(pairs)}` : count];
  if (several) {
    const percent = fleetPercent(pairs);
    if (percent !== null) parts.push(`fleet ${percent}`);
  } else if (loading.length > 0) {
    const [pair] = loading;
    const total = pair?.snapshotTotal ?? null;
    const bytes = pair?.snapshotBytes ?? 0;
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
    const eta = secondsToLoad(pairs, loading);
    if (eta !== null) parts.push(`ETA ${formatDuration(eta)}`);
  }
  if (streaming.length > 0) {
    parts.push(`${formatShortCount(sum(streaming, (pair) => pair.commandsPerSecond))} op/s`);
  }
  return parts;
}

/**
 * Until all snapshots are loaded; null where one cannot be told. The slowest one ends it; what still waits for its turn
 * comes at the rate of all that load now, and is as large by its keys as those before it.
 */
function secondsToLoad(pairs: readonly PairSnapshot[], loading: readonly PairSnapshot[]): number | null {
  if (loading.some((pair) => formatEta(pair) === null)) return null;
  const slowest = Math.max(...loading.map((pair) => pair.etaSeconds ?? 0));
  const waiting = pairs.filter(({ phase }) => phase === 'checking');
  if (waiting.length === 0) return slowest;
  const bytesPerKey = sum(pairs, (pair) => pair.snapshotBytes) / sum(pairs, (pair) => pair.keys);
  const bytes =
    sum(loading, (pair) => (pair.snapshotTotal ?? Number.NaN) - pair.snapshotBytes) +
    sum(waiting, (pair) => pair.keysTotal ?? Number.NaN) * bytesPerKey;
  const seconds = bytes / sum(loading, (pair) => pair.bytesPerSecond);
  return Number.isFinite(seconds) ? Math.max(slowest, seconds) : null;
}

/** How much of all data sets is on the targets, each pair weighed by its keys; null when all is, or nothing goes on. */
function fleetPercent(pairs: readonly PairSnapshot[]): string | null {
  const going = pairs.filter(({ phase }) => !isTerminal(phase));
  if (going.every((pair) => shareLoaded(pair) === 1)) return null;
  const weight = (pair: PairSnapshot): number => (pair.keysTotal ?? 0) + 1;
  return formatPercent(
    sum(going, (pair) => shareLoaded(pair) * weight(pair)),
    sum(going, weight),
  );
}

/** `2 in-sync, 1 failed`. */
function countPhases(pairs: readonly PairSnapshot[]): string {
  const counts = new Map<string, number>();
  for (const { phase } of pairs) counts.set(phase, (counts.get(phase) ?? 0) + 1);
  return [...counts].map(([phase, count]) => `${count} ${phase}`).join(', ');
}

function sum(pairs: readonly PairSnapshot[], figure: (pair: PairSnapshot) => number): number {
  return pairs.reduce((total, pair) => total + figure(pair), 0);
}

/** The footer's items (two spaces between them) on as many lines as they need. */
export function wrapFooter(footer: string, width: number): string[] {
  return footer === '' ? [] : fill(printable(footer, LONG_FOOTER).split(/ {2,}/), width);
}

/** The parts on as many lines as they need; one that is wider than the screen is cut. */
function fill(parts: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    if (last !== undefined && stringWidth(last) + GAP.length + stringWidth(part) <= width) {
      lines[lines.length - 1] = last + GAP + part;
    } else {
      lines.push(fit(part, width));
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
export function fit(text: string, width: number): string {
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

export function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stringWidth(text)));
}
