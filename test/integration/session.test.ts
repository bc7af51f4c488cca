/** ServerSession and dial() against real servers: logins, TLS, broken connections, replies. Needs redis-server >= 6.0. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { inspect } from 'node:util';
import { dial } from '../../src/client/dial.ts';
import { ReplyError } from '../../src/client/reply-error.ts';
import { ServerSession } from '../../src/client/session.ts';
import { type Endpoint, Secret, type TlsSettings } from '../../src/core/endpoint.ts';
import { CutoverError, TargetError } from '../../src/core/errors.ts';
import { type DemoServer, startServer } from '../../src/demo/server.ts';

const CANARY = 'S3cretCanary';
const TIMEOUT = { connectTimeoutMs: 3000 };

function endpoint(port: number, more: Partial<Endpoint> = {}): Endpoint {
  return { host: '127.0.0.1', port, username: null, password: null, tls: null, ...more };
}

function plainTls(more: Partial<TlsSettings> = {}): TlsSettings {
  return { ca: null, cert: null, key: null, sni: null, insecure: false, ...more };
}

/** Asserts code, exit code and recovery, and that neither password nor command arguments are anywhere in the error. */
async function rejectsWith(
  promise: Promise<unknown>,
  expected: { code: string; exitCode: number; recovery: string },
): Promise<CutoverError> {
  const error = await promise.then(
    () => assert.fail('did not reject'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CutoverError, inspect(error));
  const { code, exitCode, recovery } = error;
  assert.deepEqual({ code, exitCode, recovery }, expected);
  assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(CANARY));
  assert.equal(error.cause, undefined);
  return error;
}

