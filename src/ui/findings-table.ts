/** What `check` found over a fleet: one row a pair, behind the single findings. Pure; names may be hostile. */
import stringWidth from 'string-width';
import type { CheckResult } from '../core/events.ts';
import { printable } from '../core/text.ts';
import { fit, pad } from './table.ts';

/** All that was found about one pair. */
export interface PairFindings {
  readonly pair: string;
  readonly checks: readonly CheckResult[];
  /** What ended the checks of a pair, as a server out of reach; null: nothing, or a refusal, which is among the checks. */
  readonly error: string | null;
}

type Verdict = 'ready' | 'warnings' | 'refused' | 'failed';

const NAME_MAX = 40;
/** A row is for a look at all of them: the whole text stands above. */
const WHY_MAX = 120;

/** Lines of text: a heading, a row for each pair, a line with the numbers. */
export function findingsTable(pairs: readonly PairFindings[]): string[] {
  const width = Math.min(NAME_MAX, Math.max(4, ...pairs.map(({ pair }) => stringWidth(printable(pair)))));
  const row = (name: string, state: string, why: string): string =>
    `${pad(fit(name, width), width)}  ${pad(state, 8)}  ${why}`.trimEnd();
  const numbers: Record<Verdict, number> = { ready: 0, warnings: 0, refused: 0, failed: 0 };
  const rows = pairs.map((pair) => {
    const { verdict, why } = judge(pair);
    numbers[verdict] += 1;
    return row(printable(pair.pair), verdict, fit(printable(why, WHY_MAX * 2), WHY_MAX));
  });
  const said = (['ready', 'warnings', 'refused', 'failed'] as const)
    .filter((verdict) => numbers[verdict] > 0)
    .map((verdict) => `${numbers[verdict]} ${verdict === 'warnings' ? 'with warnings' : verdict}`);
  return [row('NAME', 'STATE', 'WHY'), ...rows, `${pairs.length} pairs checked: ${said.join(', ')}`];
}

function judge({ checks, error }: PairFindings): { readonly verdict: Verdict; readonly why: string } {
  const refused = checks.filter(({ status }) => status === 'refuse');
  const warned = checks.filter(({ status }) => status === 'warn').map(({ name }) => name);
  const [first, ...others] = refused;
  if (first !== undefined) {
    const more = others.length === 0 ? '' : ` (and ${others.map(({ name }) => name).join(', ')})`;
    return { verdict: 'refused', why: `${first.name}: ${first.detail}${more}` };
  }
  if (error !== null) return { verdict: 'failed', why: error };
  return warned.length === 0
    ? { verdict: 'ready', why: '' }
    : { verdict: 'warnings', why: warned.join(', ') };
}
