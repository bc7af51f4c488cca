/**
 * Numbers as people read them: bytes, counts, durations, rates. Pure; the table, the plain lines and the report
 * all print through these. Units are decimal (1 MB = 1,000,000 B), as in the totals line.
 */
import type { PairSnapshot } from '../core/events.ts';

const BYTE_UNITS = [' B', ' kB', ' MB', ' GB', ' TB', ' PB'] as const;
const COUNT_UNITS = ['', 'k', 'M', 'G', 'T', 'P'] as const;

/** Three significant digits and a unit; `?` for what is no number, and nothing below zero. */
function scaled(value: number, units: readonly string[]): string {
  if (!Number.isFinite(value)) return '?';
  let rest = Math.max(0, value);
  let unit = 0;
  // 999.5 would be printed as 1000: the next unit says it shorter
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${rest.toFixed(digits)}${units[unit] ?? ''}`;
}

/** `588 MB`, `1.47 GB`, `12 B`. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, BYTE_UNITS);
}

/** `3,000,000`: every digit, for sums and reports. */
export function formatCount(count: number): string {
  if (!Number.isFinite(count)) return '?';
  // Intl.NumberFormat takes 20 ms to load, and a copy begins so much later
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `3.00M`, `999`: at most five characters up to a quadrillion, for narrow tables. */
export function formatShortCount(count: number): string {
  return scaled(count, COUNT_UNITS);
}

/** `40 ms`, `0.46 s`, `7.2 s`, `21 s`, `3m 10s`, `2h 05m`, `3d 04h`; takes seconds. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const value = Math.max(0, seconds);
  if (value < 0.0005) return '0 s';
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 0.995) return `${value.toFixed(2)} s`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  const two = (part: number): string => String(part).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m ${two(whole % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h ${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
}

/** `61.0 MB/s`; takes bytes per second. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** `52%`, rounded down so that 100% means all of it; null where the total is unknown. */
export function formatPercent(part: number, total: number | null): string | null {
  if (total === null || !Number.isFinite(total) || total <= 0 || !Number.isFinite(part)) return null;
  return `${Math.min(100, Math.max(0, Math.floor((100 * part) / total)))}%`;
}

/** Time to the end of the snapshot; null below 1 % (a guess from so little misleads) and in any other phase. */
export function formatEta(pair: PairSnapshot): string | null {
  if (pair.phase !== 'snapshot' || pair.etaSeconds === null || pair.snapshotTotal === null) return null;
  return pair.snapshotBytes < pair.snapshotTotal / 100 ? null : formatDuration(pair.etaSeconds);
}

/** `Syncing 588 MB and 3,000,000 keys from 2 redises`, as said before the start. */
export function formatTotals(totals: { bytes: number; keys: number; sources: number }): string {
  const sources = `${formatCount(totals.sources)} redis${totals.sources === 1 ? '' : 'es'}`;
  return `Syncing ${formatBytes(totals.bytes)} and ${formatCount(totals.keys)} keys from ${sources}`;
}