describe('a plain server', () => {
  let server: DemoServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  it('answers calls with text, bytes, arrays and null', async () => {
    const session = await ServerSession.open(endpoint(server.port), 'source', TIMEOUT);
    assert.equal(await session.call('SET', 'k', Buffer.from([0xff, 0])), 'OK');
    assert.deepEqual(await session.callBuffer('GET', 'k'), Buffer.from([0xff, 0]));
    assert.equal(await session.call('get', 'none'), null);
    await session.call('HSET', 'h', 'f', 'v');
    assert.deepEqual(await session.call('hgetall', 'h'), ['f', 'v']);
    assert.equal(await session.call('CLIENT', 'GETNAME'), 'redis-cutover');
    const info = await session.info();
    assert.equal(info.version, server.version);
    assert.equal(info.role, 'master');
    assert.deepEqual(info.keyspace, [{ db: 0, keys: 2, expires: 0, averageTtlMs: null, expiringHashes: 0 }]);
    await session.close();
    await session.close();
    await assert.rejects(session.call('PING'), { code: 'invariant' });
  });

  it('gives reply errors without arguments', async () => {
    const session = await ServerSession.open(endpoint(server.port), 'target', TIMEOUT);
    const error = await rejectsWith(session.call('NOSUCH', CANARY), {
      code: 'reply-err',
      exitCode: 1,
      recovery: 'operator',
    });
    assert.ok(error instanceof ReplyError);
    assert.equal(error.command, 'NOSUCH');
    await rejectsWith(session.call('ACL', 'SETUSER', 'x', `!${CANARY}`), {
      code: 'reply-err',
      exitCode: 1,
      recovery: 'operator',
    });
    const replies = await session.pipeline([
      ['SET', 's', 'x'],
      ['INCR', 's'],
      ['GET', 's'],
    ]);
    assert.ok(replies[1] instanceof ReplyError);
    assert.deepEqual([replies[0], replies[2]], [Buffer.from('OK'), Buffer.from('x')]);
    await assert.rejects(
      session.transaction([
        ['INCR', 's'],
        ['SET', 's', '1'],
      ]),
      ReplyError,
    );
    assert.equal(await session.call('GET', 's'), '1');
    await session.close();
  });

  it('dials again after the connection was cut, and sends nothing twice', async () => {
    const session = await ServerSession.open(endpoint(server.port), 'target', TIMEOUT);
    const other = await ServerSession.open(endpoint(server.port), 'target', TIMEOUT);
    const id = await session.call('CLIENT', 'ID');
    const blocked = rejectsWith(session.call('BLPOP', 'list', '0'), {
      code: 'target-closed',
      exitCode: 1,
      recovery: 'reconnect',
    });
    // BLPOP is known to the server before its connection is killed
    while (!(await other.info('clients')).text('blocked_clients')?.startsWith('1')) await other.call('PING');
    await other.call('CLIENT', 'KILL', 'ID', String(id));
    await blocked;
    const ids = await Promise.all([session.call('CLIENT', 'ID'), session.call('CLIENT', 'ID')]);
    assert.notEqual(ids[0], id);
    assert.equal(ids[0], ids[1]);
    await session.call('RPUSH', 'list', 'x');
    assert.equal(await session.call('LLEN', 'list'), 1, 'BLPOP was sent again');
    await session.close();
    await other.close();
  });

  it('has a plain port recognised when dialled with TLS', async () => {
    const error = await rejectsWith(
      ServerSession.open(endpoint(server.port, { tls: plainTls() }), 'source', TIMEOUT),
      { code: 'source-tls-plain', exitCode: 4, recovery: 'operator' },
    );
    assert.match(error.hint, /redis:\/\//);
  });

  it('warns of a password that is not needed', async () => {
    const session = await ServerSession.open(
      endpoint(server.port, { password: new Secret(CANARY) }),
      'source',
      TIMEOUT,
    );
    assert.equal(session.passwordIgnored, true);
    await session.close();
  });
});

describe('logins', () => {
  let server: DemoServer;
  before(async () => {
    server = await startServer({ args: ['--requirepass', 'top'] });
    const admin = await ServerSession.open(
      endpoint(server.port, { password: new Secret('top') }),
      'source',
      TIMEOUT,
    );
    assert.equal(admin.passwordIgnored, false);
    await admin.call('ACL', 'SETUSER', 'app', 'on', '>pw with space', '+get', '~*');
    await admin.close();
  });
  after(() => server.stop());

  it('takes a user with a password', async () => {
    const session = await ServerSession.open(
      endpoint(server.port, { username: 'app', password: new Secret('pw with space') }),
      'target',
      TIMEOUT,
    );
    assert.equal(await session.call('GET', 'x'), null);
    const error = await session.call('SET', 'x', CANARY).catch((reason: unknown) => reason);
    assert.ok(error instanceof ReplyError);
    assert.equal(error.prefix, 'NOPERM');
    assert.match(error.hint, /\+set/);
    await session.close();
  });

  it('refuses wrong and missing passwords with exit code 4', async () => {
    for (const role of ['source', 'target'] as const) {
      const expected = { code: `${role}-auth`, exitCode: 4, recovery: 'operator' };
      const wrong = endpoint(server.port, { password: new Secret(CANARY) });
      await rejectsWith(ServerSession.open(wrong, role, TIMEOUT), expected);
      await rejectsWith(ServerSession.open({ ...wrong, username: 'app' }, role, TIMEOUT), expected);
      await rejectsWith(ServerSession.open(endpoint(server.port), role, TIMEOUT), expected);
    }
  });
});

describe('servers that cannot be reached', () => {
  it('classes a refused port and an unknown host', async () => {
    const free = createServer();
    await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve));
    const port = portOf(free);
    await new Promise((resolve) => free.close(resolve));
    await rejectsWith(ServerSession.open(endpoint(port), 'source', TIMEOUT), {
      code: 'source-refused',
      exitCode: 1,
      recovery: 'reconnect',
    });
    const error = await rejectsWith(
      ServerSession.open(endpoint(port, { host: 'no-such-host.invalid' }), 'target', TIMEOUT),
      { code: 'target-host', exitCode: 1, recovery: 'reconnect' },
    );
    assert.ok(error instanceof TargetError);
  });

  it('gives up a server that accepts and says nothing, and one that closes at once', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const at = endpoint(portOf(silent));
    await rejectsWith(dial({ ...at, tls: plainTls() }, 'source', { connectTimeoutMs: 200 }), {
      code: 'source-timeout',
      exitCode: 1,
      recovery: 'reconnect',
    });
    await rejectsWith(ServerSession.open(at, 'source', { connectTimeoutMs: 200, replyTimeoutMs: 100 }), {
      code: 'source-unreachable',
      exitCode: 1,
      recovery: 'reconnect',
    });
    const abort = new AbortController();
    const pending = dial({ ...at, tls: plainTls() }, 'source', {
      connectTimeoutMs: 5000,
      signal: abort.signal,
    });
    abort.abort(new Error('stopped'));
    await assert.rejects(pending, { message: 'stopped' });
    for (const socket of sockets) socket.destroy();
    silent.on('connection', (socket) => socket.destroy());
    await rejectsWith(ServerSession.open(at, 'source', TIMEOUT), {
      code: 'source-closed',
      exitCode: 1,
      recovery: 'reconnect',
    });
    silent.close();
  });

  it('hands the bytes to onread where it is given, also for a name with several addresses', async () => {
    const greeter = createServer((socket) => socket.end('hello'));
    await new Promise<void>((resolve) => greeter.listen(0, '127.0.0.1', resolve));
    const buffer = Buffer.alloc(64);
    let text = '';
    const socket = await dial(endpoint(portOf(greeter), { host: 'localhost' }), 'source', {
      ...TIMEOUT,
      onread: {
        buffer,
        callback: (bytes) => {
          text += buffer.toString('latin1', 0, bytes);
          return true;
        },
      },
    });
    await new Promise((resolve) => socket.once('close', resolve));
    assert.equal(text, 'hello');
    greeter.close();
  });
});

