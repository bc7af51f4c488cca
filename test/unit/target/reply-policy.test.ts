/** Lines as servers wrote them, and what they mean. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  errorPrefix,
  isUnknownCommand,
  judgeExec,
  judgeReply,
  retryHint,
} from '../../../src/target/write/reply-policy.ts';

const RETRY = [
  "OOM command not allowed when used memory > 'maxmemory'.",
  'LOADING Redis is loading the dataset in memory',
  "READONLY You can't write against a read only replica.",
  'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
  'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
  'NOREPLICAS Not enough good replicas to write.',
  'CLUSTERDOWN The cluster is down',
  'TRYAGAIN Multiple keys request during rehashing of slot',
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
];
const FATAL = [
  "ERR unknown command 'FOO', with args beginning with: ",
  'ERR Bad data format',
  'ERR DUMP payload version or checksum are wrong',
  'WRONGTYPE Operation against a key holding the wrong kind of value',
  'NOPERM this user has no permissions to run the SET command',
  'NOAUTH Authentication required.',
  'BUSYKEY Target key name already exists.',
  'MOVED 866 127.0.0.1:7002',
  'EXECABORT Transaction discarded because of previous errors.',
  'Error with no prefix',
  'oom in lower case',
  'OOMlike',
  '',
];

it('what can be waited out, and what not', () => {
  // as 4.0 and 5.0 say it
  const readOnly =
    'ERR Transaction contains write commands but instance is now a read-only slave. EXEC aborted.';
  assert.equal(judgeExec(readOnly, null), 'retry');
  for (const line of RETRY) {
    assert.equal(judgeReply(line), 'retry', line);
    assert.equal(judgeExec(line, null), 'retry', line);
    assert.equal(judgeExec(`EXECABORT Transaction discarded because of: ${line}`, null), 'retry', line);
    assert.equal(
      judgeExec('EXECABORT Transaction discarded because of previous errors.', line),
      'retry',
      line,
    );
    assert.match(retryHint(line), /it goes on by itself|see its/);
  }
  for (const line of FATAL) {
    assert.equal(judgeReply(line), 'fatal', line);
    assert.equal(judgeExec(line, null), 'fatal', line);
    assert.equal(judgeExec(`EXECABORT Transaction discarded because of: ${line}`, null), 'fatal', line);
    assert.equal(
      judgeExec('EXECABORT Transaction discarded because of previous errors.', line),
      'fatal',
      line,
    );
  }
});

it('the first error at queueing decides', () => {
  assert.equal(judgeExec('EXECABORT Transaction discarded because of: OOM x', 'ERR wrong number'), 'fatal');
});

it('prefixes', () => {
  assert.equal(errorPrefix('NOREPLICAS Not enough'), 'NOREPLICAS');
  assert.equal(errorPrefix('OOM'), 'OOM');
  for (const line of ['Error x', 'err x', '', ' OOM', 'OOM: x']) assert.equal(errorPrefix(line), 'ERR', line);
});

it('a command that the server does not have', () => {
  // 2.8 to 6.2, 7.0 and later, Valkey 9.1
  for (const line of ["ERR unknown command 'FOO'", 'ERR unknown command `FOO`, with args beginning with: ']) {
    assert.equal(isUnknownCommand(line), true, line);
  }
  for (const line of ["ERR unknown subcommand 'FOO'. Try XGROUP HELP.", 'OOM', 'ERR unknown commands']) {
    assert.equal(isUnknownCommand(line), false, line);
  }
});
