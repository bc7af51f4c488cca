/** Plots of the report as inline SVG: a line over time, and the bar of phases. Colours come from the page's style. Pure. */
import type { Phase } from '../core/phase.ts';
import { type Html, html, NO_HTML, trusted } from './html.ts';

/** In units of the view box; the page scales it. */
const WIDTH = 640;
const HEIGHT = 150;
const TOP = 18;
const BOTTOM = 20;
const BAR_HEIGHT = 30;
/** A label needs so much of a bar to be readable. */
const LABEL_WIDTH = 62;

/** From and to, in ms since 1970. */
export type Span = readonly [from: number, to: number];

export interface Line {
  readonly title: string;
  /** In the order of their times. */
  readonly points: readonly (readonly [at: number, value: number])[];
  /** A longer pause than this between two points is shown as a gap. */
  readonly gapMs: number;
  readonly format: (value: number) => string;
}

/** @param marks moments that are worth a vertical line, with a word for each */
export function plotOf(
  line: Line,
  span: Span,
  marks: readonly (readonly [at: number, label: string])[],
): Html {
  const highest = line.points.reduce((most, [, value]) => Math.max(most, value), 0);
  const x = scale(span);
  const y = (value: number): number =>
    HEIGHT - BOTTOM - (highest === 0 ? 0 : (value / highest) * (HEIGHT - TOP - BOTTOM));
  const base = HEIGHT - BOTTOM;
  const runs = split(line).map((run) => run.map(([at, value]) => [x(at), y(value)] as const));
  const shown = marks.filter(([at]) => at >= span[0] && at <= span[1]);
  return html`<figure><figcaption>${line.title}<span class="peak">highest ${line.format(highest)}</span></figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${line.title}, highest ${line.format(highest)}">
<line class="axis" x1="0" y1="${base}" x2="${WIDTH}" y2="${base}"/><line class="grid" x1="0" y1="${TOP}" x2="${WIDTH}" y2="${TOP}"/>
${runs.map((run) => html`<path class="area" d="${trusted(area(run, base))}"/><path class="line" d="${trusted(path(run))}"/>`)}
${shown.map(([at, label]) => markOf(x(at), label, base))}
<text class="label" x="0" y="${HEIGHT - 5}">${clock(span[0])}</text><text class="label end" x="${WIDTH}" y="${HEIGHT - 5}">${clock(span[1])}</text>
</svg></figure>
`;
}

function markOf(x: number, label: string, base: number): Html {
  const left = x > WIDTH / 2;
  return html`<line class="mark" x1="${fixed(x)}" y1="${TOP}" x2="${fixed(x)}" y2="${base}"/><text class="label${left ? ' end' : ''}" x="${fixed(left ? x - 4 : x + 4)}" y="${TOP + 12}">${label}</text>`;
}

export interface PhaseSpan {
  readonly phase: Phase;
  readonly span: Span;
}

/** One bar, cut into the phases; where nothing ran it is empty. */
export function phaseBar(phases: readonly PhaseSpan[], span: Span): Html {
  const x = scale(span);
  const pieces = phases.map(({ phase, span: [from, to] }) => {
    const left = x(from);
    // what was short must be seen all the same
    const width = Math.max(1.5, x(to) - left);
    const label =
      width < LABEL_WIDTH
        ? NO_HTML
        : html`<text class="on-bar" x="${fixed(left + 6)}" y="${BAR_HEIGHT / 2 + 4}">${phase}</text>`;
    return html`<rect class="phase ${phase}" x="${fixed(left)}" y="0" width="${fixed(width)}" height="${BAR_HEIGHT}"><title>${phase}</title></rect>${label}`;
  });
  return html`<svg class="bar" viewBox="0 0 ${WIDTH} ${BAR_HEIGHT}" role="img" aria-label="phases over time"><rect class="nothing" x="0" y="0" width="${WIDTH}" height="${BAR_HEIGHT}"/>${pieces}</svg>
`;
}

function scale([from, to]: Span): (at: number) => number {
  const length = Math.max(1, to - from);
  return (at) => Math.min(WIDTH, Math.max(0, ((at - from) / length) * WIDTH));
}

function split({ points, gapMs }: Line): (readonly (readonly [number, number])[])[] {
  const runs: (readonly [number, number])[][] = [];
  let last = Number.NEGATIVE_INFINITY;
  for (const point of points) {
    if (point[0] - last > gapMs) runs.push([]);
    runs.at(-1)?.push(point);
    last = point[0];
  }
  return runs;
}

function path(run: readonly (readonly [number, number])[]): string {
  const [first] = run;
  // a single point has no length: it is shown as a short line
  const points = run.length === 1 && first !== undefined ? [first, [first[0] + 2, first[1]] as const] : run;
  return points.map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${fixed(x)} ${fixed(y)}`).join('');
}

function area(run: readonly (readonly [number, number])[], base: number): string {
  const first = run[0]?.[0] ?? 0;
  const last = run.at(-1)?.[0] ?? 0;
  return `${path(run)}L${fixed(Math.max(last, run.length === 1 ? first + 2 : last))} ${base}L${fixed(first)} ${base}Z`;
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** `14:03:21`, by the clock of this machine. */
export function clock(at: number): string {
  const time = new Date(at);
  return [time.getHours(), time.getMinutes(), time.getSeconds()]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
}
