/** The end of a run for people: what became of each pair, what is left to do, what the exit code means. Pure. */
import { EXIT, type ExitCode } from '../core/errors.ts';
import type { MigrationEvent, PairSummary } from '../core/events.ts';
import { printable } from '../core/text.ts';
import { formatCount, formatDuration } from './format.ts';
import type { Paint } from './paint.ts';

type Summary = Extract<MigrationEvent, { event: 'summary' }>;
type Ending = Pick<Summary, 'outcome' | 'exitCode'>;

const EXIT_MEANINGS: Record<ExitCode, string> = {
  [EXIT.done]: 'done',
  [EXIT.failed]: 'failed; the source was not changed',
  [EXIT.usage]: 'the command line is wrong',
  [EXIT.preflight]: 'refused by a check before anything was touched',
  [EXIT.auth]: 'authentication or TLS failed',
  [EXIT.different]: 'the two sides differ',
  [EXIT.cancelled]: 'cancelled or rolled back',
  [EXIT.attention]: 'needs attention: read the notes',
  [EXIT.interrupted]: 'interrupted',
};

const GIVEN_BACK =
  'the source is as it was; the target is given back with what it holds, and was not promoted';

const ROLLED_BACK =
  'the source takes writes again, with all that the target took meanwhile: point the applications back at it';

/** What an exit code means, for people; '' for one of another release. */
export function exitMeaning(code: number): string {
  return EXIT_MEANINGS[code as ExitCode] ?? '';
}

/** What is left to do or to know about a pair at the end. A note may be of several lines. */
export function pairRemarks(pair: PairSummary, summary: Ending): string[] {
  return [...standingRemarks(pair, summary), ...pair.notes];
}

function standingRemarks(pair: PairSummary, summary: Ending): string[] {
  const begun = summary.outcome !== 'ready' && summary.outcome !== 'refused';
  if (pair.phase === 'stopped' && begun && summary.exitCode !== EXIT.attention) return [GIVEN_BACK];
  return pair.phase === 'rolled-back' ? [ROLLED_BACK] : [];
}

/** A block of lines: one per pair with its notes below, the result last. */
export function summaryLines(summary: Summary, paint: Paint): string[] {
  const lines: string[] = [];
  for (const pair of summary.pairs) {
    const outage =
      // 0: the target took writes already, so nobody had to wait
      pair.writeOutageMs === null || pair.writeOutageMs === 0
        ? ''
        : `, writes stood still for ${formatDuration(pair.writeOutageMs / 1000)}`;
    lines.push(
      `${printable(pair.pair)}: ${pair.phase}, ${formatCount(pair.keys)} keys, ${formatDuration(pair.seconds)}${outage}`,
    );
    for (const remark of standingRemarks(pair, summary)) lines.push(`    ${remark}`);
    for (const note of pair.notes) {
      // not cut: a note may be the command that lifts a fence
      for (const line of note.split('\n')) lines.push(`    ${paint('yellow', printable(line, line.length))}`);
    }
  }
  const known = exitMeaning(summary.exitCode);
  const meaning = known === '' ? '' : `: ${known}`;
  const style = summary.exitCode === EXIT.done ? 'green' : 'red';
  lines.push(`${paint(style, printable(summary.outcome))} (exit code ${summary.exitCode}${meaning})`);
  return lines;
}
