/** What the link does upon each answer to its handshake, PSYNC and SYNC, against a scripted master. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { UsageError } from '../../src/core/errors.ts';
import { type FakeSource, fakeSource, type Step } from '../helpers/fake-source.ts';
import { until } from '../helpers/wait.ts';
import { fullResync, REPLID, RecordingSink, runLink, send, UP_TO_PSYNC } from './link-support.ts';

const WORKS: readonly Step[] = [UP_TO_PSYNC, send(fullResync('RDB'))];
const OPTIONS = ['REPLCONF LISTENING-PORT', 'REPLCONF IP-ADDRESS', 'REPLCONF CAPA', 'REPLCONF CAPA'];

/** Answers the handshake, with other replies where given, and PSYNC with `psync`. */
function answers(psync: string, replies: Readonly<Record<string, string>> = {}): Step {
  return {
    kind: 'serve',
    replies: { AUTH: '+OK\r\n', PING: '+PONG\r\n', REPLCONF: '+OK\r\n', PSYNC: psync, ...replies },
    until: 'PSYNC',
  };
}

function names(source: FakeSource, connection = 0): string[] {
  return source.received.filter((command) => command.connection === connection).map(({ name }) => name);
}

const UNKNOWN_PSYNC = "-ERR unknown command 'PSYNC'\r\n";

describe('the order of the requests', { concurrency: true }, () => {
  it('AUTH, PING, the options in one write, PSYNC; each waits for the answers to what was before', async (t) => {
    const requests = ['AUTH', 'PING', ...OPTIONS, 'PSYNC'];
    let early = '';
    const script = requests.flatMap((name, index): Step[] => [
      { kind: 'expect', name },
      {
        kind: 'call',
        run: async () => {
          // both ends live in this process: what was sent without waiting is here two turns of the loop later
          for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
          const expected = OPTIONS.includes(name) ? requests.length - 1 : index + 1;
          if (source.received.length !== expected) early = source.received.at(-1)!.name;
        },
      },
      send(name === 'PSYNC' ? fullResync('RDB') : '+OK\r\n'),
    ]);
    const source = await fakeSource(t, script);
    const { sink } = runLink(t, source.port, { password: 'p w', username: 'bob' });
    await until(() => sink.length === 3);
    await source.finished();
    assert.equal(early, '');
    assert.deepEqual(source.received[0]!.args.map(String), ['AUTH', 'bob', 'p w']);
    assert.deepEqual(source.received.find(({ name }) => name === 'PSYNC')!.args.map(String), [
      'PSYNC',
      '?',
      '-1',
    ]);
  });

  it('asks for a plain snapshot last, and goes on where that is refused in whatever words', async (t) => {
    for (const refusal of ["-ERR unknown command 'REPLCONF'", '-ERR not supported', '-NOPERM no']) {
      const requests = ['PING', ...OPTIONS, 'REPLCONF RDB-NO-COMPRESS', 'PSYNC'];
      const source = await fakeSource(
        t,
        requests.flatMap((name): Step[] => [
          { kind: 'expect', name },
          send(
            name === 'PSYNC' ? fullResync('RDB') : name.endsWith('COMPRESS') ? `${refusal}\r\n` : '+OK\r\n',
          ),
        ]),
      );
      const { sink } = runLink(t, source.port, { plainSnapshot: true });
      await until(() => sink.length === 3);
      await source.finished();
    }
  });

  it('asks for the byte behind the last one, and takes CONTINUE with and without an id', async (t) => {
    const other = 'ab12'.repeat(10);
    const source = await fakeSource(
      t,
      [answers(`+CONTINUE ${other}\r\nabc`)],
      [answers('+CONTINUE\r\n'), send('abc')],
    );
    for (const [index, continued] of [other, 'null'].entries()) {
      const sink = new RecordingSink();
      sink.resume = { replid: REPLID, offset: 41 };
      const { link } = runLink(t, source.port, { sink });
      await until(() => sink.bytes.toString() === 'abc');
      assert.deepEqual(sink.calls, [`continued ${continued}`]);
      assert.equal(link.connected, true);
      const psync = source.received.find(({ name, connection }) => name === 'PSYNC' && connection === index)!;
      assert.deepEqual(psync.args.map(String), ['PSYNC', REPLID, '42']);
    }
  });

  it('uses the names that the source knows the commands by', async (t) => {
    const source = await fakeSource(t, [
      {
        kind: 'serve',
        replies: { PING: '+PONG\r\n', XREPL: '+OK\r\n', XPSYNC: UNKNOWN_PSYNC, XSYNC: '$3\r\nRDB' },
        until: 'XSYNC',
      },
    ]);
    const { sink } = runLink(t, source.port, {
      names: { psync: 'XPSYNC', sync: 'XSYNC', replconf: 'XREPL' },
    });
    await until(() => sink.length === 3);
    assert.deepEqual(sink.calls, ['full ?']);
  });
});

