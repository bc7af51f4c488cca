/** Marks by which resume sees whether anybody has written to a target that counts no writes in its offset. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServerSession } from '../../src/client/session.ts';
import { changeMark } from '../../src/migrate/change-mark.ts';
import { serverReleases } from '../helpers/releases.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask } from '../scenarios/support.ts';

// before 7.0 saves are not counted
for (const { kind, version, path } of serverReleases().filter(({ major, minor }) =>
  ['5.0', '6.2', '7.0', '8.2', '9.1'].includes(`${major}.${minor}`),
)) {
  test(`${kind} ${version}: the same until something is written or saved`, async (t) => {
    const { port } = await testServer(t, { binary: path });
    const endpoint = { host: '127.0.0.1', port, username: null, password: null, tls: null };
    const session = await ServerSession.open(endpoint, 'target', { connectTimeoutMs: 60_000 });
    atEnd(t, () => session.close());
    const marked = (): Promise<string> => until(() => changeMark(session), { what: 'a mark' });
    await ask(port, 'SET', 'k', 1);
    const mark = await marked();
    assert.equal(await ask(port, 'GET', 'k'), '1');
    assert.equal(await marked(), mark);
    await ask(port, 'SET', 'k', 2);
    const written = await marked();
    assert.notEqual(written, mark);
    // as many changes as before, within a second or not
    await ask(port, 'SAVE');
    await ask(port, 'SET', 'k', 3);
    const saved = await marked();
    assert.ok(![mark, written].includes(saved));
  });
}
