/** The list of key names: what goes in comes out, in order, however much of it lies in the file. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { KeyLog } from '../../../src/target/write/key-log.ts';

const BLOCK_BYTES = 64 * 1024;
/** More than what stays in memory. */
const MANY_BLOCKS = 20;

function fileOf(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-keys-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'sub', 'keys');
}

type Name = readonly [db: number, key: Buffer];

/** From within a bigger buffer, which is overwritten behind it, as the spool's blocks are. */
function add(log: KeyLog, names: readonly Name[]): void {
  for (const [db, key] of names) {
    const around = Buffer.concat([Buffer.from('<<'), key, Buffer.from('>')]);
    log.add(db, around, 2, 2 + key.length);
    around.fill(0xee);
  }
}

/** Everything, and that no page is bigger than it may be, or empty. */
function all(log: KeyLog, size = 100): Name[] {
  const names: Name[] = [];
  for (const page of log.pages(size)) {
    assert.ok(page.keys.length > 0 && page.keys.length <= size, `a page of ${page.keys.length} keys`);
    for (const key of page.keys) names.push([page.db, key]);
  }
  return names;
}

function assertSame(found: readonly Name[], expected: readonly Name[]): void {
  assert.equal(found.length, expected.length);
  for (const [i, [db, key]] of expected.entries()) {
    assert.equal(found[i]?.[0], db, `database of name ${i}`);
    assert.ok(found[i]?.[1].equals(key), `name ${i}`);
  }
}

/** Fills so many blocks with names that tell where they stand. */
function filling(blocks: number): Name[] {
  const size = 1000;
  const count = Math.ceil((blocks * BLOCK_BYTES) / size);
  return Array.from({ length: count }, (_, i) => [i % 3, Buffer.from(`${i} `.padEnd(size, 'x'))] as const);
}

describe('names', () => {
  it('of any bytes and lengths, in order, those that came twice twice', (t) => {
    const log = new KeyLog(fileOf(t));
    const names: Name[] = [
      [0, Buffer.alloc(0)],
      [0, Buffer.from('\0\r\n\xff', 'latin1')],
      [7, Buffer.alloc(0)],
      [7, Buffer.alloc(BLOCK_BYTES - 8, 'a')],
      [7, Buffer.alloc(BLOCK_BYTES - 7, 'b')],
      [7, Buffer.alloc(3 * BLOCK_BYTES + 1, 'c')],
      [7, Buffer.from('after')],
      [7, Buffer.from('after')],
      [0, Buffer.from('again')],
    ];
    add(log, names);
    assert.equal(log.count, names.length);
    assertSame(all(log), names);
    assertSame(all(log), names);
  });

  it('of every database that a server may have', (t) => {
    const log = new KeyLog(fileOf(t));
    const names = [15, 255, 256, 65_535, 65_536, 2 ** 31 - 1].map((db) => [db, Buffer.from('k')] as const);
    add(log, names);
    assertSame(all(log), names);
  });

  it('of nothing', (t) => {
    assert.deepEqual(all(new KeyLog(fileOf(t))), []);
  });
});

it('a page holds keys of one database, as many as asked for where there are so many', (t) => {
  const log = new KeyLog(fileOf(t));
  const dbs = [0, 0, 0, 0, 0, 1, 0, 0, 2, 2, 2];
  add(
    log,
    dbs.map((db, i) => [db, Buffer.from(String(i))] as const),
  );
  const pages = [...log.pages(2)].map(({ db, keys }) => `${db}: ${keys.join(' ')}`);
  assert.deepEqual(pages, ['0: 0 1', '0: 2 3', '0: 4', '1: 5', '0: 6 7', '2: 8 9', '2: 10']);
});

it('whatever comes, comes out', (t) => {
  const file = fileOf(t);
  const name = fc.tuple(
    fc.integer({ min: 0, max: 3 }),
    fc.uint8Array({ maxLength: 40 }),
    fc.nat({ max: 60_000 }),
  );
  fc.assert(
    fc.property(fc.array(name, { maxLength: 60 }), fc.integer({ min: 1, max: 5 }), (made, size) => {
      const log = new KeyLog(file);
      // most are short; every now and then one that fills a block
      const names = made.map(
        ([db, bytes, long], i): Name => [
          db,
          i % 3 === 0 ? Buffer.concat([bytes, Buffer.alloc(long)]) : Buffer.from(bytes),
        ],
      );
      add(log, names);
      assertSame(all(log, size), names);
      log.clear();
    }),
    { numRuns: 50 },
  );
});

describe('the file', () => {
  it('takes what is more than 16 blocks, and goes with clear()', (t) => {
    const file = fileOf(t);
    const log = new KeyLog(file);
    add(log, filling(15));
    assert.equal(existsSync(file), false, 'a few stay in memory');
    log.clear();
    const names: Name[] = [...filling(MANY_BLOCKS), [9, Buffer.alloc(2 * BLOCK_BYTES, 'big')], ...filling(2)];
    add(log, names);
    assert.ok(statSync(file).size > 2 * BLOCK_BYTES);
    assert.equal(statSync(file).mode & 0o077, 0, 'names of keys are nobody else’s');
    assertSame(all(log), names);
    log.clear();
    assert.equal(existsSync(file), false);
    assert.equal(log.count, 0);
    assert.deepEqual(all(log), []);
  });

  it('is made anew where the list is used again behind clear()', (t) => {
    const file = fileOf(t);
    const log = new KeyLog(file);
    for (const blocks of [MANY_BLOCKS, 1, MANY_BLOCKS + 3]) {
      const names = filling(blocks);
      add(log, names);
      assert.equal(log.count, names.length);
      assertSame(all(log), names);
      assert.equal(existsSync(file), blocks > 1);
      log.clear();
    }
    log.clear();
    assert.equal(existsSync(file), false);
  });

  it('that is left from another process counts for nothing', (t) => {
    const file = fileOf(t);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, 'x'.repeat(10 * BLOCK_BYTES));
    const log = new KeyLog(file);
    const names = filling(MANY_BLOCKS);
    add(log, names);
    assertSame(all(log), names);
    log.clear();
    assert.equal(existsSync(file), false);
  });

  it('a disk that takes no more, or gives back less: CheckpointError key-log', (t) => {
    const file = fileOf(t);
    // a file where the folder should be
    writeFileSync(join(file, '..'), '');
    const refused = new KeyLog(file);
    const classed = { name: 'CheckpointError', code: 'key-log', recovery: 'operator' };
    assert.throws(() => add(refused, filling(MANY_BLOCKS)), classed);
    refused.clear();
    const cutFile = fileOf(t);
    const cut = new KeyLog(cutFile);
    add(cut, filling(MANY_BLOCKS));
    truncateSync(cutFile, 100);
    assert.throws(() => all(cut), classed);
    cut.clear();
  });
});