describe('replies that pass: it is tried again from the start', { concurrency: true }, () => {
  const cases: Readonly<Record<string, readonly Step[]>> = {
    'LOADING to PING': [
      { kind: 'expect', name: 'PING', reply: '-LOADING Redis is loading the dataset in memory\r\n' },
    ],
    'LOADING to PSYNC': [answers('-LOADING Redis is loading the dataset in memory\r\n')],
    'BUSY to REPLCONF': [answers('', { REPLCONF: '-BUSY Redis is busy running a script.\r\n' })],
    'MASTERDOWN to PSYNC': [answers('-MASTERDOWN Link with MASTER is down\r\n')],
    NOMASTERLINK: [answers("-NOMASTERLINK Can't SYNC while not connected with my master\r\n")],
    'no master link, as 2.8 says it': [answers("-ERR Can't SYNC while not connected with my master\r\n")],
    'BGSAVE failed': [answers("-ERR BGSAVE failed, replication can't continue\r\n"), { kind: 'close' }],
    'an error line in place of the payload': [
      answers(`+FULLRESYNC ${REPLID} 1\r\n\n-ERR BGSAVE failed, replication can't continue\r\n`),
    ],
    'something else in place of the payload': [answers(`+FULLRESYNC ${REPLID} 1\r\n:12\r\n`)],
    'too many clients, said unasked': [send('-ERR max number of clients reached\r\n'), { kind: 'close' }],
    'SYNC refused for now': [
      answers(UNKNOWN_PSYNC),
      { kind: 'expect', name: 'SYNC', reply: "-ERR Can't SYNC while not connected with my master\r\n" },
    ],
  };
  for (const [name, script] of Object.entries(cases)) {
    it(name, async (t) => {
      const source = await fakeSource(t, script, WORKS);
      const { sink } = runLink(t, source.port);
      await until(() => sink.bytes.toString() === 'RDB');
      assert.deepEqual(sink.calls, ['interrupted source-not-ready', `full ${REPLID}:100`]);
      assert.ok(sink.interruptions[0]!.hint.length > 0);
      await source.finished(1);
    });
  }
});

describe('replies that do not matter', { concurrency: true }, () => {
  const cases: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    'MISCONF to PING': {
      PING: '-MISCONF Redis is configured to save RDB snapshots, but is currently unable to\r\n',
    },
    'NOPERM to PING': { PING: "-NOPERM this user has no permissions to run the 'ping' command\r\n" },
    'unknown options': { REPLCONF: '-ERR Unrecognized REPLCONF option: x\r\n' },
    'a password that is not needed (5.0)': { AUTH: '-ERR Client sent AUTH, but no password is set\r\n' },
    'a password that is not needed (7.0)': {
      AUTH: '-ERR AUTH <password> called without any password configured for the default user.\r\n',
    },
  };
  for (const [name, replies] of Object.entries(cases)) {
    it(name, async (t) => {
      const source = await fakeSource(t, [answers(fullResync('RDB'), replies)]);
      const { sink } = runLink(t, source.port, { password: 'pw' });
      await until(() => sink.length === 3);
      assert.deepEqual(sink.calls, [`full ${REPLID}:100`]);
      assert.deepEqual(names(source), ['AUTH', 'PING', ...OPTIONS, 'PSYNC']);
    });
  }

  it('AUTH with a user before 6.0: again with the password alone', async (t) => {
    const source = await fakeSource(t, [
      { kind: 'expect', name: 'AUTH', reply: "-ERR wrong number of arguments for 'auth' command\r\n" },
      { kind: 'expect', name: 'AUTH', reply: '+OK\r\n' },
      ...WORKS,
    ]);
    const { sink } = runLink(t, source.port, { username: 'bob', password: 'pw' });
    await until(() => sink.length === 3);
    assert.deepEqual(source.received[1]!.args.map(String), ['AUTH', 'pw']);
  });
});

