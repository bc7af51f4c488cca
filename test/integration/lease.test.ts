/** The lease on real servers: one run per target, and no source that is a target. Needs any redis-server. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { ServerSession } from '../../src/client/session.ts';
import { InvariantError } from '../../src/core/errors.ts';
import { type DemoServer, startServer } from '../../src/demo/server.ts';
import { acquireLease, LEASE_KEY, type LeaseRequest, readLease } from '../../src/target/write/lease.ts';

let servers: DemoServer[];
let a: ServerSession;
let b: ServerSession;

const open = (server: DemoServer, role: 'source' | 'target'): Promise<ServerSession> =>
  ServerSession.open(
    { host: '127.0.0.1', port: server.port, username: null, password: null, tls: null },
    role,
    { connectTimeoutMs: 3000 },
  );

const request = (runId: string): LeaseRequest => ({
  runId,
  pair: 'cart\u001b[2J',
  onLost: () => {
    throw new InvariantError('the lease was lost');
  },
});

before(async () => {
  servers = await Promise.all([startServer(), startServer()]);
  const [first, second] = servers;
  assert.ok(first && second);
  a = await open(first, 'source');
  b = await open(second, 'target');
});
after(async () => {
  await Promise.all([a.close(), b.close()]);
  await Promise.all(servers.map((server) => server.stop()));
});
beforeEach(() => Promise.all([a.call('FLUSHALL'), b.call('FLUSHALL')]));

describe('the lease', () => {
  it('says who holds it, and goes by itself', async () => {
    const lease = await acquireLease(b, a, request('r1'));
    const holder = await readLease(b);
    assert.equal(holder?.runId, 'r1');
    assert.equal(holder?.pid, String(process.pid));
    const left = Number(await b.call('PTTL', LEASE_KEY));
    assert.ok(left > 20_000 && left <= 30_000, `PTTL ${left}`);
    await lease.release();
    assert.equal(await readLease(b), null);
  });

  it('is refused to another run, by name, and given to the same one again', async () => {
    const lease = await acquireLease(b, a, request('r1'));
    await assert.rejects(
      acquireLease(b, a, request('r2')),
      (error: Error & { code?: string; exitCode?: number }) => {
        assert.deepEqual([error.code, error.exitCode], ['target-lease', 3]);
        assert.match(error.message, /run r1, pair cart\\x1b\[2J, process \d+ on /);
        return true;
      },
    );
    const again = await acquireLease(b, a, request('r1'));
    await again.release();
    await lease.release();
  });

  it('is taken where the source lets nobody read its keys', async () => {
    await a.call('ACL', 'SETUSER', 'default', '-hgetall');
    try {
      const lease = await acquireLease(b, a, request('r1'));
      await lease.release();
    } finally {
      await a.call('ACL', 'SETUSER', 'default', '+@all');
    }
  });

  it('is renewed, and written anew after a FLUSHALL of the stream', async () => {
    const lease = await acquireLease(b, a, request('r1'));
    await b.call('PEXPIRE', LEASE_KEY, 1000);
    await lease.renew();
    assert.ok(Number(await b.call('PTTL', LEASE_KEY)) > 20_000);
    await b.call('FLUSHALL');
    await lease.renew();
    assert.equal((await readLease(b))?.runId, 'r1');
    await lease.release();
  });

  it('is not taken back from another run, and not released for it', async () => {
    const lease = await acquireLease(b, a, request('r1'));
    await b.call('HSET', LEASE_KEY, 'run', 'r2');
    await assert.rejects(lease.renew(), { code: 'target-lease' });
    await lease.release();
    assert.equal((await readLease(b))?.runId, 'r2');
  });

  it('is refused where the source is being fed itself: A→B while B→A', async () => {
    const lease = await acquireLease(b, a, request('r1'));
    await assert.rejects(acquireLease(a, b, request('r2')), { code: 'source-is-target', exitCode: 3 });
    assert.equal(await readLease(a), null, 'the refused run left its own lease behind');
    await lease.release();
  });
});
