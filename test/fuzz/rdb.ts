/** Under the fuzzer: the RDB reader, what it hands to the writer, collections in pieces, containers, LZF. */
import assert from 'node:assert/strict';
import { RdbFormatError } from '../../src/core/errors.ts';
import { Crc64 } from '../../src/rdb/crc64.ts';
import { ElementReader, elementKind } from '../../src/rdb/elements.ts';
import { forEachIntset } from '../../src/rdb/encodings/intset.ts';
import { forEachListpack } from '../../src/rdb/encodings/listpack.ts';
import { forEachQuicklistNode } from '../../src/rdb/encodings/quicklist.ts';
import { forEachZiplist } from '../../src/rdb/encodings/ziplist.ts';
import { forEachZipmap } from '../../src/rdb/encodings/zipmap.ts';
import { LzfStream, lzfDecompress } from '../../src/rdb/lzf.ts';
import type { RdbEntry } from '../../src/rdb/sink.ts';
import { capabilitiesOf, type TargetCapabilities } from '../../src/target/write/capabilities.ts';
import { TargetConnection } from '../../src/target/write/connection.ts';
import { HeldTtls } from '../../src/target/write/held-ttls.ts';
import { Losses } from '../../src/target/write/losses.ts';
import { Skipped } from '../../src/target/write/skipped.ts';
import { SnapshotWriter } from '../../src/target/write/snapshot-writer.ts';
import { len, lzfStr, rdb, str, u32 } from '../unit/rdb/build.ts';
import { EVERY_TYPE, everyTypeFile, MAGIC } from '../unit/rdb/every-type.ts';
import { Feeding, Recorder } from '../unit/rdb/records.ts';
import { walk } from '../unit/rdb/support.ts';
import { FakeSocket } from './fake-connection.ts';
import { pieces, Random } from './mutate.ts';
import { classedError, type Subject, sameForEverySplit } from './subject.ts';

/** `code` at `offset`; null: no error. */
type Failure = { readonly code: string; readonly offset: number } | null;

/** Runs `work`; what it throws must be an RdbFormatError at an offset of the input. */
function failureOf(inputBytes: number, work: () => void): Failure {
  const error = classedError(RdbFormatError, work);
  if (error === null) return null;
  const { code, offset } = error;
  assert.ok(Number.isInteger(offset) && offset >= 0 && offset <= inputBytes, `offset ${offset}`);
  return { code, offset };
}

function arriving(feeding: Feeding, chunks: readonly Buffer[]): void {
  let received = 0;
  for (const chunk of chunks) {
    received += chunk.length;
    feeding.arrive(received);
  }
}

function checkReader(input: Buffer, verify: boolean): void {
  sameForEverySplit(input, (chunks) => {
    const feeding = new Feeding(Buffer.concat(chunks), 64 * 1024, { verify });
    const failure = failureOf(input.length, () => arriving(feeding, chunks));
    const { sink, reader } = feeding;
    const entries = sink.entries.map(({ kind, form: _, ...entry }) => ({
      ...entry,
      // a long string comes as a blob where it was not in view as a whole
      inElements: kind === 'elements',
    }));
    // an opcode in front of an entry is met again where the rest of the entry comes later
    const others = [...new Set(sink.others)];
    return { failure, entries, others, done: reader.done, keys: reader.keys };
  });
}

/** The input with the checksum that it should have: its last eight bytes. */
function withChecksum(input: Buffer): Buffer {
  if (input.length < 18) return input;
  const bytes = Buffer.from(input);
  const crc = new Crc64();
  crc.update(bytes, 0, bytes.length - 8);
  crc.writeTo(bytes, bytes.length - 8);
  return bytes;
}

/**
 * Releases that differ in the forms that they take; to most of them a part of the values goes in older ones. All are told
 * when a key expires: what is left of it would be another number at each moment.
 */
const TARGETS: readonly TargetCapabilities[] = [
  ...(
    [
      [2, 8],
      [5, 0],
      [6, 2],
      [7, 0],
      [7, 4],
      [8, 8],
    ] as const
  ).map(([major, minor]) => capabilitiesOf({ major, minor })),
  capabilitiesOf({ major: 9, minor: 0 }, 'valkey'),
].map((capabilities) => ({ ...capabilities, restoreAbsttl: true }));

