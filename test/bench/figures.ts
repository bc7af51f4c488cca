/** Figures of the benchmark as text: medians, spreads, and one section of docs/benchmarks.md with its table. Pure. */
/** What one part of the benchmark has measured. */
export interface Section {
  readonly title: string;
  /** What was measured, in Markdown. */
  readonly about: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** What did not come through, each time; its figures are missing in the table. No text from outside: it is published. */
  readonly failures: readonly string[];
}

/** Where nothing was measured. */
export const NOTHING = '–';

/** The middle one; of an even number the upper middle. NaN where there is none. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}

/** `1.25`, with `digits` behind the point. */
export function fixed(value: number, digits = 2): string {
  return Number.isFinite(value) ? value.toFixed(digits) : NOTHING;
}

/** From the smallest to the largest: `1.20-1.31`. */
export function spread(numbers: readonly number[], digits = 2): string {
  if (numbers.length === 0) return NOTHING;
  return `${fixed(Math.min(...numbers), digits)}-${fixed(Math.max(...numbers), digits)}`;
}

/** A rate or a count in thousands: `512 k`. */
export function thousands(value: number): string {
  return Number.isFinite(value) ? `${Math.round(value / 1000)} k` : NOTHING;
}

/** Megabytes (10^6): `98`. */
export function megabytes(bytes: number): string {
  return fixed(bytes / 1e6, 0);
}

/**
 * Title, text, table and what failed, in Markdown; the columns stand below each other, so that a terminal can show it too.
 * @param conditions one line: on what, when and how often it was measured
 */
export function renderSection(section: Section, conditions: string): string {
  const { title, about, columns, rows, failures } = section;
  return [
    `## ${title}`,
    '',
    about,
    '',
    ...tableLines(columns, rows),
    ...(failures.length === 0 ? [] : ['', ...failures.map((failure) => `- Failed: ${failure}`)]),
    '',
    `*${conditions}*`,
  ].join('\n');
}

function tableLines(columns: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = columns.map((column, at) =>
    Math.max(column.length, ...rows.map((row) => row[at]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, at) => (cells[at] ?? '').padEnd(width)).join(' | ')} |`;
  return [line(columns), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)];
}
