/** Under the fuzzer: the replication stream (scanner and writer), the target's replies, what a replica says to us. */
import assert from 'node:assert/strict';
import { Secret } from '../../src/core/endpoint.ts';
import { CutoverError, SourceError, TargetError } from '../../src/core/errors.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import { ReplyScanner } from '../../src/resp/reply-scanner.ts';
import { StreamScanner } from '../../src/resp/stream-scanner.ts';
import { type DialogueStep, ReplicaDialogue } from '../../src/target/attach/replica-dialogue.ts';
import { TargetConnection } from '../../src/target/write/connection.ts';
import { effective, REPLID, Replay } from '../unit/target/support.ts';
import { FakeSocket } from './fake-connection.ts';
import { classed, classedError, type Subject, sameForEverySplit } from './subject.ts';

const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');
const commands = (...all: string[][]): Buffer => Buffer.concat(all.map((words) => encodeCommand(words)));

const TOKENS: readonly Buffer[] = [
  ...['\r\n', '\n', '\r', '*', '$', '+', '-', ':', ' ', '$-1\r\n', '*-1\r\n', '$0\r\n', '*0\r\n', '*1\r\n'],
  ...['$1048577\r\n', '$2147483648\r\n', '$4294967296\r\n', '$1099511627776\r\n', '$1099511627777\r\n'],
  ...['$9223372036854775808\r\n', '*2147483648\r\n', '*4294967296\r\n', '*99999999999999999999\r\n'],
  ...['$000000000000000000000000000000000000001\r\n', '$999999999999999\r\n', '*1000000\r\n'],
  ...['select 5\r\n', 'ping\r\n', '*1\r\n$5\r\nMULTI\r\n', '*1\r\n$4\r\nEXEC\r\n', '+OK\r\n', '+QUEUED\r\n'],
].map(ascii);

const STREAMS: readonly Buffer[] = [
  commands(
    ['SELECT', '0'],
    ['SET', 'k', 'v'],
    ['ping'],
    ['MULTI'],
    ['SET', 'a', '1', 'PX', '1000'],
    ['INCR', 'n'],
    ['EXEC'],
    ['SELECT', '3'],
    ['EXPIRE', 'k', '100'],
    ['REPLCONF', 'GETACK', '*'],
    ['SETEX', 'k', '10', 'v'],
    ['SWAPDB', '0', '3'],
    ['FUNCTION', 'LOAD', '#!lua name=l\n'],
    ['PUBLISH', 'channel', 'message'],
    ['RESTORE', 'k', '5', '\u0000\u0001', 'REPLACE'],
  ),
  Buffer.concat([
    ascii('select 5\r\n\n\n\r\n'),
    commands(['DEL', 'a', 'b', 'c'], ['', 'x']),
    ascii('ping\n'),
  ]),
  // too big to be held; more follows than most cuts leave
  Buffer.concat([ascii('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048600\r\n'), Buffer.alloc(3000, 0x78)]),
  Buffer.concat([ascii('*1000000\r\n$3\r\nDEL\r\n'), ascii('$1\r\na\r\n'.repeat(200))]),
  Buffer.concat([ascii('*5\r\n$3\r\nSET\r\n$1048600\r\n'), Buffer.alloc(1000, 0x78)]),
];

/** Shows bytes as the spool shows them; at most so many calls bring nothing before new bytes come. */
function drive(
  parser: { position: number; want: number; consume(view: Buffer): boolean },
  chunks: readonly Buffer[],
): void {
  const bytes = Buffer.concat(chunks);
  let received = 0;
  for (const chunk of chunks) {
    received += chunk.length;
    for (let idle = 0; parser.position < received; ) {
      const available = received - parser.position;
      const length = Math.min(available, Math.max(parser.want, 4096));
      const before = parser.position;
      const moved = parser.consume(Buffer.from(bytes.subarray(before, before + length)));
      assert.ok(
        parser.position >= before && parser.position <= before + length,
        'moved out of what it was shown',
      );
      assert.equal(moved, parser.position > before, 'moved without saying so');
      if (!moved && length === available) break;
      idle = moved ? 0 : idle + 1;
      assert.ok(idle < 50, 'the parser stands still');
    }
  }
}

function checkScanner(input: Buffer): void {
  sameForEverySplit(input, (chunks) => {
    const scanner = new StreamScanner({ position: 0, db: -1 });
    const error = classedError(SourceError, () => drive(scanner, chunks));
    return {
      error: error === null ? null : `${error.code} ${error.message}`,
      boundary: scanner.boundary,
      commands: scanner.commands,
    };
  });
}

interface Replayed {
  readonly error: string | null;
  readonly commands: readonly string[];
  readonly position: number;
}

