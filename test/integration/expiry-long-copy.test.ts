/** A copy that takes so long that what it brought first comes near to its end: the clock is put forward instead. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { ServerSession } from '../../src/client/session.ts';
import { Expiry, expiryKindOf } from '../../src/migrate/expiry.ts';
import { COPY_HORIZON_MS, SHIFT_MS } from '../../src/target/write/held-ttls.ts';
import { WriteTally } from '../../src/target/write/write-tally.ts';
import { testClient } from '../helpers/client.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

it('all keys are looked at in the middle of it, and what is due within the hour is held from then on', async (t) => {
  const server = await testServer(t);
  const client = await testClient(t, server.port);
  const session = await ServerSession.open(
    { host: '127.0.0.1', port: server.port, username: null, password: null, tls: null },
    'target',
    { connectTimeoutMs: 30_000 },
  );
  t.after(() => session.close());
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-long-copy-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const info = await session.info();
  assert.equal(expiryKindOf(info), 'held');
  const expiry = await Expiry.take(
    {
      info,
      session,
      dir,
      open: false,
      tally: new WriteTally(),
      journal: async () => {},
      note: () => {},
      answerLimitMs: 30_000,
    },
    null,
  );
  const { ttls } = expiry;
  assert.ok(ttls !== null);
  ttls.beginCopy(COPY_HORIZON_MS);
  const now = Date.now();
  const [near, far] = [now + COPY_HORIZON_MS / 2, now + 2 * COPY_HORIZON_MS];
  await client.call('SET', 'near', 'v', 'PXAT', near);
  await client.call('SET', 'far', 'v', 'PXAT', far);
  const times = async (): Promise<unknown[]> => [
    await client.call('PEXPIRETIME', 'near'),
    await client.call('PEXPIRETIME', 'far'),
  ];

  const copying = {
    streaming: false,
    whenSentIsApplied: () => Promise.reject(new Error('nothing of a copy is waited for')),
    whileQuiet: () => Promise.reject(new Error('nothing of a copy is waited for')),
  };
  const clock = performance.now.bind(performance);
  let laterMs = 0;
  t.mock.method(performance, 'now', () => clock() + laterMs);
  await expiry.settled(copying);
  laterMs = COPY_HORIZON_MS / 2 - 60_000;
  await expiry.settled(copying);
  assert.deepEqual([await times(), ttls.lookDue], [[near, far], false], 'too early');

  laterMs = COPY_HORIZON_MS / 2 + 1000;
  await expiry.settled(copying);
  await until(() => ttls.lookDue);
  assert.deepEqual(await times(), [near + SHIFT_MS, far]);
  assert.equal(ttls.holdsSome, true);
});
