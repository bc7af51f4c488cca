/**
 * Figures over time in bounded memory: when there are too many points, neighbours become one. A lag keeps its highest
 * value, for that is what one looks for; a rate its mean.
 */

/** What is measured at one moment. */
export interface Sample {
  readonly lagBytes: number;
  readonly lagSeconds: number;
  readonly commandsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** A row, for report.json: [ms since 1970, lag in bytes, lag in s, commands/s, bytes/s of the snapshot, samples in it]. */
export type Point = readonly [
  at: number,
  lagBytes: number,
  lagSeconds: number,
  commandsPerSecond: number,
  bytesPerSecond: number,
  samples: number,
];

export interface SeriesData {
  /** How much time one point stands for, in ms. */
  readonly everyMs: number;
  readonly points: readonly Point[];
}

const FIRST_WIDTH_MS = 1000;

export class Series {
  readonly #most: number;
  #width: number;
  #points: Point[];

  /**
   * @param most points that are kept
   * @param former what an earlier process has measured
   */
  constructor(most: number, former: SeriesData = { everyMs: FIRST_WIDTH_MS, points: [] }) {
    this.#most = most;
    this.#width = former.everyMs;
    this.#points = [...former.points];
    this.#shrink();
  }

  /** @param at ms since 1970, never less than the last time */
  add(at: number, sample: Sample): void {
    const { lagBytes, lagSeconds, commandsPerSecond, bytesPerSecond } = sample;
    append(this.#points, [at, lagBytes, lagSeconds, commandsPerSecond, bytesPerSecond, 1], this.#width);
    this.#shrink();
  }

  toJSON(): SeriesData {
    return { everyMs: this.#width, points: this.#points.map(rounded) };
  }

  #shrink(): void {
    while (this.#points.length > this.#most) {
      this.#width *= 2;
      const merged: Point[] = [];
      for (const point of this.#points) append(merged, point, this.#width);
      this.#points = merged;
    }
  }
}

/** Adds a point, or makes it one with the last where both lie in the same span of time. */
function append(points: Point[], point: Point, widthMs: number): void {
  const last = points.at(-1);
  if (last === undefined || Math.floor(last[0] / widthMs) !== Math.floor(point[0] / widthMs)) {
    points.push(point);
    return;
  }
  const samples = last[5] + point[5];
  const mean = (one: number, other: number): number => (one * last[5] + other * point[5]) / samples;
  points[points.length - 1] = [
    last[0],
    Math.max(last[1], point[1]),
    Math.max(last[2], point[2]),
    mean(last[3], point[3]),
    mean(last[4], point[4]),
    samples,
  ];
}

function rounded([at, lagBytes, lagSeconds, commands, bytes, samples]: Point): Point {
  const milli = Math.round(lagSeconds * 1000) / 1000;
  return [at, Math.round(lagBytes), milli, Math.round(commands * 10) / 10, Math.round(bytes), samples];
}
