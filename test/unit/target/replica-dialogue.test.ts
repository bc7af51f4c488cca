/** What replicas of all ages and strangers say on the port of feed `attach`, and what they are answered. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secret } from '../../../src/core/endpoint.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { type DialogueStep, ReplicaDialogue } from '../../../src/target/attach/replica-dialogue.ts';
import { everySplit } from '../../helpers/every-split.ts';

const REPLID = '8d1f'.repeat(10);
const OK: DialogueStep = { kind: 'reply', line: '+OK' };
const NOAUTH: DialogueStep = { kind: 'reply', line: '-NOAUTH Authentication required.' };
const REACHED: DialogueStep = { kind: 'reached' };
const WRONG: DialogueStep = {
  kind: 'hang-up',
  line: '-WRONGPASS invalid username-password pair or user is disabled.',
};

function dialogue(username: string | null = null): ReplicaDialogue {
  return new ReplicaDialogue({ username, password: new Secret('s3cret') });
}

function said(bytes: string | Buffer, username: string | null = null): DialogueStep[] {
  return dialogue(username).take(Buffer.from(bytes as string));
}

const resp = (...commands: string[][]): Buffer =>
  Buffer.concat(commands.map((words) => encodeCommand(words)));

test('a replica up to 4.0: inline, one request at a time, cut anywhere', async () => {
  const lines = [
    'PING',
    'AUTH s3cret',
    'REPLCONF listening-port 6380',
    'REPLCONF capa eof',
    'PSYNC ? -1',
    '',
    'REPLCONF ACK 7',
  ];
  await everySplit(Buffer.from(`${lines.join('\r\n')}\r\n`), (chunks) => {
    const replica = dialogue();
    assert.deepEqual(
      chunks.flatMap((chunk) => replica.take(chunk)),
      [
        NOAUTH,
        OK,
        REACHED,
        OK,
        OK,
        { kind: 'psync', request: { replid: '?', offset: -1 }, takesMark: true, takesReplid: false },
        { kind: 'acknowledged', offset: 7 },
      ],
    );
  });
});

test('a replica of 6.2 and later: RESP, several in one write, cut anywhere', async () => {
  const bytes = resp(
    ['AUTH', 'us er', 's3cret'],
    ['REPLCONF', 'listening-port', '6380'],
    ['REPLCONF', 'capa', 'eof', 'capa', 'psync2'],
    ['REPLCONF', 'version', '8.1.0'],
    ['PING'],
    ['PSYNC', REPLID, '4711'],
    ['REPLCONF', 'ACK', '4710', 'FACK', '0'],
  );
  await everySplit(bytes, (chunks) => {
    const replica = dialogue('us er');
    assert.deepEqual(
      chunks.flatMap((chunk) => replica.take(chunk)),
      [
        OK,
        REACHED,
        OK,
        OK,
        OK,
        { kind: 'reply', line: '+PONG' },
        { kind: 'psync', request: { replid: REPLID, offset: 4711 }, takesMark: true, takesReplid: true },
        { kind: 'acknowledged', offset: 4710 },
      ],
    );
  });
});

test('without the password nothing is served', () => {
  const knocks = resp(['PING'], ['REPLCONF', 'capa', 'eof'], ['PSYNC', '?', '-1'], ['SYNC'], ['GET', 'k']);
  assert.deepEqual(said(knocks), [NOAUTH, NOAUTH, NOAUTH, NOAUTH, NOAUTH]);
  assert.deepEqual(said(resp(['REPLCONF', 'ACK', '1'])), [], 'an acknowledgement is never answered');
});

test('a wrong password ends the connection, whatever follows it', () => {
  for (const words of [
    ['x'],
    ['s3cret1'],
    ['s3cre'],
    [''],
    ['default', 's3cret'],
    ['s3cret', 's3cret'],
    [],
  ]) {
    assert.deepEqual(said(resp(['AUTH', ...words], ['AUTH', 's3cret'])), [WRONG], words.join(' '));
  }
  for (const words of [
    ['s3cret'],
    ['User', 's3cret'],
    ['user', 'x'],
    ['x', 's3cret'],
    ['user', 's3cret', ''],
  ]) {
    assert.deepEqual(said(resp(['AUTH', ...words]), 'user'), [WRONG], words.join(' '));
  }
  const replica = dialogue();
  replica.take(resp(['AUTH', 'x']));
  assert.deepEqual(replica.take(resp(['AUTH', 's3cret'])), []);
});

test('what is no part of a handshake is refused and never echoed', () => {
  const auth = ['AUTH', 's3cret'];
  const answers = said(resp(auth, ['SYNC'], ['GET', 'tale'], ['PSYNC', REPLID, '7', 'FAILOVER'])).slice(2);
  assert.equal(answers.length, 3);
  for (const answer of answers) {
    assert.match(answer.kind === 'reply' ? answer.line : '', /^-ERR /);
    assert.doesNotMatch(JSON.stringify(answer), /tale|s3cret/);
  }
  for (const words of [[], ['?'], ['?', 'x'], ['x', '1'], [REPLID, '1.5'], [REPLID, '-2']]) {
    const [, , answer] = said(resp(auth, ['PSYNC', ...words]));
    assert.match(answer?.kind === 'reply' ? answer.line : '', /^-ERR PSYNC/, words.join(' '));
  }
});

test('behind PSYNC nothing is answered: every byte would count as a part of the stream', () => {
  const replica = dialogue();
  replica.take(resp(['AUTH', 's3cret'], ['PSYNC', '?', '-1']));
  const noise = resp(
    ['PING'],
    ['AUTH', 'x'],
    ['PSYNC', '?', '-1'],
    ['REPLCONF', 'capa', 'eof'],
    ['GET', 'k'],
  );
  assert.deepEqual(replica.take(Buffer.concat([Buffer.from('\n\r\n\n'), noise])), []);
  assert.deepEqual(replica.take(resp(['REPLCONF', 'ACK', 'x'], ['REPLCONF', 'ACK'])), []);
  assert.deepEqual(replica.take(Buffer.from([0x80, 10])), [{ kind: 'hang-up', line: null }]);
});

test('what is no command, or none that ends, ends the connection', () => {
  const refused: DialogueStep[] = [{ kind: 'hang-up', line: '-ERR Protocol error' }];
  for (const bytes of ['*x\r\n', '*1\r\n+OK\r\n', '\u0001\u0002\r\n', '*0\r\n', `*1\r\n$4\r\nPINGxx`]) {
    assert.deepEqual(said(bytes), refused, JSON.stringify(bytes));
  }
  const longest = 64 * 1024;
  assert.deepEqual(said(`*2\r\n$4\r\nAUTH\r\n$99999999\r\n${'x'.repeat(longest)}`), refused);
  assert.deepEqual(said('x'.repeat(longest + 1)), refused);
  const replica = dialogue();
  assert.deepEqual(replica.take(Buffer.from('x'.repeat(longest))), []);
  assert.deepEqual(replica.take(Buffer.from('x')), refused, 'also where it comes in pieces');
});
