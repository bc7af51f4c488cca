/** The figures of one pair for screen and log: progress, rates, lag. Computed from what the parts say at the moment. */
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import type { PairSnapshot } from '../core/events.ts';
import { isOver, type Phase } from '../core/phase.ts';
import { isThrottled, throttleText } from '../core/throttle.ts';
import type { Feed } from './feed.ts';
import type { Sampler } from './sampler.ts';
import type { Valve } from './valve.ts';

export interface ShownPair extends Pick<PairSnapshot, 'reason' | 'wayBack' | 'keysTotal' | 'sourceOffset'> {
  /** What the operator lets go to the target. */
  readonly valve: Pick<Valve, 'paused' | 'limits'>;
  readonly pair: PairSpec;
  readonly phase: Phase;
  readonly feedKind: PairSnapshot['feed'];
  /** null before there is one. */
  readonly feed: Feed | null;
  readonly sampler: Sampler | null;
}

export function pairSnapshot(shown: ShownPair): PairSnapshot {
  const { pair, phase, feed, sampler, sourceOffset } = shown;
  const applied = Math.max(0, feed?.appliedOffset() ?? 0);
  const total = feed?.snapshotTotal ?? null;
  const bytes = feed?.snapshotBytes ?? 0;
  const rate = sampler?.bytesPerSecond ?? 0;
  const loading = phase === 'snapshot';
  const oldest = feed?.oldestPendingAt ?? null;
  return Object.freeze({
    pair: pair.name,
    source: addressOf(pair.source),
    target: addressOf(pair.target),
    wave: pair.wave ?? null,
    phase,
    feed: shown.feedKind,
    reason: reasonOf(shown),
    paused: !isOver(phase) && shown.valve.paused,
    throttle: isOver(phase) || !isThrottled(shown.valve.limits) ? null : shown.valve.limits,
    wayBack: shown.wayBack,
    snapshotBytes: bytes,
    snapshotTotal: total,
    keys: feed?.keys ?? 0,
    keysTotal: shown.keysTotal,
    bytesPerSecond: loading ? rate : 0,
    etaSeconds: loading && total !== null && rate > 0 && bytes > total / 100 ? (total - bytes) / rate : null,
    appliedOffset: applied,
    sourceOffset,
    lagBytes: loading ? 0 : Math.max(0, sourceOffset - applied),
    lagSeconds: loading || oldest === null ? 0 : Math.max(0, (Date.now() - oldest) / 1000),
    commandsPerSecond: loading ? 0 : (sampler?.commandsPerSecond ?? 0),
    divergences: feed?.divergences ?? 0,
  });
}

/** What the operator has asked for stands first: it is why the pair is behind. */
function reasonOf({ phase, reason, valve }: ShownPair): string | null {
  if (isOver(phase)) return reason;
  const held = valve.paused
    ? ['paused by the operator']
    : isThrottled(valve.limits)
      ? [`throttled to ${throttleText(valve.limits)}`]
      : [];
  const parts = [...held, ...(reason === null ? [] : [reason])];
  return parts.length === 0 ? null : parts.join('; ');
}