describe('replies that end it', { concurrency: true }, () => {
  const NOPERM = "-NOPERM this user has no permissions to run the 'x' command\r\n";
  const cases: Readonly<Record<string, readonly [readonly Step[], string, number, RegExp]>> = {
    'NOAUTH to PING': [
      [answers('', { PING: '-NOAUTH Authentication required.\r\n' })],
      'source-auth',
      4,
      /--src-auth-env/,
    ],
    'not permitted, as 2.6 says it': [
      [answers('', { PING: '-ERR operation not permitted\r\n' })],
      'source-auth',
      4,
      /--src-auth-env/,
    ],
    WRONGPASS: [
      [answers('', { AUTH: '-WRONGPASS invalid username-password pair or user is disabled.\r\n' })],
      'source-auth',
      4,
      /--src-auth-env/,
    ],
    'a wrong password, as 5.0 says it': [
      [answers('', { AUTH: '-ERR invalid password\r\n' })],
      'source-auth',
      4,
      /--src-auth-env/,
    ],
    'AUTH unknown, the password echoed': [
      [answers('', { AUTH: "-ERR unknown command 'AUTH', with args beginning with: 'bob' 'S3cret' \r\n" })],
      'source-auth',
      4,
      /user and password/,
    ],
    'NOPERM to PSYNC': [[answers(NOPERM)], 'source-permission', 4, /ACL SETUSER .*\+psync/],
    'NOPERM to REPLCONF': [[answers('', { REPLCONF: NOPERM })], 'source-permission', 4, /\+replconf/],
    'REPLCONF renamed, PSYNC not': [
      [answers(`+FULLRESYNC ${REPLID} 1\r\n`, { REPLCONF: "-ERR unknown command 'REPLCONF'\r\n" })],
      'source-no-replconf',
      1,
      /--replconf-command/,
    ],
    'PSYNC and SYNC unknown': [
      [answers(UNKNOWN_PSYNC), { kind: 'expect', name: 'SYNC', reply: "-ERR unknown command 'SYNC'\r\n" }],
      'source-no-psync',
      1,
      /--psync-command.*export or online migration/,
    ],
    'PSYNC and SYNC disabled by a service': [
      [
        answers('-ERR command is not allowed\r\n'),
        { kind: 'expect', name: 'SYNC', reply: '-ERR command is not allowed\r\n' },
      ],
      'source-no-psync',
      1,
      /export or online migration/,
    ],
    'a history that was not asked for': [[answers(`+CONTINUE ${REPLID}\r\n`)], 'source-psync', 1, /proxy/],
    'two connections wanted': [[answers('+RDBCHANNELSYNC 12\r\n')], 'source-psync', 1, /log/],
    'another protocol': [[send('SSH-2.0-OpenSSH_9.2\r\n')], 'source-protocol', 1, /Redis port/],
    'a line without end': [[send('+'.repeat(20_000))], 'source-protocol', 1, /Redis port/],
    'a TLS alert': [[send(Buffer.from([0x15, 3, 3, 0, 2, 2, 70]))], 'source-tls-required', 4, /rediss:\/\//],
    'a TLS alert, byte by byte': [
      [send(Buffer.from([0x15, 3, 3, 0, 2, 2, 70]), 'every-byte'), { kind: 'close' }],
      'source-tls-required',
      4,
      /rediss:\/\//,
    ],
    'protected mode': [
      [send('-DENIED Redis is running in protected mode because …\r\n'), { kind: 'close' }],
      'source-protected',
      1,
      /password/,
    ],
  };
  for (const [name, [script, code, exitCode, hint]] of Object.entries(cases)) {
    it(name, { timeout: 60_000 }, async (t) => {
      const source = await fakeSource(t, script);
      const { sink, ended } = runLink(t, source.port, { username: 'bob', password: 'S3cret' });
      const error = await ended;
      assert.deepEqual([error?.code, error?.exitCode], [code, exitCode], inspect(error));
      assert.match(error!.hint, hint);
      assert.equal(error!.recovery, 'operator');
      assert.doesNotMatch(inspect(error, { depth: 9, showHidden: true }), /S3cret/);
      assert.deepEqual(sink.calls, []);
      assert.equal(source.connections(), 1);
    });
  }

  it('a sink that refuses a full copy: its error comes out of run()', async (t) => {
    const source = await fakeSource(t, WORKS);
    const sink = new RecordingSink();
    sink.prepare = () => Promise.reject(new UsageError('no', { code: 'no-copy', hint: 'x' }));
    const { ended } = runLink(t, source.port, { sink });
    assert.equal((await ended)?.code, 'no-copy');
  });
});

describe('the fallback to SYNC', { concurrency: true }, () => {
  it('where PSYNC is unknown; PSYNC is tried anew with the next connection', async (t) => {
    const source = await fakeSource(
      t,
      [answers(UNKNOWN_PSYNC), { kind: 'expect', name: 'SYNC' }, send('\n\n$3\r\nRDB'), { kind: 'close' }],
      WORKS,
    );
    const { sink } = runLink(t, source.port);
    await until(() => sink.calls.length === 3);
    assert.deepEqual(sink.calls, ['full ?', 'interrupted source-lost', `full ${REPLID}:100`]);
  });

  it('where REPLCONF is unknown, too (2.4), and no acknowledgement is sent there', async (t) => {
    const source = await fakeSource(t, [
      answers(UNKNOWN_PSYNC, { REPLCONF: "-ERR unknown command 'REPLCONF'\r\n" }),
      { kind: 'expect', name: 'SYNC', reply: '$3\r\nRDB' },
    ]);
    const { link, sink } = runLink(t, source.port);
    await until(() => sink.length === 3);
    link.acknowledge();
    link.redial();
    await until(() => sink.calls.length === 2);
    assert.deepEqual(names(source), ['PING', ...OPTIONS, 'PSYNC', 'SYNC']);
  });

  it('a diskless payload behind SYNC needs an acknowledgement, with an offset that moves nothing', async (t) => {
    const mark = 'c0ffee12'.repeat(5);
    const source = await fakeSource(t, [
      answers(UNKNOWN_PSYNC),
      { kind: 'expect', name: 'SYNC', reply: `$EOF:${mark}\r\nRDB${mark}` },
      { kind: 'expect', name: 'REPLCONF ACK' },
      send('stream'),
    ]);
    const { sink } = runLink(t, source.port);
    sink.applied = -1;
    await until(() => sink.bytes.toString() === `RDB${mark}stream`);
    assert.deepEqual(source.received.at(-1)!.args.map(String), ['REPLCONF', 'ACK', '0']);
  });
});
