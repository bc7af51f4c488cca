/** Boundaries and databases of a stream, however it is cut into views. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { type StreamBoundary, StreamScanner } from '../../../src/resp/stream-scanner.ts';

const COMMANDS: readonly (readonly string[])[] = [
  ['SELECT', '3'],
  ['SET', 'k', 'v'],
  ['MULTI'],
  ['select', '11'],
  ['INCR', 'n'],
  ['EXEC'],
  ['PING'],
  ['SET', 'multi', 'exec'],
  ['Multi'],
  ['DEL', 'k'],
  ['exec'],
  ['SELECT', '0'],
];
/** What stands behind each command; null: inside a transaction. */
const DATABASES = [3, 3, null, null, null, 11, 11, 11, null, null, 11, 0];

const STREAM = Buffer.concat(COMMANDS.map((words) => encodeCommand(words)));

/** Every boundary behind a command. */
function expected(): StreamBoundary[] {
  let position = 0;
  return COMMANDS.flatMap((words, i) => {
    position += encodeCommand(words).length;
    const db = DATABASES[i] ?? null;
    return db === null ? [] : [{ position, db }];
  });
}

/** Shows the scanner what it wants, in views of at most `piece` bytes beyond that. */
function run(scanner: StreamScanner, stream: Buffer, piece: number): StreamBoundary[] {
  const seen: StreamBoundary[] = [];
  let shown = 0;
  while (scanner.position < stream.length) {
    shown = Math.min(stream.length, Math.max(shown + piece, scanner.position + 1));
    while (scanner.consume(stream.subarray(scanner.position, shown)) && scanner.position < shown) {}
    const { boundary } = scanner;
    if (boundary.position !== (seen.at(-1)?.position ?? 0)) seen.push(boundary);
  }
  return seen;
}

test('byte by byte every boundary is seen, with its database, and none inside a transaction', () => {
  const scanner = new StreamScanner({ position: 0, db: -1 });
  assert.deepEqual(run(scanner, STREAM, 1), expected());
  assert.equal(scanner.commands, COMMANDS.length);
});

test('in pieces of any size the last boundary is the same', () => {
  for (let piece = 2; piece <= STREAM.length; piece++) {
    const scanner = new StreamScanner({ position: 0, db: -1 });
    run(scanner, STREAM, piece);
    assert.deepEqual(scanner.boundary, expected().at(-1), `in pieces of ${piece}`);
    assert.equal(scanner.commands, COMMANDS.length);
  }
});

test('stops at the first boundary at or behind a position; a copy goes its own way', () => {
  const all = expected();
  for (let at = 0; at <= STREAM.length; at++) {
    const scanner = new StreamScanner({ position: 0, db: 0 });
    const copy = scanner.copy();
    while (copy.position < STREAM.length && copy.consume(STREAM.subarray(copy.position), at)) {
      if (copy.boundary.position >= at) break;
    }
    const first = at === 0 ? { position: 0, db: 0 } : all.find(({ position }) => position >= at);
    assert.deepEqual(copy.boundary, first, `at ${at}`);
    assert.equal(scanner.position, 0);
  }
});

test('commands of any size pass without being held', () => {
  const big = encodeCommand(['SET', 'k', 'x'.repeat(5 << 20)]);
  const many = encodeCommand(['RPUSH', 'l', ...Array.from({ length: 200_000 }, (_, n) => String(n))]);
  const stream = Buffer.concat([encodeCommand(['SELECT', '7']), big, many, encodeCommand(['PING'])]);
  const scanner = new StreamScanner({ position: 0, db: 0 });
  let widest = 0;
  while (scanner.position < stream.length) {
    widest = Math.max(widest, scanner.want);
    const shown = Math.max(scanner.want, 64 * 1024);
    assert.ok(
      scanner.consume(stream.subarray(scanner.position, scanner.position + shown)) || scanner.want > shown,
    );
  }
  assert.ok(widest <= 2 << 20, `wanted ${widest} bytes in one piece`);
  assert.deepEqual(scanner.boundary, { position: stream.length, db: 7 });
  assert.equal(scanner.commands, 4);
});

test('what is no command is a classed error with its position', () => {
  const scanner = new StreamScanner({ position: 100, db: 0 });
  assert.throws(() => scanner.consume(Buffer.from('\u0001?')), {
    code: 'stream-garbage',
    message: /offset 100/,
  });
});
