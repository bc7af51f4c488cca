/** The port of feed `attach` with real servers as targets, of every release that there is here. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { PsyncRequest } from '../../src/target/attach/replica-dialogue.ts';
import type { PsyncAnswer, ReplicaServer } from '../../src/target/attach/replica-server.ts';
import { infoField, testClient } from '../helpers/client.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { RecordingSink, runLink } from '../protocol/link-support.ts';
import { PASSWORD, RecordingListener, runServer } from '../protocol/replica-support.ts';

const PATIENCE = { timeoutMs: 60_000 };

/** The least that a feed is: what the link records is handed on, by the source's own name and offsets. */
class Relay extends RecordingListener {
  readonly sink: RecordingSink;

  constructor(sink: RecordingSink) {
    super();
    this.sink = sink;
    this.decide = (request) => this.#decide(request);
  }

  /** Behind the mark, if there is one; null: not received yet. */
  get payloadEnd(): number | null {
    const { framing, bytes } = this.sink;
    if (framing === null) return null;
    if (framing.kind === 'length') return framing.bytes;
    const at = bytes.indexOf(framing.mark);
    return at < 0 ? null : at + framing.mark.length;
  }

  override acknowledged(offset: number): void {
    super.acknowledged(offset);
    this.sink.applied = offset;
  }

  #decide({ replid, offset }: PsyncRequest): PsyncAnswer {
    const { framing, calls, length } = this.sink;
    if (framing === null || length === 0) return { kind: 'wait' };
    const [, ours = '', base = ''] = /^full (\w+):(\d+)$/.exec(calls[0] ?? '') ?? [];
    const position = (this.payloadEnd ?? Number.NaN) + offset - 1 - Number(base);
    if (replid === ours && position <= length) return { kind: 'continue', replid, position };
    return { kind: 'full', replid: ours, offset: Number(base), framing };
  }
}

/** A source and a target of one release, and a relay in between; the target is told nothing yet. */
async function relayed(t: TestContext, release: Release, diskless: boolean) {
  // before 2.8.18 and 3.0 there is no other way than by a file, nor an option to say so
  const chooses = release.kind === 'valkey' || release.major >= 3;
  const args = chooses ? ['--repl-diskless-sync', diskless ? 'yes' : 'no'] : [];
  const sourceServer = await testServer(t, { binary: release.path, args });
  const targetServer = await testServer(t, { binary: release.path });
  const source = await testClient(t, sourceServer.port);
  const target = await testClient(t, targetServer.port);
  await source.pipeline([
    ['SET', 'text', 'x'.repeat(100_000)],
    ['SADD', 'set', '1', '2', '3'],
    ['SELECT', 3],
    ['SET', 'elsewhere', 'y'],
    ['SELECT', 0],
  ]);
  await target.call('SET', 'stale', 'a former life');

  const sink = new RecordingSink();
  const relay = new Relay(sink);
  const bytes = {
    start: 0,
    get end() {
      return sink.length;
    },
    view: (pos: number) => sink.bytes.subarray(pos),
  };
  const { server } = await runServer(t, bytes, { listener: relay });
  sink.looked = () => look(relay, server);
  // Valkey 9.1 sends others an older format, and never with its length (protocol.md 1.7)
  runLink(t, sourceServer.port, {
    sink,
    announceVersion: release.kind === 'valkey' ? release.version : null,
  });
  const follow = async (password: string): Promise<void> => {
    await target.call('CONFIG', 'SET', 'masterauth', password);
    await target.call('SLAVEOF', '127.0.0.1', server.port);
  };
  const digest = async (client: typeof source): Promise<string> =>
    String(await client.call('DEBUG', 'DIGEST'));
  const equal = (): Promise<boolean> =>
    until(async () => (await digest(source)) === (await digest(target)), {
      ...PATIENCE,
      what: 'equal data sets',
    });
  const linkUp = (): Promise<boolean> =>
    until(async () => (await infoField(target, 'replication', 'master_link_status')) === 'up', PATIENCE);
  return { source, target, targetServer, sink, relay, server, follow, equal, linkUp };
}

function look(relay: Relay, server: ReplicaServer): void {
  const { payloadEnd, sink } = relay;
  server.payloadEnd(payloadEnd);
  // until the mark has come, its first bytes may be the last ones received
  server.holdAt(payloadEnd === null ? Math.max(0, sink.length - 40) : null);
}

/** Diskless or not: as the release does by itself; 7.0 in both ways. */
function ways({ kind, major, minor }: Release): boolean[] {
  if (kind === 'redis' && major < 7) return [false];
  return kind === 'redis' && major === 7 && minor === 0 ? [false, true] : [true];
}

const releases = serverReleases();

describe('a target of each release follows us', { concurrency: 4 }, () => {
  for (const release of releases) {
    for (const diskless of ways(release)) {
      const way = diskless ? 'to a mark' : 'with a length';
      it(`${release.kind} ${release.version}, payload ${way}`, async (t) => {
        const { source, target, sink, relay, server, follow, equal, linkUp } = await relayed(
          t,
          release,
          diskless,
        );
        assert.equal(await until(() => sink.framing?.kind, PATIENCE), diskless ? 'mark' : 'length');
        await follow(PASSWORD);
        for (let i = 0; i < 50; i++) await source.call('INCR', 'during');
        await linkUp();
        await equal();
        await assert.rejects(target.call('SET', 'stranger', '1'), /READONLY/);

        // the hold: exactly what lies before it
        await until(() => relay.lastSent === sink.length);
        const hold = sink.length;
        sink.looked = () => server.pump();
        server.holdAt(hold);
        await source.call('SET', 'behind', 'the hold');
        await until(() => sink.length > hold, PATIENCE);
        assert.equal(server.sentPosition, hold);
        assert.equal(await target.call('EXISTS', 'behind'), 0);
        server.holdAt(null);
        await equal();

        // a break: the rest, no second copy
        await source.call('SET', 'before', 'the break');
        server.disconnect('a break');
        await source.call('SET', 'after', 'the break');
        await until(() => relay.calls.includes('attached continue'), PATIENCE);
        await equal();
        assert.deepEqual(
          relay.calls.filter((call) => call !== 'reached'),
          ['attached full', 'detached a break', 'attached continue'],
        );

        const [, replid, base] = /^full (\w+):(\d+)$/.exec(sink.calls[0] ?? '') ?? [];
        const offset = (): number => Number(base) + sink.length - (relay.payloadEnd ?? Number.NaN);
        await until(() => relay.acks.at(-1) === offset(), {
          ...PATIENCE,
          what: 'the whole stream acknowledged',
        });
        if (release.kind === 'valkey' || release.major >= 4) {
          assert.equal(await infoField(target, 'replication', 'master_replid'), replid);
          const [request] = relay.requests;
          assert.ok(
            request !== undefined && request.replid !== '?',
            'it asked by its own history, and was refused',
          );
        }
      });
    }
  }

  it('a target with a wrong password gets nothing, and is let in once it has the right one', async (t) => {
    const [release] = releases.filter(({ kind, major }) => kind === 'redis' && major === 7);
    if (release === undefined) return t.skip('there is no Redis 7 here');
    const { relay, target, targetServer, follow, equal, linkUp } = await relayed(t, release, true);
    await follow('wrong');
    const log = (): string => readFileSync(join(targetServer.dir, 'server.log'), 'utf8');
    await until(() => log().includes('WRONGPASS'), PATIENCE);
    assert.deepEqual(relay.calls, []);
    assert.equal(String(await target.call('GET', 'stale')), 'a former life');
    await follow(PASSWORD);
    await linkUp();
    await equal();
  });
});
