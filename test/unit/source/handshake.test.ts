/** Every reply that the handshake, PSYNC and SYNC can get (protocol.md 1.3, 1.4), by name, and what it means. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import {
  type HandshakeStep,
  handshakeSteps,
  type Introduction,
  judgePsync,
  judgeStep,
  judgeSyncError,
  type PsyncOutcome,
  parseFraming,
  replconfMissing,
  type StepOutcome,
} from '../../../src/source/handshake.ts';

const REPLID = '8d1f'.repeat(10);
const NAMES = { psync: 'PSYNC', sync: 'SYNC', replconf: 'REPLCONF' };
const NOBODY: Introduction = { username: null, password: null, names: NAMES, announceVersion: null };

const PING: HandshakeStep = { words: ['PING'], kind: 'ping' };
const AUTH: HandshakeStep = { words: ['AUTH', 'pw'], kind: 'auth' };
const AUTH_USER: HandshakeStep = { words: ['AUTH', 'bob', 'pw'], kind: 'auth' };
const OPTION: HandshakeStep = { words: ['REPLCONF', 'capa', 'eof'], kind: 'option' };

const NOAUTH = '-NOAUTH Authentication required.';
const NOAUTH_2_6 = '-ERR operation not permitted';
const LOADING = '-LOADING Redis is loading the dataset in memory';
const BUSY = '-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.';
const MASTERDOWN = "-MASTERDOWN Link with MASTER is down and slave-serve-stale-data is set to 'no'.";
const MAXCLIENTS = '-ERR max number of clients reached';
const PROTECTED =
  '-DENIED Redis is running in protected mode because protected mode is enabled and no password is set';

/** `stop:<code>:<exit code>` for an end, else the kind. */
function verdict(outcome: StepOutcome | PsyncOutcome): string {
  return outcome.kind === 'stop' ? `stop:${outcome.error.code}:${outcome.error.exitCode}` : outcome.kind;
}

describe('the steps', () => {
  it('without credentials: PING, then one option per REPLCONF', () => {
    assert.deepEqual(
      handshakeSteps(NOBODY).map(({ words, kind }) => [kind, ...words]),
      [
        ['ping', 'PING'],
        ['option', 'REPLCONF', 'listening-port', '0'],
        ['option', 'REPLCONF', 'ip-address', 'migrator.invalid'],
        ['option', 'REPLCONF', 'capa', 'eof'],
        ['option', 'REPLCONF', 'capa', 'psync2'],
      ],
    );
  });

  it('AUTH comes first, with the user where there is one', () => {
    const first = (more: Partial<Introduction>) => handshakeSteps({ ...NOBODY, ...more })[0];
    assert.deepEqual(first({ password: 'p w' }), { words: ['AUTH', 'p w'], kind: 'auth' });
    assert.deepEqual(first({ username: 'bob', password: '' }), { words: ['AUTH', 'bob', ''], kind: 'auth' });
    assert.deepEqual(first({ username: 'bob' }), PING, 'a user alone is no credential');
  });

  it('a version is announced only where one is given, and names are those of the source', () => {
    const steps = handshakeSteps({
      ...NOBODY,
      names: { ...NAMES, replconf: 'X-REPL' },
      announceVersion: '9.1.0',
    });
    assert.deepEqual(steps.at(-1)?.words, ['X-REPL', 'version', '9.1.0']);
    assert.equal(steps.filter(({ words }) => words[0] === 'X-REPL').length, 5);
    assert.ok(!steps.some(({ words }) => words[0] === 'REPLCONF'));
  });

  it('asks for a plain snapshot last, where it is known there, and takes any refusal', () => {
    const last = handshakeSteps({ ...NOBODY, announceVersion: '9.1.0', plainSnapshot: true }).at(-1);
    assert.deepEqual(last, { words: ['REPLCONF', 'rdb-no-compress', '1'], kind: 'wish' });
    assert.ok(last !== undefined);
    for (const refusal of [
      '-ERR Unrecognized REPLCONF option: rdb-no-compress',
      "-ERR unknown command 'REPLCONF'",
      '-ERR not supported',
      '-NOPERM no',
    ]) {
      assert.equal(verdict(judgeStep(last, refusal)), 'next', refusal);
    }
  });

  it('announces none of the capabilities that change the protocol (protocol.md 1.8)', () => {
    const words = handshakeSteps({ ...NOBODY, announceVersion: '9.1.0' }).flatMap((step) => step.words);
    for (const capability of [
      'rdb-channel-repl',
      'dual-channel',
      'compression',
      'keydb-fastsync',
      'rdb-only',
    ])
      assert.ok(!words.includes(capability), capability);
  });
});

