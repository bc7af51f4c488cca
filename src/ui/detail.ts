/** All that is known of one pair, in place of the table: figures, lag over the last minutes, last events. Pure. */
import type { PairSnapshot } from '../core/events.ts';
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
import { eventText, phaseStyle } from './lines.ts';
import type { Paint } from './paint.ts';
import { LAG_STEP_MS, type PairPast } from './pair-history.ts';
import { fit, linkOf, pad, reasonOf, type TableSize, wrapFooter } from './table.ts';

const LABEL_WIDTH = 10;
const BARS = '▁▂▃▄▅▆▇█';

/** At most as many lines as the table would have; the footer stays, the oldest events go first. */
export function detailLines(
  pair: PairSnapshot,
  past: PairPast,
  footer: string,
  size: TableSize,
  paint: Paint,
): string[] {
  const columns = Math.max(1, size.columns);
  const room = Math.max(1, size.rows - 1);
  const foot = wrapFooter(footer, columns).slice(0, Math.max(1, Math.floor(room / 3)));
  const rows = figures(pair, past).map(([label, text]) => {
    const left = pad(fit(label, columns), Math.min(LABEL_WIDTH, columns));
    const right = fit(text, columns - LABEL_WIDTH);
    const style = label === 'phase' ? phaseStyle(pair.phase) : null;
    return `${paint('dim', left)}${style === null ? right : paint(style, right)}`;
  });
  const shown = past.lag.slice(-columns);
  if (shown.some((lag) => lag !== null)) {
    const peak = Math.max(...shown.map((lag) => lag ?? 0));
    const span = formatDuration((shown.length * LAG_STEP_MS) / 1000);
    rows.push(paint('dim', fit(`lag over the last ${span}, at most ${formatBytes(peak)}`, columns)));
    rows.push(sparkline(shown));
  }
  const head = [fit(linkOf(pair), columns), ...rows];
  const spare = room - foot.length - head.length - 1;
  const events =
    spare < 1 || past.events.length === 0
      ? []
      : [
          paint('dim', fit('last events', columns)),
          ...past.events.slice(-spare).map((line) => fit(line, columns)),
        ];
  const body = [...head, ...events].slice(0, Math.max(0, room - foot.length));
  return [...body, ...foot.map((line) => paint('dim', line))];
}

/** One bar for each figure, from nothing to the highest of them; a blank where there was none. */
export function sparkline(figures: readonly (number | null)[]): string {
  const peak = Math.max(...figures.map((figure) => figure ?? 0));
  const bar = (figure: number): string => {
    const level = peak > 0 ? Math.round((figure / peak) * (BARS.length - 1)) : 0;
    return BARS.charAt(Math.max(0, Math.min(BARS.length - 1, level)));
  };
  return figures.map((figure) => (figure === null ? ' ' : bar(figure))).join('');
}

/** Label and text, without those that have nothing to say. */
function figures(pair: PairSnapshot, past: PairPast): (readonly [string, string])[] {
  const percent = formatPercent(pair.snapshotBytes, pair.snapshotTotal);
  const eta = formatEta(pair);
  const loading = pair.phase === 'snapshot';
  const snapshot = [
    ...(percent === null ? [] : [percent]),
    pair.snapshotTotal === null
      ? formatBytes(pair.snapshotBytes)
      : `${formatBytes(pair.snapshotBytes)} of ${formatBytes(pair.snapshotTotal)}`,
    ...(loading ? [formatRate(pair.bytesPerSecond)] : []),
    ...(eta === null ? [] : [`ETA ${eta}`]),
  ];
  const keys = formatCount(pair.keys);
  const total = pair.keysTotal === null ? '' : ` (${formatCount(pair.keysTotal)} on the source at the start)`;
  const lag = `${formatBytes(pair.lagBytes)}  ${formatDuration(pair.lagSeconds)}`;
  const { verified } = past;
  const all: (readonly [string, string])[] = [
    ['phase', pair.feed === null ? pair.phase : `${pair.phase}  (${pair.feed})`],
    ['wave', printable(pair.wave ?? '')],
    ['reason', reasonOf(pair)],
    ['snapshot', pair.phase === 'checking' ? '' : snapshot.join('  ')],
    ['keys', pair.phase === 'checking' ? '' : `${keys}${total}`],
    [
      'lag',
      loading || pair.phase === 'checking' ? '' : `${lag}  ${formatShortCount(pair.commandsPerSecond)} op/s`,
    ],
    [
      'position',
      pair.sourceOffset === 0
        ? ''
        : `${formatCount(pair.appliedOffset)} applied, the source is at ${formatCount(pair.sourceOffset)}`,
    ],
    ['verify', verified === null ? '' : eventText({ event: 'verify', pair: pair.pair, ...verified })],
  ];
  return all.filter(([, text]) => text !== '');
}