/** The writer makes whole commands of whatever the reader hands it, for a target and with expiries as the input says. */
function checkWriter(input: Buffer): void {
  const choice = input.length % (2 * TARGETS.length);
  const capabilities = TARGETS[choice >> 1]!;
  sameForEverySplit(input, (chunks) => {
    const socket = new FakeSocket();
    const connection = new TargetConnection(socket.asSocket(), {
      reply: () => {},
      nestedError: () => {},
      progress: () => {},
      lost: (error) => {
        throw error;
      },
    });
    const listener = { aux: () => {}, note: () => {} };
    const ttls = choice % 2 === 0 ? null : new HeldTtls('/nowhere');
    const writer = new SnapshotWriter(capabilities, listener, ttls, null, new Losses(true), new Skipped());
    writer.attach(connection);
    const feeding = new Feeding(Buffer.concat(chunks), 64 * 1024, { verify: false, sink: writer });
    const failure = failureOf(input.length, () => arriving(feeding, chunks));
    connection.out.flush();
    socket.answer();
    if (feeding.reader.done) assert.equal(connection.unanswered, 0, 'a command without an answer');
    return { failure, received: socket.received };
  });
}

/** @param files whole RDB files */
export function rdbSubject(files: readonly Buffer[]): Subject {
  return {
    name: 'rdb',
    seeds: [...files, ...HAND_MADE],
    tokens: TOKENS,
    cases: 1500,
    check: (input) => {
      checkReader(input, false);
      checkReader(withChecksum(input), true);
    },
  };
}

/** The same with the writer behind the reader. @param files whole RDB files */
export function rdbWriterSubject(files: readonly Buffer[]): Subject {
  return {
    name: 'rdb-writer',
    seeds: [...files, ...HAND_MADE],
    tokens: TOKENS,
    cases: 800,
    check: checkWriter,
  };
}

/** Values of more than a MiB are taken apart; here also small ones. Input: the type's number, the value. */
export function elementsSubject(files: readonly Buffer[]): Subject {
  return {
    name: 'rdb-elements',
    // few beside the many small ones: a MiB takes long
    seeds: [...valuesOf(files), ...BIG_NODES, ...BIG_NODES].filter((seed) => elementKind(seed[0]!) !== null),
    tokens: TOKENS,
    cases: 600,
    check: checkElements,
  };
}

const ENTRY: RdbEntry = {
  start: 0,
  valueStart: 0,
  db: 0,
  type: 0,
  module: '',
  key: Buffer.from('k'),
  keyStart: 0,
  keyEnd: 1,
  expireAtMs: -1,
  idleSeconds: -1,
  freq: -1,
};

function checkElements(input: Buffer): void {
  const type = input[0] ?? 0;
  const kind = elementKind(type);
  if (kind === null) return;
  const value = input.subarray(1);
  sameForEverySplit(value, (chunks) => {
    const sink = new Recorder();
    const elements = new ElementReader(sink);
    sink.elementsStart(ENTRY, kind);
    elements.start(type);
    let at = 0;
    let received = 0;
    const failure = failureOf(value.length, () => {
      for (const chunk of chunks) {
        received += chunk.length;
        for (;;) {
          const view = Buffer.from(value.subarray(at, received));
          const came = elements.run(view, 0, view.length, at);
          assert.ok(came >= 0 && came <= view.length, `came to ${came}`);
          view.fill(0xee);
          at += came;
          if (came === 0 || elements.done) break;
        }
      }
    });
    if (failure !== null) return { failure };
    if (elements.done) sink.elementsEnd();
    return { done: elements.done, at, entries: sink.entries };
  });
}

/** Input: which of WALKERS, the container. */
export function containersSubject(files: readonly Buffer[]): Subject {
  return {
    name: 'rdb-containers',
    seeds: [...valuesOf(files), ...HAND_MADE.flatMap((file) => valuesOf([file]))].flatMap(containerOf),
    tokens: TOKENS,
    cases: 6000,
    check: checkContainer,
  };
}

const BASE = 1000;

type Walker = (bytes: Buffer, visit: (bytes: Buffer, start: number, end: number) => void) => number;

const WALKERS: readonly Walker[] = [
  (bytes, visit) => forEachListpack(bytes, 0, bytes.length, visit, BASE),
  (bytes, visit) => forEachZiplist(bytes, 0, bytes.length, visit, BASE),
  (bytes, visit) => forEachIntset(bytes, 0, bytes.length, visit, BASE),
  (bytes, visit) => forEachZipmap(bytes, 0, bytes.length, visit, BASE),
  (bytes, visit) => forEachQuicklistNode(bytes[0] ?? 0, bytes, 0, bytes.length, visit, BASE),
  lzfBothWays,
];

function checkContainer(input: Buffer): void {
  const walker = WALKERS[(input[0] ?? 0) % WALKERS.length]!;
  const bytes = input.subarray(1);
  let visited = 0;
  const error = classedError(RdbFormatError, () => {
    const count = walker(bytes, (of, start, end) => {
      assert.ok(start >= 0 && start <= end && end <= of.length, `visits ${start}..${end} of ${of.length}`);
      visited++;
    });
    assert.equal(count, visited);
  });
  if (error !== null) assert.ok(error.offset >= BASE && error.offset <= BASE + bytes.length);
}