describe('replies to a step', () => {
  const everywhere: readonly (readonly [string, string, string])[] = [
    ['LOADING', LOADING, 'retry'],
    ['BUSY', BUSY, 'retry'],
    ['MASTERDOWN', MASTERDOWN, 'retry'],
    ['too many clients', MAXCLIENTS, 'retry'],
    ['protected mode', PROTECTED, 'stop:source-protected:1'],
    ['another protocol', 'HTTP/1.1 400 Bad Request', 'stop:source-protocol:1'],
    ['a bulk string', '$5', 'stop:source-protocol:1'],
    ['an empty line', '', 'stop:source-protocol:1'],
  ];
  for (const [name, line, expected] of everywhere) {
    for (const step of [AUTH, PING, OPTION]) {
      it(`${step.words[0]}: ${name}`, () => assert.equal(verdict(judgeStep(step, line)), expected));
    }
  }

  const cases: readonly (readonly [string, HandshakeStep, string, string])[] = [
    ['AUTH accepted', AUTH, '+OK', 'next'],
    [
      'WRONGPASS',
      AUTH_USER,
      '-WRONGPASS invalid username-password pair or user is disabled.',
      'stop:source-auth:4',
    ],
    ['invalid password (<= 5)', AUTH, '-ERR invalid password', 'stop:source-auth:4'],
    ['no password set (<= 5)', AUTH, '-ERR Client sent AUTH, but no password is set', 'next'],
    [
      'no password set (>= 6)',
      AUTH,
      '-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?',
      'next',
    ],
    ['user before 6.0', AUTH_USER, "-ERR wrong number of arguments for 'auth' command", 'auth-without-user'],
    ['arity without user', AUTH, "-ERR wrong number of arguments for 'auth' command", 'stop:source-auth:4'],
    ['AUTH unknown', AUTH, "-ERR unknown command 'AUTH'", 'stop:source-auth:4'],
    ['PONG', PING, '+PONG', 'next'],
    ['NOAUTH to PING', PING, NOAUTH, 'stop:source-auth:4'],
    ['not permitted to PING (<= 2.6)', PING, NOAUTH_2_6, 'stop:source-auth:4'],
    [
      'MISCONF',
      PING,
      '-MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.',
      'next',
    ],
    ['NOPERM to PING', PING, "-NOPERM this user has no permissions to run the 'ping' command", 'next'],
    ['PING unknown', PING, "-ERR unknown command 'PING'", 'stop:source-ping:1'],
    ['option accepted', OPTION, '+OK', 'next'],
    ['option accepted by KeyDB', OPTION, '+OK active-replica', 'next'],
    ['option unknown', OPTION, '-ERR Unrecognized REPLCONF option: capa', 'next'],
    ['option malformed', OPTION, '-ERR syntax error', 'next'],
    ['NOAUTH to REPLCONF', OPTION, NOAUTH, 'stop:source-auth:4'],
    [
      'NOPERM to REPLCONF',
      OPTION,
      "-NOPERM this user has no permissions to run the 'replconf' command",
      'stop:source-permission:4',
    ],
    ['REPLCONF unknown', OPTION, "-ERR unknown command 'REPLCONF'", 'no-replconf'],
  ];
  for (const [name, step, line, expected] of cases) {
    it(name, () => assert.equal(verdict(judgeStep(step, line)), expected));
  }

  it('no error holds a password that the server echoed', () => {
    // 5.0 and later echo the arguments of commands that they do not know, each in its own quotes
    for (const quote of ["'", '`']) {
      const echo = `-ERR unknown command ${quote}AUTH${quote}, with args beginning with: ${quote}bob${quote} ${quote}S3cret${quote} `;
      for (const outcome of [
        judgeStep(AUTH_USER, echo),
        judgeStep(PING, echo),
        judgeStep(OPTION, echo),
        judgePsync(echo),
        judgeSyncError(echo),
      ]) {
        assert.doesNotMatch(inspect(outcome, { depth: 9, showHidden: true }), /S3cret|bob/);
        assert.match(inspect(outcome, { depth: 9 }), /unknown command/);
      }
    }
  });

  it('what a server says reaches no terminal raw', () => {
    for (const outcome of [
      judgeStep(PING, '-ERR \u001b[2J'),
      judgePsync('-LOADING \u001b[2J'),
      judgePsync('\u001b[2J'),
    ])
      assert.ok(
        !JSON.stringify([outcome, String(outcome.kind === 'stop' && outcome.error)]).includes('\\u001b'),
      );
  });
});

