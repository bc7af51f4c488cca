/** What the tests of ui/ share: a pair in any state, and an output that remembers. */
import { Writable } from 'node:stream';
import type { PairSnapshot } from '../../../src/core/events.ts';

export function pairSnapshot(change: Partial<PairSnapshot> = {}): PairSnapshot {
  return {
    pair: '10.0.0.1:6379',
    source: '10.0.0.1:6379',
    target: '10.0.0.2:6379',
    wave: null,
    phase: 'snapshot',
    feed: 'write',
    reason: null,
    paused: false,
    throttle: null,
    wayBack: null,
    snapshotBytes: 306_000_000,
    snapshotTotal: 588_000_000,
    keys: 1_600_000,
    keysTotal: 3_000_000,
    bytesPerSecond: 61_000_000,
    etaSeconds: 21,
    appliedOffset: 0,
    sourceOffset: 0,
    lagBytes: 0,
    lagSeconds: 0,
    commandsPerSecond: 0,
    divergences: 0,
    ...change,
  };
}

export class Recorder extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
  lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }
}
