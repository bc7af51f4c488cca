/**
 * What one cell of the matrix says: the losses that the tool announced before it began, set against the differences
 * that the comparison found behind the cutover. Pure.
 */
import { assertNever } from '../../src/core/errors.ts';
import type { Aspect, Comparison } from '../../src/demo/compare.ts';

export type Feed = 'attach' | 'write';

/** What an older target has no place for, and the tool says so beforehand. */
export type Loss = Exclude<Aspect, 'value'>;

/** Types of values that some releases have and others have not: a target without them cannot be brought any. */
export type OptionalType = 'streams' | 'vector sets';

export type Verdict =
  /** All is there, but for the losses, which are those that were announced. */
  | { readonly kind: 'equal'; readonly losses: readonly Loss[]; readonly without: readonly OptionalType[] }
  /** By the preflight; for feed attach: another feed does it. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string };

/** The preflight refuses, and says that --allow-loss is what it takes. */
export interface WouldLose {
  readonly kind: 'would-lose';
}

/** What is looked at of a `check` event of `--json`. */
export interface Finding {
  readonly name: string;
  readonly status: string;
  readonly detail: string;
  /** Empty where there is none. */
  readonly hint: string;
}

/** What a run says that the preflight has ended. Where a feed cannot be, nothing else matters. */
export function refusal(findings: readonly Finding[]): Verdict | WouldLose {
  const refusals = findings.filter(({ status }) => status === 'refuse');
  if (refusals.length > 0 && refusals.every(({ hint }) => hint.includes('--allow-loss'))) {
    return { kind: 'would-lose' };
  }
  const ofFeed = refusals.filter(({ name }) => name === 'feed');
  const reasons = (ofFeed.length > 0 ? ofFeed : refusals).map(({ detail }) =>
    detail.replace('attach cannot work: ', ''),
  );
  return { kind: 'refused', reason: reasons.join('; ') };
}

/** Which losses the preflight has announced, in the order of their names. */
export function announcedLosses(findings: readonly Finding[]): Loss[] {
  const losses = findings.flatMap(({ name, status, detail }): Loss[] => {
    if (name === 'functions') return status === 'ok' ? [] : ['functions'];
    if (name !== 'loss') return [];
    return [
      ...(/fields of \d+ hashes expire/.test(detail) ? (['field-ttls'] as const) : []),
      ...(/of streams/.test(detail) ? (['stream-counters'] as const) : []),
    ];
  });
  return losses.sort();
}

/**
 * @param comparison thorough, of source and target behind the cutover
 * @param without types that were left out of the data set, since the target has none of them
 */
export function judge(
  findings: readonly Finding[],
  comparison: Comparison,
  without: readonly OptionalType[],
): Verdict {
  const { aspects, missing, extra, first, digestA, digestB } = comparison;
  const { value = 0, ...lost } = aspects;
  if (value + missing + extra > 0) {
    const counts = `${value} different, ${missing} missing, ${extra} extra`;
    return { kind: 'failed', reason: `${counts}; first: ${first ?? ''}` };
  }
  if (digestA !== digestB) return { kind: 'failed', reason: 'the digests differ' };
  const announced = announcedLosses(findings);
  const found = Object.keys(lost).sort();
  if (found.join() !== announced.join()) {
    const names = (losses: readonly string[]): string => losses.join(', ') || 'nothing';
    return {
      kind: 'failed',
      reason: `announced as lost: ${names(announced)}; found: ${names(found)} (${first ?? 'no difference'})`,
    };
  }
  return { kind: 'equal', losses: announced, without };
}

/** The footnote of a loss. */
export function lossText(loss: Loss): string {
  switch (loss) {
    case 'field-ttls':
      return 'lost: expiries of hash fields, which stay for ever; needs `--allow-loss`';
    case 'functions':
      return 'lost: libraries of functions; needs `--allow-loss`';
    case 'stream-counters':
      return "lost: streams' entries-added, entries-read and highest deleted id (target before 7.0), and when consumers were last active (before 7.2)";
    default:
      return assertNever(loss);
  }
}

/** The footnote of a type that the target has not. */
export function withoutText(type: OptionalType): string {
  switch (type) {
    case 'streams':
      return 'run without streams: there are none before 5.0. One on the source is refused by the preflight, or ends the pair with its key; the source stays as it is';
    case 'vector sets':
      return 'run without vector sets: only Redis 8.0 and later have them. One on the source is refused by the preflight, or ends the pair with its key; the source stays as it is';
    default:
      return assertNever(type);
  }
}