/** Whole and in pieces: both refuse, or both give the same. The length stands in the first two bytes. */
function lzfBothWays(input: Buffer): number {
  if (input.length < 2) return 0;
  const length = input.readUInt16LE(0);
  const attempt = (work: () => Buffer): Buffer | null => {
    let output: Buffer | null = null;
    classedError(RdbFormatError, () => {
      output = work();
    });
    return output;
  };
  const whole = attempt(() => lzfDecompress(input, 2, input.length, length, BASE));
  const inPieces = attempt(() => {
    const output: Buffer[] = [];
    const stream = new LzfStream(length, (chunk) => output.push(Buffer.from(chunk)), BASE);
    for (const piece of pieces(input.subarray(2), new Random(length))) stream.push(piece, 0, piece.length);
    stream.end();
    return Buffer.concat(output);
  });
  assert.deepEqual(inPieces, whole);
  return 0;
}

/** Type number and value of every entry, up to what walk() does not know. */
function valuesOf(files: readonly Buffer[]): Buffer[] {
  return files.flatMap((file) => {
    const values: Buffer[] = [];
    try {
      for (const { type, value } of walk(file)) values.push(Buffer.concat([Buffer.from([type]), value]));
    } catch {
      // a file that ends early: what came before is good
    }
    return values.filter(({ length }) => length < 4096);
  });
}

/** Which walker, and the container of a value that is one string; none where it is something else. */
function containerOf(value: Buffer): Buffer[] {
  const walker = { 16: 0, 17: 0, 20: 0, 10: 1, 12: 1, 13: 1, 11: 2, 9: 3 }[value[0]!];
  const first = value[1]!;
  if (first === 0xc3 && value.length > 7) {
    // LZF with its two short lengths in front
    return [Buffer.concat([Buffer.from([5, value[3]!, 0]), value.subarray(4)])];
  }
  if (walker === undefined || first >= 0x80) return [];
  return [Buffer.concat([Buffer.from([walker]), value.subarray(first < 0x40 ? 2 : 3)])];
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const entry = (type: number, ...value: readonly Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([type]), str('key'), ...value]);

/** 'a', 5, 'bcd', 1000. */
const LISTPACK = hex('15 00 00 00 04 00 81 61 02 05 01 83 62 63 64 04 f1 e8 03 03 ff');
const ZIPLIST = hex('10 00 00 00 0d 00 00 00 02 00 00 01 61 03 f5 ff');
const INTSET = hex('02 00 00 00 03 00 00 00 01 00 02 00 03 00');
const ZIPMAP = hex('02 01 61 01 00 62 01 63 02 01 64 65 00 ff');
const ONE_HALF = Buffer.from('000000000000f83f', 'hex');

const record = (...parts: readonly Buffer[]): Buffer => Buffer.concat(parts);

/** Each type and opcode of the format at least once, also what a server of today does not write. */
const REDIS_11: readonly Buffer[] = [
  record(hex('fa'), str('redis-ver'), str('7.2.0')),
  hex('fe 00 fb 05 02'),
  record(hex('fc 01 02 03 04 05 00 00 00 f8 07'), entry(0, str('value'))),
  record(hex('fd 01 02 03 04 f9 05'), entry(0, hex('c1 39 30'))),
  entry(0, lzfStr(500, 0x61)),
  entry(1, len(2), str('a'), lzfStr(40, 0x62)),
  entry(2, len(2), str('a'), hex('c0 07')),
  entry(3, len(4), str('a'), str('1.5'), str('b'), hex('fe'), str('c'), hex('ff'), str('d'), str('-3')),
  entry(4, len(1), str('field'), str('value')),
  entry(5, len(1), str('a'), ONE_HALF),
  hex('fe 03'),
  entry(7, len(2n ** 60n), hex('01 07 02 08 03 00000000 04 0000000000000000 05'), str('s'), hex('00')),
  entry(9, str(ZIPMAP)),
  entry(10, str(ZIPLIST)),
  entry(11, str(INTSET)),
  entry(12, str(ZIPLIST)),
  entry(13, str(ZIPLIST)),
  entry(14, len(2), str(ZIPLIST), str(ZIPLIST)),
  entry(16, str(LISTPACK)),
  entry(18, len(2), len(2), str(LISTPACK), len(1), str('plain')),
  record(hex('f7'), len(2n ** 60n), hex('02 02 02 05 05'), str('aux'), hex('00')),
  record(hex('f5'), str('#!lua name=lib\nreturn 1')),
];

const REDIS_14: readonly Buffer[] = [
  hex('f4 01 02 03'),
  entry(22, len(1), len(5), str('f'), str('v')),
  entry(23, str(LISTPACK)),
  entry(24, ONE_HALF, len(1), len(5), str('f'), str('v')),
  entry(25, ONE_HALF, str(LISTPACK)),
  entry(28, len(3), len(1), len(9), hex('00 00'), str('s'), hex('01 01'), ONE_HALF, hex('02 03'), str('t')),
];

