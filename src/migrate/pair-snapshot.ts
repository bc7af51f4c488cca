/** The figures of one pair for screen and log: progress, rates, lag. Computed from what the parts say at the moment. */
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import type { PairSnapshot } from '../core/events.ts';
import type { Phase } from '../core/phase.ts';
import type { Feed } from './feed.ts';
import type { Sampler } from './sampler.ts';

export interface ShownPair extends Pick<PairSnapshot, 'reason' | 'wayBack' | 'keysTotal' | 'sourceOffset'> {
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
    reason: shown.reason,
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
