/** The end of a run for people: what became of each pair, what is left to do, what the exit code means. Pure. */
import { EXIT, type ExitCode } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import { printable } from '../core/text.ts';
import { formatCount, formatDuration } from './format.ts';
import type { Paint } from './paint.ts';

type Summary = Extract<MigrationEvent, { event: 'summary' }>;

const EXIT_MEANINGS: Record<ExitCode, string> = {
  [EXIT.done]: 'done',
  [EXIT.failed]: 'failed; the source was not changed',
  [EXIT.usage]: 'the command line is wrong',
  [EXIT.preflight]: 'refused by a check before anything was touched',
  [EXIT.auth]: 'authentication or TLS failed',
  [EXIT.different]: 'the two sides differ',
  [EXIT.cancelled]: 'cancelled or rolled back',
  [EXIT.attention]: 'needs attention: read the notes above',
  [EXIT.interrupted]: 'interrupted',
};

const GIVEN_BACK =
  'the source is as it was; the target is given back with what it holds, and was not promoted';

const ROLLED_BACK =
  'the source takes writes again, with all that the target took meanwhile: point the applications back at it';

function isExitCode(code: number): code is ExitCode {
  return code in EXIT_MEANINGS;
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
    const begun = summary.outcome !== 'ready' && summary.outcome !== 'refused';
    if (pair.phase === 'stopped' && begun && summary.exitCode !== EXIT.attention) {
      lines.push(`    ${GIVEN_BACK}`);
    }
    if (pair.phase === 'rolled-back') lines.push(`    ${ROLLED_BACK}`);
    for (const note of pair.notes) {
      // not cut: a note may be the command that lifts a fence
      for (const line of note.split('\n')) lines.push(`    ${paint('yellow', printable(line, line.length))}`);
    }
  }
  const meaning = isExitCode(summary.exitCode) ? `: ${EXIT_MEANINGS[summary.exitCode]}` : '';
  const style = summary.exitCode === EXIT.done ? 'green' : 'red';
  lines.push(`${paint(style, printable(summary.outcome))} (exit code ${summary.exitCode}${meaning})`);
  return lines;
}