const VALKEY_80: readonly Buffer[] = [
  record(hex('f3'), str('j'.repeat(40)), len(1), len(0), len(100)),
  entry(22, len(1), str('f'), str('v'), hex('ffffffffffffffff')),
];

/** Files of all of that, and of each alone: in a small one damage meets the places that matter more often. */
const HAND_MADE: readonly Buffer[] = [
  rdb('REDIS0011', ...REDIS_11),
  rdb('REDIS0014', ...REDIS_14),
  rdb('VALKEY080', ...VALKEY_80),
  ...(['redis', 'valkey'] as const).flatMap((family) => [
    everyTypeFile(family),
    ...EVERY_TYPE[family].map(({ type, value }) => rdb(MAGIC[family], entry(type, value))),
  ]),
  ...REDIS_11.map((part) => rdb('REDIS0011', part)),
  ...REDIS_14.map((part) => rdb('REDIS0014', part)),
  ...VALKEY_80.map((part) => rdb('VALKEY080', part)),
  record(Buffer.from('REDIS0003'), entry(0, str('v')), hex('ff')),
];

/** Above this, elements pass in pieces. */
const BIG = (1 << 20) + 1000;

/** List nodes above the limit from which elements pass in pieces, small by their compression. */
const BIG_NODES: readonly Buffer[] = [
  Buffer.concat([Buffer.from([1]), len(2), lzfStr(BIG, 0x61), str('b')]),
  Buffer.concat([Buffer.from([4]), len(2), lzfStr(BIG, 0x61), str('b'), str('c'), lzfStr(BIG, 0x61)]),
  nodeOfOne(18, (length) => Buffer.concat([u32(length + 15), hex('01 00 f0'), u32(length)]), hex('ff')),
  nodeOfOne(
    14,
    (length) => Buffer.concat([u32(length + 17), hex('0a000000 0100 00 80'), u32(length).reverse()]),
    hex('ff'),
  ),
  // of many elements, of which only the first bytes come: what is claimed is no reason to allocate anything
  ...[16, 100, 1000].map((mb) =>
    Buffer.concat([hex('12 01 02'), len(mb << 20), u32(mb << 20), hex('02 00 81 61 02'), Buffer.alloc(100)]),
  ),
];

/** A list with one node of one big element, compressed: the head, the element, the tail. */
function nodeOfOne(type: number, headFor: (length: number) => Buffer, tail: Buffer): Buffer {
  const size = BIG;
  const head = headFor(size);
  // the backward length of a listpack's entry, 7 bits to a byte
  const backward = type === 18 ? backwardLength(size + 5) : Buffer.alloc(0);
  const literal = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([bytes.length - 1]), bytes]);
  const copies = Array.from({ length: Math.floor((size - 1) / 264) }, () => hex('e0 ff 00'));
  const rest = (size - 1) % 264;
  const filler = Array.from({ length: rest }, () => hex('00 61'));
  const body = Buffer.concat([
    literal(head),
    literal(hex('61')),
    ...copies,
    ...filler,
    literal(Buffer.concat([backward, tail])),
  ]);
  const total = head.length + size + backward.length + tail.length;
  return Buffer.concat([
    Buffer.from([type]),
    len(1),
    ...(type === 18 ? [len(2)] : []),
    hex('c3'),
    len(body.length),
    len(total),
    body,
  ]);
}

/** In three bytes. */
function backwardLength(value: number): Buffer {
  return Buffer.from([value >> 14, ((value >> 7) & 0x7f) | 0x80, (value & 0x7f) | 0x80]);
}

const TOKENS: readonly Buffer[] = [
  ...[0, 63, 16383, 2 ** 16, 2 ** 20, 2 ** 20 + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1].map((n) => len(n, 32)),
  ...[0n, 2n ** 20n, 2n ** 31n, 2n ** 32n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n].map((n) =>
    len(n, 64),
  ),
  hex('c3'),
  Buffer.concat([hex('c3'), len(4), len(2n ** 40n)]),
  Buffer.concat([hex('c3'), len(2n ** 40n), len(4)]),
  Buffer.concat([hex('c3'), len(2n ** 64n - 1n), len(2n ** 64n - 1n)]),
  Buffer.concat([hex('c3'), len(2 ** 25), len(2 ** 31)]),
  ...['ffffffff', 'ffffff7f', '00000080', 'feffffff', 'ffff', '000000000000f87f'].map(hex),
  ...['00', '01', '02', '05', '07', '0e', '12', 'f3', 'f7', 'fa', 'fc', 'fd', 'fe', 'ff', 'fb'].map(hex),
];