describe('replies to PSYNC', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ['CONTINUE with another word', '+CONTINUE not-an-id', 'continue'],
    ['FULLRESYNC without offset', `+FULLRESYNC ${REPLID}`, 'stop:source-psync:1'],
    ['FULLRESYNC with a short id', '+FULLRESYNC abc 12', 'stop:source-psync:1'],
    ['FULLRESYNC with an offset that is none', `+FULLRESYNC ${REPLID} 12x`, 'stop:source-psync:1'],
    ['FULLRESYNC beyond exact numbers', `+FULLRESYNC ${REPLID} 9007199254740993`, 'stop:source-psync:1'],
    ['two connections wanted (Redis 8)', '+RDBCHANNELSYNC 12', 'stop:source-psync:1'],
    ['two connections wanted (Valkey 8)', '+DUALCHANNELSYNC', 'stop:source-psync:1'],
    ['another status', '+OK', 'stop:source-protocol:1'],
    ['no protocol', '220 smtp ready', 'stop:source-protocol:1'],
    ['NOMASTERLINK', "-NOMASTERLINK Can't SYNC while not connected with my master", 'retry'],
    ['NOMASTERLINK while failing over', "-NOMASTERLINK Can't SYNC while failing over", 'retry'],
    ['no master link (2.8-3.2)', "-ERR Can't SYNC while not connected with my master", 'retry'],
    ['LOADING', LOADING, 'retry'],
    ['BUSY', BUSY, 'retry'],
    ['MASTERDOWN', MASTERDOWN, 'retry'],
    ['too many clients', MAXCLIENTS, 'retry'],
    ['BGSAVE failed', "-ERR BGSAVE failed, replication can't continue", 'retry'],
    ['pending output', '-ERR SYNC and PSYNC are invalid with pending output', 'retry'],
    ['pending input (<= 2.6)', '-ERR SYNC is invalid with pending input', 'retry'],
    ['NOAUTH', NOAUTH, 'stop:source-auth:4'],
    ['not permitted (<= 2.6)', NOAUTH_2_6, 'stop:source-auth:4'],
    ['NOPERM', "-NOPERM this user has no permissions to run the 'psync' command", 'stop:source-permission:4'],
    ['unknown (<= 2.6)', "-ERR unknown command 'PSYNC'", 'use-sync'],
    ['unknown (5.0)', '-ERR unknown command `PSYNC`, with args beginning with: `?`, `-1`, ', 'use-sync'],
    ['unknown (7.0)', "-ERR unknown command 'PSYNC', with args beginning with: '?' '-1' ", 'use-sync'],
    ['unknown, in lower case', '-err Unknown Command psync', 'use-sync'],
    ['not allowed (service)', '-ERR command is not allowed', 'use-sync'],
    ['not supported (proxy)', '-ERR PSYNC is not supported in this mode', 'use-sync'],
    ['not available (service)', "-ERR Command is not available: 'PSYNC'", 'use-sync'],
    ['disabled', '-ERR this command is disabled', 'use-sync'],
    ['unsupported', '-ERR unsupported command', 'use-sync'],
    ['anything else', '-ERR something new', 'stop:source-psync:1'],
  ];
  for (const [name, line, expected] of cases) {
    it(name, () => assert.equal(verdict(judgePsync(line)), expected));
  }

  it('FULLRESYNC gives the position, CONTINUE the id where it has one', () => {
    const full = { kind: 'full-resync', position: { replid: REPLID, offset: 1234 } };
    assert.deepEqual(judgePsync(`+FULLRESYNC ${REPLID} 1234`), full);
    assert.deepEqual(judgePsync(`+FULLRESYNC  ${REPLID} 1234 `), full);
    assert.deepEqual(judgePsync('+CONTINUE'), { kind: 'continue', replid: null });
    assert.deepEqual(judgePsync(`+CONTINUE ${REPLID}`), { kind: 'continue', replid: REPLID });
  });

  it('a refused SYNC ends it, with what is possible instead; a transient one does not', () => {
    const refused = judgeSyncError("-ERR unknown command 'SYNC'");
    assert.ok(refused.kind === 'stop');
    assert.equal(refused.error.code, 'source-no-psync');
    assert.equal(refused.error.recovery, 'operator');
    assert.match(refused.error.hint, /--psync-command.*--sync-command/);
    assert.equal(verdict(judgeSyncError(LOADING)), 'retry');
    assert.equal(verdict(judgeSyncError("-ERR BGSAVE failed, replication can't continue")), 'retry');
    assert.equal(
      verdict(judgeSyncError("-NOPERM this user has no permissions to run the 'sync' command")),
      'stop:source-permission:4',
    );
    assert.match(replconfMissing('ERR x').hint, /--replconf-command/);
  });

  it('every end has a hint and asks for an operator', () => {
    for (const outcome of [
      judgePsync('+OK'),
      judgePsync('-ERR x'),
      judgeStep(PING, '-ERR x'),
      judgeStep(PING, PROTECTED),
    ]) {
      assert.ok(outcome.kind === 'stop');
      assert.equal(outcome.error.recovery, 'operator');
      assert.ok(outcome.error.hint.length > 20);
    }
  });
});

describe('the announcement of the payload', () => {
  it('knows both forms', () => {
    assert.deepEqual(parseFraming('$0'), { kind: 'length', bytes: 0 });
    assert.deepEqual(parseFraming('$9007199254740991'), { kind: 'length', bytes: Number.MAX_SAFE_INTEGER });
    // the bytes of the mark are hexadecimal in all releases, but nothing promises that
    const mark = Buffer.from(Array.from({ length: 40 }, (_, i) => 0xd8 + i));
    assert.deepEqual(parseFraming(`$EOF:${mark.toString('latin1')}`), { kind: 'mark', mark });
  });

  it('takes nothing else', () => {
    const none = [
      '',
      '$',
      '$-1',
      '$12a',
      // not exact as a number
      '$9007199254740993',
      ' $12',
      '$EOF:',
      `$EOF:${'a'.repeat(39)}`,
      `$EOF:${'a'.repeat(41)}`,
    ];
    for (const line of [...none, '$ENDOFF:1 2 3', '+OK', '-ERR', '$12345678901234567'])
      assert.equal(parseFraming(line), null, line);
  });
});
