/**
 * Rounds of the soak that go there and back: each feed with c, and with e and m. Minutes of traffic on the source, the
 * cutover under it, some seconds of traffic on the new master, the rollback under that. Then both sides must be equal,
 * and the counters must hold every write that was acknowledged, once.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { compareServers, digest } from '../../src/demo/compare.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { RespConnection } from '../../src/resp/connection.ts';
import { plain } from '../helpers/client.ts';
import type { Cleanup } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { inSync, type Scene } from '../integration/migration-scene.ts';
import { assertCounted, type Feed, witnessed } from './witness.ts';

export type Way = 'c' | 'e, m';

export interface Times {
  /** On the source. */
  readonly beforeMs: number;
  /** On the new master. */
  readonly behindMs: number;
}

/** Returns what is to be said of the round. @throws Error where the sides differ, or a counter is wrong */
export async function thereAndBack(
  t: Cleanup,
  feed: Feed,
  way: Way,
  { beforeMs, behindMs }: Times,
): Promise<string> {
  const scene = await inSync(t, { feed, cutover: 'ask', cutoverTimeoutMs: 30_000 });
  const { source, target, onSource, migration } = scene;
  const before = await startTraffic({ port: source.port });
  t.after(async () => void (await before.stop()));
  const moved = way === 'c' ? await byCutover(scene, beforeMs) : await byEnabling(t, scene, beforeMs);
  const stats = [await before.stop()];
  if (!migration.wayBackOpen) throw new Error(`no way back: ${migration.summary().notes.join('; ')}`);

  const behind = await startTraffic({ port: target.port, seed: 2 });
  t.after(async () => void (await behind.stop()));
  await delay(behindMs);
  await migration.rollBack();
  stats.push(await behind.stop());

  // the target follows the source (attach), or is at rest (write)
  await until(async () => (await digest(source.port)) === (await digest(target.port)), {
    timeoutMs: 60_000,
    what: 'equal digests',
  });
  const { different, missing, extra, first } = await compareServers(source.port, target.port);
  if (different + missing + extra > 0) throw new Error(`the sides differ: ${first ?? '?'}`);
  await onSource.call('SELECT', 0);
  assertCounted(WITNESS_KEY, Number(plain(await onSource.call('GET', WITNESS_KEY))), witnessed(stats));
  assertCounted(MOVED_KEY, Number(plain(await onSource.call('GET', MOVED_KEY))), {
    least: moved,
    most: moved,
  });
  const writes = stats.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
  return `equal; ${writes} writes acknowledged, outage ${migration.summary().writeOutageMs} ms`;
}

async function byCutover({ migration }: Scene, beforeMs: number): Promise<number> {
  await delay(beforeMs);
  await settled(migration);
  await migration.cutOver();
  return 0;
}

const MOVED_KEY = 'soak:moved';
const MOVED_PAUSE_MS = 2;

/** Applications on both sides for half of the time: those that have moved write keys of their own. Returns how often. */
async function byEnabling(t: Cleanup, { target, migration }: Scene, beforeMs: number): Promise<number> {
  await delay(beforeMs / 2);
  await settled(migration);
  await migration.enableWrites();
  const application = await RespConnection.connect(target.port);
  t.after(() => application.close());
  let writes = 0;
  for (const end = Date.now() + beforeMs / 2; Date.now() < end; await delay(MOVED_PAUSE_MS)) {
    writes = Number(plain(await application.call('INCR', MOVED_KEY)));
  }
  await migration.promote();
  return writes;
}

/** On a busy machine the lag grows for a moment now and then. */
async function settled(migration: Scene['migration']): Promise<void> {
  await until(() => migration.phase === 'in-sync', { timeoutMs: 60_000, what: 'in sync' });
}
