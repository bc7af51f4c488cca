/**
 * Random values of every type on a real server, its snapshot through our reader and writer into every other server that is
 * here, most of them older: equal over the wire. ROUND_TRIPS=500 runs so many from each source, ROUND_TRIP_SEED=S those of
 * a seed again; what fails is made smaller, and told with its seed.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compareServers } from '../../src/demo/compare.ts';
import { type Command, ReplyError, type RespConnection } from '../../src/resp/connection.ts';
import { capabilitiesOf } from '../../src/target/write/capabilities.ts';
import { testClient } from '../helpers/client.ts';
import { loadSnapshot } from '../helpers/load-snapshot.ts';
import { randomDataset } from '../helpers/random-dataset.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { seedFrom } from '../helpers/seed.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';

const USUAL_RUNS = 6;
const RUNS = Number(process.env['ROUND_TRIPS'] ?? USUAL_RUNS);
const SEED = seedFrom('ROUND_TRIP_SEED', RUNS > USUAL_RUNS);
/** To make what has failed smaller, beside the runs themselves. */
const LIMIT_MS = 60_000 + RUNS * 5_000;

const RELEASES = serverReleases();
/** The first major version that has them. */
const WITH_STREAMS = 5;
const SOURCES = [
  RELEASES.find(({ kind, version }) => kind === 'redis' && version.startsWith('7.0')),
  RELEASES.findLast(({ kind }) => kind === 'redis'),
  RELEASES.findLast(({ kind }) => kind === 'valkey'),
].filter((release) => release !== undefined);
const nameOf = ({ kind, version }: Release): string => `${kind} ${version}`;

interface Server {
  readonly release: Release;
  readonly port: number;
  readonly dir: string;
  readonly client: RespConnection;
}

async function serverOf(t: Cleanup, release: Release): Promise<Server> {
  const { port, dir } = await testServer(t, { binary: release.path });
  return { release, port, dir, client: await testClient(t, port) };
}

async function run(client: RespConnection, commands: readonly Command[]): Promise<void> {
  for (const [i, reply] of (await client.pipeline(commands)).entries()) {
    assert.ok(!(reply instanceof ReplyError), `${commands[i]?.slice(0, 4).join(' ')}: ${String(reply)}`);
  }
}

/** Of about so many bytes each. */
function cut(file: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(file.length / size) }, (_, i) =>
    file.subarray(i * size, (i + 1) * size),
  );
}

describe('random values', () => {
  for (const release of new Set(SOURCES)) {
    it(`of ${nameOf(release)} are the same on other releases`, { timeout: LIMIT_MS + 60_000 }, async (t) => {
      const source = await serverOf(t, release);
      const targets = await Promise.all(RELEASES.map((other) => serverOf(t, other)));

      async function bring(target: Server, file: Buffer, chunkBytes: number): Promise<void> {
        const { kind, major, minor } = target.release;
        await run(target.client, [['FLUSHALL']]);
        const { refusals } = await loadSnapshot(
          target.port,
          capabilitiesOf({ major, minor }, kind),
          cut(file, Math.max(chunkBytes, Math.ceil(file.length / 1_000))),
        );
        const where = `on ${nameOf(target.release)}`;
        assert.deepEqual(refusals, [], where);
        // before 7.0 a server tells what is left of an expiry, not when it is: two answers at two moments
        const ttlToleranceMs = major >= 7 && release.major >= 7 ? 0 : 60_000;
        const found = await compareServers(source.port, target.port, { ttlToleranceMs });
        assert.deepEqual(
          [found.different, found.missing, found.extra],
          [0, 0, 0],
          `${where}: ${found.first}`,
        );
      }

      const trip = fc.asyncProperty(
        randomDataset(release),
        fc.constantFrom(7, 1_000, 65_536, 2 ** 30),
        async ({ commands, streamKeys }, chunkBytes) => {
          const saved = async (...before: Command[]): Promise<Buffer> => {
            await run(source.client, [...before, ['SELECT', 0], ['SAVE']]);
            return readFileSync(join(source.dir, 'dump.rdb'));
          };
          const file = await saved(['FLUSHALL'], ...commands);
          const newer = targets.filter(({ release: { major } }) => major >= WITH_STREAMS);
          await Promise.all(newer.map((target) => bring(target, file, chunkBytes)));
          const withoutStreams = await saved(
            ...[0, 5].flatMap((db): Command[] => [['SELECT', db], ...streamKeys.map((key) => ['DEL', key])]),
          );
          const older = targets.filter((target) => !newer.includes(target));
          await Promise.all(older.map((target) => bring(target, withoutStreams, chunkBytes)));
        },
      );
      await fc.assert(trip, { numRuns: RUNS, seed: SEED, interruptAfterTimeLimit: LIMIT_MS });
    });
  }
});
