/** How much goes to a target in a second, where an operator has set a limit: `--throttle-keys`, `throttle`, the key **t**. Pure. */

/** The most that goes to one target in a second; null: as much as it takes. */
export interface Throttle {
  /** Keys of the snapshot, then commands of the stream. Counted only where we write: feed `write`. */
  readonly keysPerSecond: number | null;
  /** Bytes that are sent to it. */
  readonly bytesPerSecond: number | null;
}

export const NO_THROTTLE: Throttle = { keysPerSecond: null, bytesPerSecond: null };

export const MEGABYTE = 1024 * 1024;
/** Below this an attached target could take the pieces for silence. */
export const LEAST_MB = 0.01;
export const MOST_MB = 1e6;
export const MOST_KEYS = 1e9;

export function isThrottled({ keysPerSecond, bytesPerSecond }: Throttle): boolean {
  return keysPerSecond !== null || bytesPerSecond !== null;
}

/** `1000 keys/s and 20 MB/s`: as it is typed again, without the units; '' where there is no limit. */
export function throttleText({ keysPerSecond, bytesPerSecond }: Throttle): string {
  const parts = [
    ...(keysPerSecond === null ? [] : [`${keysPerSecond} keys/s`]),
    ...(bytesPerSecond === null ? [] : [`${Math.round((bytesPerSecond / MEGABYTE) * 100) / 100} MB/s`]),
  ];
  return parts.join(' and ');
}

/**
 * What a person types behind **t**: `1000 keys`, `20 mb`, both, or `off`.
 *
 * @returns null where it is none of these, or out of range
 */
export function parseThrottle(text: string): Throttle | null {
  const words = text.trim().toLowerCase();
  if (words === 'off') return NO_THROTTLE;
  const match = /^(?:(\d+) ?k(?:eys?)?(?:\/s)?)?(?: (?:and )?)?(?:(\d+(?:\.\d+)?) ?mb?(?:\/s)?)?$/.exec(
    words,
  );
  const throttle: Throttle = {
    keysPerSecond: match?.[1] === undefined ? null : Number(match[1]),
    bytesPerSecond: match?.[2] === undefined ? null : Math.round(Number(match[2]) * MEGABYTE),
  };
  return isThrottled(throttle) && isInRange(throttle) ? throttle : null;
}

/** Whether the limits are such as the options allow: also for what comes by the socket. */
export function isInRange({ keysPerSecond, bytesPerSecond }: Throttle): boolean {
  const within = (value: number | null, least: number, most: number): boolean =>
    value === null || (value >= least && value <= most);
  return (
    within(keysPerSecond, 1, MOST_KEYS) &&
    within(bytesPerSecond, Math.floor(LEAST_MB * MEGABYTE), MOST_MB * MEGABYTE)
  );
}
