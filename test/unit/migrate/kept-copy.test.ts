/** `--keep-snapshot`: what the journal holds of a kept copy, and whether the snapshot in the spool is whole. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type CompleteCopy,
  CopyKeeper,
  type KeptCopy,
  keptCopyFromJournal,
  keptCopyToJournal,
  reaches,
  takeUpKeptCopy,
} from '../../../src/migrate/kept-copy.ts';
import type { Framing } from '../../../src/source/handshake.ts';
import { Spool } from '../../../src/spool/spool.ts';
import { until } from '../../helpers/wait.ts';

const NEVER = new AbortController().signal;
const REPLID = 'a'.repeat(40);
const POSITION = { replid: REPLID, offset: 1000 };
/** One key, no checksum. */
const RDB = Buffer.concat([Buffer.from('REDIS0009\0\x01k\x01v\xff', 'latin1'), Buffer.alloc(8)]);
const MARK = Buffer.from('m'.repeat(40));
const STREAM = Buffer.from('*1\r\n$4\r\nPING\r\n');

/** What one process has kept of these bytes, taken up by the next. */
async function takenUp(
  t: TestContext,
  bytes: Buffer,
  framing: Framing,
): Promise<{ copy: CompleteCopy | null; spool: Spool; dir: string; notes: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-kept-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const dir = join(folder, 'spool');
  const settings = { dir, memoryBytes: 1 << 20, limitBytes: Number.POSITIVE_INFINITY };
  const former = new Spool(settings);
  const name = former.keep();
  former.append(bytes, 1);
  former.leave();
  const spool = new Spool(settings);
  t.after(() => spool.close());
  const notes: string[] = [];
  const left = keptCopyFromJournal(
    JSON.parse(JSON.stringify(keptCopyToJournal({ name, position: POSITION, framing }))),
  );
  const copy = await takeUpKeptCopy(spool, left, (message) => notes.push(message), NEVER);
  return { copy, spool, dir, notes };
}

test('the journal holds all that is needed', () => {
  for (const framing of [
    { kind: 'length', bytes: 12 },
    { kind: 'mark', mark: MARK },
  ] as const) {
    const copy = { name: 'abc', position: POSITION, framing };
    assert.deepEqual(keptCopyFromJournal(JSON.parse(JSON.stringify(keptCopyToJournal(copy)))), copy);
  }
  assert.equal(keptCopyFromJournal(null), null);
});

test('with a length: whole as soon as so many bytes are there', async (t) => {
  for (let length = 0; length <= RDB.length + 3; length++) {
    const bytes = Buffer.concat([RDB, STREAM]).subarray(0, length);
    const { copy, spool, dir, notes } = await takenUp(t, bytes, { kind: 'length', bytes: RDB.length });
    const whole = length >= RDB.length;
    assert.equal(copy?.streamStart, whole ? RDB.length : undefined);
    assert.equal(spool.keeps, whole);
    assert.equal(existsSync(dir), whole);
    assert.match(
      notes.join(),
      whole ? /loaded from the spool/ : /before the whole snapshot was kept: a new copy/,
    );
  }
});

test('with a mark: whole where it ends by its structure, and the mark is behind it', async (t) => {
  const all = Buffer.concat([RDB, MARK, STREAM]);
  const streamStart = RDB.length + MARK.length;
  for (let length = 0; length <= all.length; length++) {
    const { copy } = await takenUp(t, all.subarray(0, length), { kind: 'mark', mark: MARK });
    assert.equal(copy?.streamStart, length < streamStart ? undefined : streamStart, `${length} bytes`);
  }
});

test('with a mark: not whole where something else stands in its place', async (t) => {
  const framing = { kind: 'mark', mark: MARK } as const;
  const otherMark = Buffer.concat([RDB, Buffer.alloc(40, 'n'), STREAM]);
  assert.equal((await takenUp(t, otherMark, framing)).copy, null);
  const noRdb = Buffer.concat([Buffer.from('REDIS0009\0\x01k\x01v'), MARK, STREAM]);
  assert.equal((await takenUp(t, noRdb, framing)).copy, null);
});

test('nothing was kept: nothing is said, and what an earlier process has left goes', async (t) => {
  const { spool, dir } = await takenUp(t, RDB, { kind: 'length', bytes: RDB.length });
  spool.leave();
  assert.equal(existsSync(dir), true);
  assert.equal(await takeUpKeptCopy(spool, null, assert.fail, NEVER), null);
  assert.equal(existsSync(dir), false);
});

test('which places the kept bytes can be handed out behind', async (t) => {
  const bytes = Buffer.concat([RDB, STREAM]);
  const { copy, spool } = await takenUp(t, bytes, { kind: 'length', bytes: RDB.length });
  assert.ok(copy);
  const at = (offset: number, replid = REPLID): boolean => reaches(copy, spool, { replid, offset });
  assert.deepEqual(
    [999, 1000, 1000 + STREAM.length, 1001 + STREAM.length].map((offset) => at(offset)),
    [false, true, true, false],
  );
  assert.equal(at(1000, 'b'.repeat(40)), false);
});

test('a copy of a feed: noted when it begins and when its history has a new name, kept until it is loaded', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-kept-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const settings = { dir: join(dir, 'spool'), memoryBytes: 1 << 20, limitBytes: Number.POSITIVE_INFINITY };
  const spool = new Spool(settings);
  t.after(() => spool.close());
  const noted: (KeptCopy | null)[] = [];
  const failures: string[] = [];
  let full = false;
  const note = async (copy: KeptCopy | null): Promise<void> => {
    if (full) throw new Error('the disk is full');
    noted.push(copy);
  };
  const keeper = new CopyKeeper(spool, note, ({ message }) => failures.push(message));
  const framing = { kind: 'length', bytes: 12 } as const;
  keeper.end();
  keeper.renamed(POSITION, framing);
  await keeper.begin(null, framing);
  assert.deepEqual([noted, spool.keeps], [[], false]);

  await keeper.begin(POSITION, framing);
  assert.equal(spool.keeps, true);
  const other = { ...POSITION, replid: 'b'.repeat(40) };
  keeper.renamed(other, framing);
  const [first, second] = noted;
  assert.deepEqual(first, { name: first?.name, position: POSITION, framing });
  assert.deepEqual(second, { name: first?.name, position: other, framing });
  full = true;
  keeper.end();
  assert.equal(spool.keeps, false);
  await until(() => failures.length > 0, { what: 'the failure of a note' });
  assert.match(failures.join(), /the disk is full/);

  const none = new CopyKeeper(spool, null, assert.fail);
  await none.begin(POSITION, framing);
  assert.equal(spool.keeps, false);
});
