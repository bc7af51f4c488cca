/** The link over TLS: a scripted master behind a TLS server of this process. Needs the openssl program. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { createServer, type TlsOptions } from 'node:tls';
import { inspect } from 'node:util';
import type { TlsSettings } from '../../src/core/endpoint.ts';
import { fakeSource, type Step } from '../helpers/fake-source.ts';
import { until } from '../helpers/wait.ts';
import { CAPTURES, captureWire } from './capture.ts';
import { fullResync, MARK, makeCertificates, REPLID, runLink, send, UP_TO_PSYNC } from './link-support.ts';

const PASSWORD = 'S3cretCanary';

describe('the link over TLS', () => {
  let dir: string;
  const file = (name: string): Buffer => readFileSync(join(dir, name));
  const settings = (more: Partial<TlsSettings> = {}): TlsSettings => ({
    ca: file('ca.crt'),
    cert: null,
    key: null,
    sni: null,
    insecure: false,
    ...more,
  });

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'redis-cutover-link-tls-'));
    makeCertificates(dir);
  });
  after(() => rmSync(dir, { recursive: true }));

  /** A TLS port in front of a scripted master. */
  async function tlsSource(t: TestContext, scripts: readonly (readonly Step[])[], more: TlsOptions = {}) {
    const source = await fakeSource(t, ...scripts);
    const server = createServer({ cert: file('server.crt'), key: file('server.key'), ...more }, (outside) => {
      const inside = connect(source.port, '127.0.0.1');
      outside.pipe(inside).pipe(outside);
      for (const [one, other] of [
        [outside, inside],
        [inside, outside],
      ] as const) {
        one.on('error', () => other.destroy());
        one.on('close', () => other.destroy());
      }
    });
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
    });
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    return { source, port: (server.address() as AddressInfo).port };
  }

  it('verified by name: the payload, the mark, the first acknowledgement, the stream', async (t) => {
    const { whole, body } = await captureWire(t, CAPTURES['diskless, to its mark']);
    t.mock.timers.enable({ apis: ['setInterval'] });
    const mark = /\$EOF:(.{40})/.exec(whole.toString('latin1'))![1]!;
    const at = whole.lastIndexOf(mark);
    const cuts = [at, at + 39, at + 40, whole.length - 3];
    const { source, port } = await tlsSource(t, [
      [UP_TO_PSYNC, send(whole, cuts)],
      [UP_TO_PSYNC, send(whole, 'every-byte')],
      [
        UP_TO_PSYNC,
        send(`+FULLRESYNC ${REPLID} 1\r\n$EOF:${MARK}\r\npayload${MARK.slice(0, 17)}`),
        send(MARK.slice(17)),
        { kind: 'expect', name: 'REPLCONF ACK' },
        send('stream'),
      ],
    ]);
    for (let run = 0; run < 2; run++) {
      const { sink, stop } = runLink(t, port, { host: 'localhost', tls: settings(), password: PASSWORD });
      await until(() => sink.length === body.length);
      assert.equal(sink.bytes.compare(body), 0);
      await stop();
    }
    const { sink } = runLink(t, port, { host: 'localhost', tls: settings(), password: PASSWORD });
    await until(() => sink.bytes.toString() === `payload${MARK}stream`);
    assert.deepEqual(source.received[0]!.args.map(String), ['AUTH', PASSWORD]);
  });

  it('a break is dialled again', async (t) => {
    const { port } = await tlsSource(t, [
      [UP_TO_PSYNC, send(fullResync('RDB')), { kind: 'close' }],
      [UP_TO_PSYNC, send(fullResync('RDB')), { kind: 'reset' }],
      [UP_TO_PSYNC, send(fullResync('again'))],
    ]);
    const { sink } = runLink(t, port, { host: 'localhost', tls: settings() });
    await until(() => sink.bytes.toString() === 'again');
    assert.deepEqual(
      sink.interruptions.map(({ recovery }) => recovery),
      ['reconnect', 'reconnect'],
    );
  });

  it('more than can be read while the sink prepares waits, and arrives', async (t) => {
    const payload = 'r'.repeat(8 << 20);
    const { port } = await tlsSource(t, [[UP_TO_PSYNC, send(fullResync(payload))]]);
    const { sink } = runLink(t, port, { host: 'localhost', tls: settings() });
    sink.prepare = async () => {
      for (let turn = 0; turn < 500; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    await until(() => sink.length === payload.length);
    assert.ok(sink.bytes.equals(Buffer.from(payload)));
  });

  it('a wrong authority, name or time, a missing client certificate: exit code 4, and no AUTH was sent', async (t) => {
    const cases: readonly (readonly [string, string, Partial<TlsSettings>, string, TlsOptions?])[] = [
      ['another authority', 'localhost', { ca: null }, 'source-tls-untrusted'],
      ['another name', '127.0.0.1', {}, 'source-tls-name'],
      ['another name by --sni', '127.0.0.1', { sni: 'other.example' }, 'source-tls-name'],
      ['expired', 'localhost', {}, 'source-tls-expired', { cert: file('old.crt'), key: file('old.key') }],
    ];
    for (const [name, host, tls, code, server] of cases) {
      const { source, port } = await tlsSource(t, [[UP_TO_PSYNC]], server);
      const { ended, sink } = runLink(t, port, { host, tls: settings(tls), password: PASSWORD });
      const error = await ended;
      assert.deepEqual([name, error?.code, error?.exitCode], [name, code, 4], inspect(error));
      assert.equal(error?.recovery, 'operator');
      assert.doesNotMatch(inspect(error, { depth: 9, showHidden: true }), new RegExp(PASSWORD));
      assert.deepEqual([source.received.length, sink.calls.length], [0, 0]);
    }
  });

  it('a server that wants a certificate of ours, and gets none or the right one', async (t) => {
    const scripts = [
      [UP_TO_PSYNC, send(fullResync('RDB'))],
      [UP_TO_PSYNC, send(fullResync('RDB'))],
    ];
    const wants = { requestCert: true, ca: file('ca.crt') };
    const { source, port } = await tlsSource(t, scripts, wants);
    const none = await runLink(t, port, { host: 'localhost', tls: settings(), password: PASSWORD }).ended;
    assert.deepEqual([none?.code, none?.exitCode], ['source-tls', 4], inspect(none));
    assert.equal(source.received.length, 0);
    const tls = settings({ cert: file('client.crt'), key: file('client.key') });
    const { sink } = runLink(t, port, { host: 'localhost', tls });
    await until(() => sink.bytes.toString() === 'RDB');
  });

  it('--sni and --insecure', async (t) => {
    const script = [UP_TO_PSYNC, send(fullResync('RDB'))];
    const { port } = await tlsSource(t, [script, script]);
    for (const tls of [settings({ sni: 'localhost' }), settings({ ca: null, insecure: true })]) {
      const { sink } = runLink(t, port, { tls });
      await until(() => sink.bytes.toString() === 'RDB');
    }
  });

  it('a plain link to this port: exit code 4 and the right scheme', async (t) => {
    const { source, port } = await tlsSource(t, [[UP_TO_PSYNC]]);
    const error = await runLink(t, port, { password: PASSWORD }).ended;
    assert.deepEqual([error?.code, error?.exitCode], ['source-tls-required', 4], inspect(error));
    assert.match(error!.hint, /rediss:\/\//);
    assert.equal(source.received.length, 0);
  });
});
