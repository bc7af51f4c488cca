/**
 * Events as lines for people: the same words off a terminal (plain.ts) and above the live table (live.ts).
 * Pure. Everything that came from outside passes printable() here.
 */
import { assertNever } from '../core/errors.ts';
import type { MigrationEvent, PairSnapshot } from '../core/events.ts';
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
import { noPaint, type Paint } from './paint.ts';
import { summaryLines } from './report.ts';

// a command that lifts a fence can be long, and half of it is of no use
const LONG_TEXT = 4000;

/** Free text as safe lines, split at its newlines. */
export function textLines(text: string): string[] {
  return text.split('\n').map((line) => printable(line, LONG_TEXT));
}

/** What a person reads of one event; empty for progress and for checks that passed. */
export function eventLines(event: MigrationEvent, paint: Paint): string[] {
  switch (event.event) {
    case 'phase': {
      // a pair fails with an error, which stands right above with its hint
      const known = event.reason === undefined || event.to === 'failed';
      const reason = known ? '' : ` (${printable(event.reason ?? '')})`;
      return [`${printable(event.pair)}: ${event.from} -> ${paint(phaseStyle(event.to), event.to)}${reason}`];
    }
    case 'progress':
    // who pressed the key knows
    case 'action':
      return [];
    case 'check': {
      if (event.status === 'ok') return [];
      const word = event.status === 'warn' ? paint('yellow', 'warning') : paint('red', 'refused');
      const text = printable(event.detail, LONG_TEXT);
      return [
        `${printable(event.pair)}: ${word}: ${printable(event.name)}: ${text}`,
        ...hintLines(event.hint ?? ''),
      ];
    }
    case 'clients': {
      const name = event.name === '' ? '' : `${printable(event.name)}  `;
      const who = `${printable(event.addr)}  ${name}user ${printable(event.user)}`;
      const what = `${printable(event.lastCommand)} ${formatDuration(event.idleSeconds)} ago`;
      const writing = event.writing ? `  ${paint('yellow', 'writing')}` : '';
      return [`${printable(event.pair)}: client ${who}  ${what}${writing}`];
    }
    case 'verify': {
      const bad = event.different + event.missing + event.extra > 0;
      const counts = `${formatCount(event.different)} different, ${formatCount(event.missing)} missing, ${formatCount(event.extra)} extra`;
      const unsettled = event.unsettled ?? 0;
      const more = [
        ...(unsettled > 0
          ? [paint('yellow', `${formatCount(unsettled)} written to all the time, and not judged`)]
          : []),
        ...((event.repaired ?? 0) > 0 ? [`${formatCount(event.repaired ?? 0)} repaired`] : []),
      ];
      return [
        `${printable(event.pair)}: compared ${formatCount(event.compared)} keys: ${[paint(bad ? 'red' : 'green', counts), ...more].join(', ')}`,
      ];
    }
    case 'verify-progress':
      return [];
    case 'step': {
      const detail = event.detail === undefined ? '' : `: ${printable(event.detail)}`;
      return [
        `${printable(event.pair)}: ${formatDuration(event.ms / 1000).padStart(6)}  ${printable(event.name)}${detail}`,
      ];
    }
    case 'note': {
      const lines = textLines(event.message);
      return event.pair === undefined
        ? lines
        : lines.map((line) => `${printable(event.pair ?? '')}: ${line}`);
    }
    case 'error': {
      const where = event.pair === undefined ? '' : `${printable(event.pair)}: `;
      const named = `${event.pair}: `;
      const message = event.message.startsWith(named) ? event.message.slice(named.length) : event.message;
      const text = `${printable(message, LONG_TEXT)} [${printable(event.code)}]`;
      return [`${where}${paint('red', 'error')}: ${text}`, ...hintLines(event.hint)];
    }
    case 'summary':
      return summaryLines(event, paint);
    default:
      return assertNever(event);
  }
}

/** All lines of an event of one pair as a single one, without the pair's name: for where that stands above. */
export function eventText(event: MigrationEvent & { readonly pair: string }): string {
  const named = `${printable(event.pair)}: `;
  return eventLines(event, noPaint)
    .map((line) => (line.startsWith(named) ? line.slice(named.length) : line))
    .join(' ');
}

function hintLines(hint: string): string[] {
  return hint === '' ? [] : textLines(hint).map((line, index) => `${index === 0 ? '  -> ' : '     '}${line}`);
}

/** Colour of a phase, the same in lines, table and report. */
export function phaseStyle(phase: PairSnapshot['phase']): 'green' | 'yellow' | 'red' | 'cyan' {
  switch (phase) {
    case 'in-sync':
    case 'writable':
    case 'promoted':
      return 'green';
    case 'failed':
      return 'red';
    case 'stopped':
    case 'rolled-back':
      return 'yellow';
    case 'checking':
    case 'snapshot':
    case 'catching-up':
      return 'cyan';
    default:
      return assertNever(phase);
  }
}

/** One line on how far a pair is; null in phases that have no progress. */
export function progressLine(pair: PairSnapshot): string | null {
  const parts = progressParts(pair);
  if (parts.length === 0) return null;
  if (pair.divergences > 0) parts.push(divergenceText(pair));
  if (pair.reason !== null) parts.push(printable(pair.reason));
  const feed = pair.feed === null ? '' : ` (${pair.feed})`;
  return `${printable(pair.pair)}: ${pair.phase}${feed}: ${parts.join(', ')}`;
}

/** `3 commands refused by the target`: shown wherever the count is above zero, for the data may differ. */
export function divergenceText(pair: PairSnapshot): string {
  return `${formatCount(pair.divergences)} command${pair.divergences === 1 ? '' : 's'} refused by the target`;
}

function progressParts(pair: PairSnapshot): string[] {
  switch (pair.phase) {
    case 'snapshot': {
      const percent = formatPercent(pair.snapshotBytes, pair.snapshotTotal);
      const size =
        percent === null || pair.snapshotTotal === null
          ? formatBytes(pair.snapshotBytes)
          : `${percent} of ${formatBytes(pair.snapshotTotal)}`;
      const eta = formatEta(pair);
      return [
        size,
        `${formatCount(pair.keys)} keys`,
        formatRate(pair.bytesPerSecond),
        ...(eta === null ? [] : [`ETA ${eta}`]),
      ];
    }
    case 'catching-up':
    case 'in-sync':
    case 'writable':
      return [
        `lag ${formatBytes(pair.lagBytes)} ${formatDuration(pair.lagSeconds)}`,
        `${formatShortCount(pair.commandsPerSecond)} commands/s`,
      ];
    case 'promoted':
      return pair.wayBack === null ? [] : [printable(pair.wayBack)];
    default:
      return [];
  }
}

/** `cart: compared 200,000 of 1,000,000 keys, 3 to be looked at again`: how far a comparison is. */
export function verifyLine({
  pair,
  compared,
  total,
  suspects,
  round,
}: Extract<MigrationEvent, { event: 'verify-progress' }>): string {
  const again =
    round > 0
      ? `, looking again at ${formatCount(suspects)} (round ${round})`
      : suspects > 0
        ? `, ${formatCount(suspects)} to be looked at again`
        : '';
  return `${printable(pair)}: compared ${formatCount(compared)} of ${formatCount(total)} keys${again}`;
}
