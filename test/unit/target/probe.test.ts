/** What a target says to the trial of each form: what its release promises, with nothing left and all of it counted. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ReplyError } from '../../../src/client/reply-error.ts';
import { type Command, ServerSession } from '../../../src/client/session.ts';
import type { Endpoint } from '../../../src/core/endpoint.ts';
import { Secret } from '../../../src/core/endpoint.ts';
import { parseCommandStats } from '../../../src/migrate/foreign-writes.ts';
import { payloadOf } from '../../../src/rdb/dump-payload.ts';
import { SAMPLES } from '../../../src/rdb/samples.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { Losses } from '../../../src/target/write/losses.ts';
import { probeForms, UNTRIED } from '../../../src/target/write/probe.ts';
import { WriteTally } from '../../../src/target/write/write-tally.ts';
import { testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';

async function sessionWith(
  t: Cleanup,
  port: number,
  user?: readonly [string, string],
): Promise<ServerSession> {
  const [username, password] = user ?? [null, null];
  const endpoint: Endpoint = {
    host: '127.0.0.1',
    port,
    username,
    password: password === null ? null : new Secret(password),
    tls: null,
  };
  const session = await ServerSession.open(endpoint, 'target', { connectTimeoutMs: 10_000 });
  t.after(() => session.close());
  return session;
}

describe('the trial', () => {
  for (const release of serverReleases()) {
    it(`${release.kind} ${release.version} takes what its release promises`, async (t) => {
      const { port } = await testServer(t, { binary: release.path });
      const session = await sessionWith(t, port);
      const tally = new WriteTally();
      const { forms } = capabilitiesOf(release, release.kind);
      const taken = await probeForms(session, forms, tally);
      assert.ok(taken !== null);
      const sorted = (forms: ReadonlySet<number>): number[] => [...forms].sort((a, b) => a - b);
      assert.deepEqual(sorted(taken), sorted(forms));
      assert.equal(await session.call('DBSIZE'), 0);
      assert.equal(tally.most, tally.least);
      // 3.2 counts what a transaction executes for EXEC
      if (release.major === 3) return;
      const calls = parseCommandStats(String(await session.call('INFO', 'commandstats')));
      assert.equal((calls.get('restore') ?? 0) + (calls.get('del') ?? 0), tally.least);
    });
  }

  it('leaves out what no server here could tell; one that can is to be asked', async (t) => {
    for (const release of serverReleases()) {
      const { port } = await testServer(t, { binary: release.path });
      const session = await sessionWith(t, port);
      const trials = [...UNTRIED].map(
        (form): Command => ['RESTORE', 'k', 0, payloadOf(form, SAMPLES.get(form)!)],
      );
      const answers = await session.pipeline(trials);
      const told = `${release.kind} ${release.version} takes a form that probe.ts need not leave out`;
      for (const answer of answers) assert.ok(answer instanceof ReplyError, told);
      assert.equal(await session.call('DBSIZE'), 0);
    }
  });

  it('is none where RESTORE is not allowed, or there is no memory', async (t) => {
    const { port } = await testServer(t);
    const client = await testClient(t, port);
    await client.call('ACL', 'SETUSER', 'poor', 'on', '>secret', '~*', '+@all', '-restore');
    const tally = new WriteTally();
    assert.equal(await probeForms(await sessionWith(t, port, ['poor', 'secret']), new Set(), tally), null);
    await client.call('CONFIG', 'SET', 'maxmemory', 1);
    assert.equal(await probeForms(await sessionWith(t, port), new Set(), tally), null);
    assert.deepEqual([tally.least, tally.most], [0, 0]);
  });
});

describe('what is lost', () => {
  it('stops the run without --allow-loss, but for bookkeeping', () => {
    const losses = new Losses(false);
    losses.meet(['stream-counters'], 10, null);
    assert.throws(() => losses.meet(['field-ttls'], 20, 'abc'), {
      name: 'TargetError',
      code: 'would-lose',
      keyDigest: 'abc',
      hint: /--allow-loss/,
    });
    assert.equal(losses.told().length, 1);
  });

  it('is counted once, however often an entry comes; a new copy counts anew', () => {
    const losses = new Losses(true);
    losses.begin();
    for (const position of [10, 20, 10, 20, 30]) losses.meet(['field-ttls'], position, null);
    losses.meet(['functions', 'stream-nacks'], 40, null);
    assert.match(losses.told()[0]!, /3 hashes/);
    assert.match(losses.told()[1]!, /1 library of functions/);
    assert.equal(losses.told().length, 3);
    losses.begin();
    losses.meet(['field-ttls'], 10, null);
    assert.match(losses.told().join(), /^lost.*1 hash:/);
  });
});
