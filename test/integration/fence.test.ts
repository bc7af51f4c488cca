/** The fence on a real server: who can still write, and that everything comes back exactly. Needs redis-server >= 7.0. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { inspect } from 'node:util';
import { ReplyError } from '../../src/client/reply-error.ts';
import { ServerInfo } from '../../src/client/server-info.ts';
import { type BufferReply, ServerSession } from '../../src/client/session.ts';
import { type Endpoint, Secret } from '../../src/core/endpoint.ts';
import { type DemoServer, startServer } from '../../src/demo/server.ts';
import { createRunUser, dropRunUser, Fence, fenceMeans } from '../../src/target/write/fence.ts';

const TIMEOUT = { connectTimeoutMs: 3000 };
const OLD = ServerInfo.parse('redis_version:5.0.14');

let server: DemoServer;
let admin: ServerSession;
let info: ServerInfo;
let open: ServerSession[];

before(async () => {
  server = await startServer();
});
after(() => server.stop());

beforeEach(async () => {
  open = [];
  admin = await login(null, null);
  info = await admin.info();
  await admin.call('FLUSHALL');
});
afterEach(async () => {
  for (const name of (await admin.callBuffer('ACL', 'USERS')) as Buffer[]) {
    if (name.toString() !== 'default') await admin.call('ACL', 'DELUSER', name);
  }
  await Promise.all(open.map((session) => session.close()));
});

async function login(username: string | null, password: string | null): Promise<ServerSession> {
  const endpoint: Endpoint = {
    host: '127.0.0.1',
    port: server.port,
    username,
    password: password === null ? null : new Secret(password),
    tls: null,
  };
  const session = await ServerSession.open(endpoint, 'target', TIMEOUT);
  open.push(session);
  return session;
}

const aclList = (): Promise<BufferReply> => admin.callBuffer('ACL', 'LIST');

async function prefixOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    (reply) => assert.fail(`was answered with ${inspect(reply)}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ReplyError, inspect(error));
  return (
    /NOPERM|NOREPLICAS/i.exec(error.reply)?.[0] ??
    /can't run this command/.exec(error.reply)?.[0] ??
    error.reply
  );
}

describe('the ACL fence', () => {
  it('stops writes on open connections, in scripts, functions and at EXEC; reading and administration go on', async () => {
    await admin.call(
      'FUNCTION',
      'LOAD',
      "#!lua name=l\nredis.register_function('f', function(k) return redis.call('SET', k[1], 'f') end)",
    );
    await admin.call('SET', 'k', 'v');
    const app = await login(null, null);
    await app.call('MULTI');
    await app.call('SET', 'k', 'queued');
    const fence = await Fence.prepare(admin, info, { side: 'target', exceptUser: null });
    assert.equal(fence.kind, 'acl');
    assert.equal(fence.reason, null);
    await app.call('GET', 'k');
    await fence.set();

    const exec = await app.callBuffer('EXEC').catch((error: unknown) => error);
    const queued = Array.isArray(exec) ? exec[0] : exec;
    assert.ok(queued instanceof ReplyError);
    assert.match(queued.reply, /NOPERM|EXECABORT/);
    assert.equal(await prefixOf(app.call('SET', 'k', 'x')), 'NOPERM');
    assert.equal(await prefixOf(app.call('DEL', 'k')), 'NOPERM');
    assert.equal(await prefixOf(app.call('FLUSHALL')), 'NOPERM');
    await assert.rejects(app.call('EVAL', "return redis.call('SET', KEYS[1], 'x')", 1, 'k'), ReplyError);
    await assert.rejects(app.call('FCALL', 'f', 1, 'k'), ReplyError);
    assert.equal(await app.call('GET', 'k'), 'v');
    assert.equal((await app.info('server')).version, server.version);
    assert.ok(await app.call('CLIENT', 'LIST'));
    assert.ok(await app.call('CONFIG', 'GET', 'port'));

    assert.deepEqual(await fence.lift(), []);
    assert.equal(await app.call('SET', 'k', 'x'), 'OK');
    await admin.call('FUNCTION', 'FLUSH');
  });

  it('gives all users back exactly, whatever they look like, also from the journal', async () => {
    const users: (string | Buffer)[][] = [
      [
        'bob',
        'on',
        '>secret',
        '>second',
        '~app:*',
        '%R~x*',
        '&ch*',
        '+@all',
        '-@dangerous',
        'skip-sanitize-payload',
      ],
      ['sel', 'on', 'nopass', '+get', '(+set ~s:*)', '(+@all -@admin ~t:* &z)', '("~q\\"x" +@write ~a))'],
      ['we"ird\'(x)', 'off', 'nopass', '~k"(k)', '+@read', '+config|get', 'sanitize-payload'],
      [Buffer.from([0xff, 0xfe, 0x61]), 'on', '>x', Buffer.from([0x7e, 0xc3, 0x28]), '+@write', '-set'],
      ['none', 'off', '-@all'],
    ];
    for (const words of users) await admin.callBuffer('ACL', 'SETUSER', ...words);
    const former = await aclList();

    const fence = await Fence.prepare(admin, info, { side: 'target', exceptUser: null });
    assert.deepEqual(await aclList(), former, 'prepare() left something behind');
    const json = JSON.parse(JSON.stringify(fence.toJournal()));
    assert.ok(!/#[0-9a-f]{64}/.test(JSON.stringify(json)), 'the journal holds a password hash');
    await fence.set();
    const fenced = await aclList();
    assert.notDeepEqual(fenced, former);
    for (const [user, key] of [
      ['bob', 'app:1'],
      ['sel', 's:1'],
      ['sel', 't:1'],
      ['sel', 'q"x'],
    ] as const) {
      assert.match(String(await admin.call('ACL', 'DRYRUN', user, 'SET', key, 'v')), /has no permissions/);
    }
    assert.equal(await admin.call('ACL', 'DRYRUN', 'sel', 'GET', 't:1'), 'OK');
    await fence.set();
    assert.deepEqual(await aclList(), fenced);

    const afterCrash = Fence.fromJournal(await login(null, null), json);
    assert.deepEqual(await afterCrash.lift(), []);
    assert.deepEqual(await aclList(), former);
    assert.deepEqual(await afterCrash.lift(), []);
    assert.deepEqual(await fence.lift(), []);
    assert.deepEqual(await aclList(), former);
  });

  it('leaves alone, and reports, whom somebody else changed meanwhile', async () => {
    await admin.call('ACL', 'SETUSER', 'a', 'on', 'nopass', '~*', '+@all');
    await admin.call('ACL', 'SETUSER', 'b', 'on', 'nopass', '~*', '+@all');
    await admin.call('ACL', 'SETUSER', 'c', 'on', 'nopass', '~*', '+@all');
    const fence = await Fence.prepare(admin, info, { side: 'target', exceptUser: null });
    await fence.set();
    await admin.call('ACL', 'SETUSER', 'a', '>new');
    await admin.call('ACL', 'DELUSER', 'b');
    const notes = await fence.lift();
    assert.equal(notes.length, 2);
    assert.match(notes[0] ?? '', /user a was changed .* ACL SETUSER a -@all \+@all/);
    assert.match(notes[1] ?? '', /user b was deleted/);
    assert.match(String(await admin.call('ACL', 'DRYRUN', 'a', 'SET', 'k', 'v')), /has no permissions/);
    assert.equal(await admin.call('ACL', 'DRYRUN', 'c', 'SET', 'k', 'v'), 'OK');
    assert.equal(await admin.call('SET', 'k', 'v'), 'OK');
  });

  it('is not set when users changed since it was prepared', async () => {
    const fence = await Fence.prepare(admin, info, { side: 'target', exceptUser: null });
    await admin.call('ACL', 'SETUSER', 'late', 'on', 'nopass', '~*', '+@all');
    await assert.rejects(fence.set(), { code: 'target-fence', exitCode: 1 });
    assert.equal(await admin.call('SET', 'k', 'v'), 'OK');
  });

  it('lets the user of the run write, and only it', async () => {
    const { username, password } = await createRunUser(admin, info, 'r1');
    assert.equal(username, 'redis-cutover-r1');
    const fence = await Fence.prepare(admin, info, { side: 'target', exceptUser: username });
    await fence.set();
    const run = await login(username, password.reveal());
    assert.equal(await run.call('SET', 'k', 'v'), 'OK');
    assert.equal(await prefixOf(admin.call('SET', 'k', 'v')), 'NOPERM');
    assert.equal(inspect(password), '***');
    await fence.lift();
    await dropRunUser(admin, 'r1');
    await dropRunUser(admin, 'r1');
    assert.deepEqual(await admin.call('ACL', 'USERS'), ['default']);
  });

  it('refuses a journal that is none', () => {
    for (const json of [null, {}, { kind: 'acl' }, { kind: 'acl', users: [{}] }, { kind: 'x' }]) {
      assert.throws(() => Fence.fromJournal(admin, json), { code: 'fence-journal' });
    }
  });
});

describe('without ACL', () => {
  it('is min-slaves-to-write on a source, put back as it was', async () => {
    await admin.call('CONFIG', 'SET', 'min-slaves-max-lag', '0');
    const means = await fenceMeans(admin, OLD, 'source');
    assert.ok(means.kind === 'min-replicas' && /EVAL/.test(means.caveat));
    const fence = await Fence.prepare(admin, OLD, { side: 'source', exceptUser: null });
    await fence.set();
    assert.equal(await prefixOf(admin.call('SET', 'k', 'v')), 'NOREPLICAS');
    const json = JSON.parse(JSON.stringify(fence.toJournal()));
    assert.deepEqual(await Fence.fromJournal(admin, json).lift(), []);
    assert.equal(await admin.call('SET', 'k', 'v'), 'OK');
    assert.deepEqual(await admin.call('CONFIG', 'GET', 'min-slaves-max-lag'), ['min-slaves-max-lag', '0']);
    assert.deepEqual(await admin.call('CONFIG', 'GET', 'min-slaves-to-write'), ['min-slaves-to-write', '0']);
    assert.deepEqual(await fence.lift(), []);
    await fence.set();
    await admin.call('CONFIG', 'SET', 'min-slaves-to-write', '3');
    assert.equal((await fence.lift()).length, 1);
    await admin.call('CONFIG', 'SET', 'min-slaves-to-write', '0');
    await admin.call('CONFIG', 'SET', 'min-slaves-max-lag', '10');
  });

  it('is none on a target, with the reason', async () => {
    const fence = await Fence.prepare(admin, OLD, { side: 'target', exceptUser: null });
    assert.equal(fence.kind, 'none');
    assert.match(fence.reason ?? '', /5\.0\.14/);
    await fence.set();
    assert.equal(await admin.call('SET', 'k', 'v'), 'OK');
    assert.deepEqual(await fence.lift(), []);
  });

  it('is not used without the right to it', async () => {
    await admin.call('ACL', 'SETUSER', 'poor', 'on', '>p', '~*', '+@all', '-acl');
    await admin.call('ACL', 'SETUSER', 'lister', 'on', '>p', '~*', '+@all', '-acl|setuser');
    await admin.call('ACL', 'SETUSER', 'piecemeal', 'on', '>p', '~*', '+@all', '-multi');
    for (const name of ['poor', 'lister', 'piecemeal']) {
      const session = await login(name, 'p');
      const means = await fenceMeans(session, info, 'target');
      assert.ok(means.kind === 'none');
      assert.match(means.reason, /no right/);
      assert.equal((await fenceMeans(session, info, 'source')).kind, 'min-replicas');
    }
  });
});