function replay(chunks: readonly Buffer[]): Replayed {
  const replaying = new Replay();
  const socket = new FakeSocket();
  replaying.connection = new TargetConnection(socket.asSocket(), {
    reply: (tag, line) => replaying.writer.reply(tag, line),
    nestedError: (index, line) => replaying.writer.nestedError(index, line),
    progress: () => replaying.pump(),
    lost: (error) => {
      throw error;
    },
  });
  replaying.writer.attach(replaying.connection, 0, { replid: REPLID, offset: 1, db: 0 });
  for (const chunk of chunks) {
    replaying.arrive(chunk);
    socket.answer();
  }
  assert.deepEqual(replaying.rejections, []);
  assert.deepEqual(replaying.divergences, []);
  const { failure, writer } = replaying;
  const error = failure === null ? null : classed(CutoverError, failure);
  // a command that must be rewritten, and announces more than can be held: nothing else is the target's fault here
  if (error !== null && error.code !== 'command-too-big') classed(SourceError, error);
  return {
    error: error === null ? null : `${error.code} ${error.message}`,
    commands: effective(socket.received),
    position: writer.position,
  };
}

/** The same commands in the same databases; in front of damage some may have been sent and some not. */
function sameReplay(one: Replayed, other: Replayed, how: string): void {
  assert.equal(one.error, other.error, how);
  if (one.error === null) {
    assert.deepEqual(one, other, how);
    return;
  }
  const length = Math.min(one.commands.length, other.commands.length);
  assert.deepEqual(one.commands.slice(0, length), other.commands.slice(0, length), how);
}

/** @param captures streams of real servers */
export function streamSubject(captures: readonly Buffer[]): Subject {
  return {
    name: 'stream',
    seeds: [...captures, ...STREAMS],
    tokens: TOKENS,
    cases: 2000,
    check: checkScanner,
  };
}

/** @param captures streams of real servers */
export function streamWriterSubject(captures: readonly Buffer[]): Subject {
  return {
    name: 'stream-writer',
    seeds: [...captures, ...STREAMS],
    tokens: TOKENS,
    cases: 500,
    check: (input) => void sameForEverySplit(input, replay, sameReplay),
  };
}

function repliesIn(chunks: readonly Buffer[]): string[] {
  const seen: string[] = [];
  const scanner = new ReplyScanner({
    reply: (line) => seen.push(line === null ? 'reply' : `error ${line}`),
    nestedError: (index, line) => seen.push(`nested ${index} ${line}`),
    nullArray: () => seen.push('null'),
  });
  const error = classedError(TargetError, () => {
    for (const chunk of chunks) scanner.push(Buffer.from(chunk));
  });
  if (error !== null) seen.push(`${error.code} ${error.message}`);
  return seen;
}

export const REPLIES: Subject = {
  name: 'replies',
  seeds: [
    '+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n+PONG\r\n',
    '+OK\r\n-ERR unknown command\r\n+QUEUED\r\n-EXECABORT Transaction discarded\r\n*-1\r\n',
    '*3\r\n+OK\r\n-WRONGTYPE Operation\r\n*2\r\n$3\r\nabc\r\n$-1\r\n:-5\r\n$0\r\n\r\n*0\r\n',
    '*1\r\n'.repeat(33),
    `$10\r\n${'x'.repeat(10)}\r\n+O\n+\n+Q\nE\r\nD\r\n`,
  ].map(ascii),
  tokens: TOKENS,
  cases: 3000,
  check: (input) => void sameForEverySplit(input, repliesIn),
};

function checkDialogue(input: Buffer): void {
  const steps = sameForEverySplit(input, (chunks) => {
    const dialogue = new ReplicaDialogue({ username: 'user', password: new Secret('s3cret') });
    return chunks.flatMap((chunk) => dialogue.take(Buffer.from(chunk)));
  });
  for (const [i, step] of steps.entries()) assertStep(step, i === steps.length - 1);
}

function assertStep(step: DialogueStep, isLast: boolean): void {
  if (step.kind === 'acknowledged') assert.ok(Number.isSafeInteger(step.offset));
  if (step.kind === 'psync') assert.ok(Number.isSafeInteger(step.request.offset));
  if (step.kind === 'hang-up') assert.ok(isLast, 'a step behind the last one');
}

export const DIALOGUE: Subject = {
  name: 'dialogue',
  seeds: [
    ascii('PING\r\nAUTH user s3cret\r\nREPLCONF capa eof\r\nPSYNC ? -1\r\n\r\nREPLCONF ACK 7\r\n'),
    commands(
      ['PING'],
      ['AUTH', 'user', 's3cret'],
      ['REPLCONF', 'listening-port', '6380'],
      ['REPLCONF', 'capa', 'eof', 'capa', 'psync2'],
      ['PSYNC', '8d1f'.repeat(10), '12345'],
      ['REPLCONF', 'ACK', '12345'],
      ['REPLCONF', 'ACK', '12400', 'FACK', '12345'],
    ),
  ],
  tokens: TOKENS,
  cases: 2000,
  check: checkDialogue,
};