describe('TLS', () => {
  let dir: string;
  let server: DemoServer;
  let tlsPort: number;
  const files = (name: string): Buffer => readFileSync(join(dir, name));

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'redis-cutover-tls-'));
    makeCertificates(dir);
    const probe = createServer();
    await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
    tlsPort = portOf(probe);
    await new Promise((resolve) => probe.close(resolve));
    const path = (name: string): string => join(dir, name);
    server = await startServer({
      args: [
        ...[
          '--tls-port',
          String(tlsPort),
          '--tls-cert-file',
          path('server.crt'),
          '--tls-key-file',
          path('server.key'),
        ],
        ...['--tls-ca-cert-file', path('ca.crt'), '--tls-auth-clients', 'yes', '--requirepass', CANARY],
      ],
    });
  });
  after(async () => {
    await server.stop();
    rmSync(dir, { recursive: true });
  });

  const tlsEndpoint = (more: Partial<TlsSettings>, host = 'localhost'): Endpoint =>
    endpoint(tlsPort, { host, password: new Secret(CANARY), tls: plainTls(more) });

  it('verifies the server and shows its own certificate', async () => {
    const all = { ca: files('ca.crt'), cert: files('client.crt'), key: files('client.key') };
    const session = await ServerSession.open(tlsEndpoint(all), 'source', TIMEOUT);
    assert.equal(await session.call('PING'), 'PONG');
    await session.close();
    const insecure = await ServerSession.open(
      tlsEndpoint({ ...all, ca: null, insecure: true }),
      'source',
      TIMEOUT,
    );
    await insecure.close();
    const byName = await ServerSession.open(
      tlsEndpoint({ ...all, sni: 'localhost' }, '127.0.0.1'),
      'source',
      TIMEOUT,
    );
    await byName.close();
  });

  it('refuses an unknown authority, a wrong name and a missing client certificate', async () => {
    const client = { cert: files('client.crt'), key: files('client.key') };
    const expected = (code: string) => ({ code, exitCode: 4, recovery: 'operator' });
    await rejectsWith(
      ServerSession.open(tlsEndpoint(client), 'source', TIMEOUT),
      expected('source-tls-untrusted'),
    );
    await rejectsWith(
      ServerSession.open(tlsEndpoint({ ...client, ca: files('ca.crt') }, '127.0.0.1'), 'target', TIMEOUT),
      expected('target-tls-name'),
    );
    await rejectsWith(
      ServerSession.open(tlsEndpoint({ ca: files('ca.crt') }), 'source', TIMEOUT),
      expected('source-tls'),
    );
    await rejectsWith(
      ServerSession.open(
        tlsEndpoint({ ca: files('ca.crt'), cert: client.cert, key: Buffer.from('x') }),
        'source',
        TIMEOUT,
      ),
      expected('source-tls'),
    );
  });

  it('has a TLS port recognised when dialled without', async () => {
    await rejectsWith(
      ServerSession.open(endpoint(tlsPort, { password: new Secret(CANARY) }), 'target', TIMEOUT),
      {
        code: 'target-tls-required',
        exitCode: 4,
        recovery: 'operator',
      },
    );
  });
});

function portOf(server: Server): number {
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

/** An authority, a server certificate for localhost and a client's, valid for a day. */
function makeCertificates(dir: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '1',
    '-subj',
    '/CN=test authority',
  );
  for (const name of ['server', 'client']) {
    openssl(
      ...['req', '-x509', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.crt`, '-days', '1'],
      ...[
        '-CA',
        'ca.crt',
        '-CAkey',
        'ca.key',
        '-subj',
        '/CN=localhost',
        '-addext',
        'subjectAltName=DNS:localhost',
      ],
    );
  }
}
