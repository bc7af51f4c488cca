/** What the spool keeps for a later process: all of it, and never a byte that is not there or not what it was. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { CheckpointError, InvariantError } from '../../../src/core/errors.ts';
import { Spool } from '../../../src/spool/spool.ts';
import { assertView, bytesAt, fill, MB, spoolOf } from './support.ts';

const NEVER = new AbortController().signal;

/** The spool of the process that comes after one that was killed: of that one only the files are there. */
async function reopened(t: TestContext, dir: string, name: string, memoryBytes = MB): Promise<Spool> {
  const spool = new Spool({ dir, memoryBytes, limitBytes: Number.POSITIVE_INFINITY });
  t.after(() => spool.close());
  await spool.reopen(name, NEVER);
  return spool;
}

describe('kept', () => {
  test('goes to disk in whole, release() or not, and is there until it need not be', (t) => {
    const { spool, dir } = spoolOf(t, 2 * MB);
    assert.equal(spool.keeps, false);
    spool.keep();
    assert.equal(spool.keeps, true);
    fill(spool, 5 * MB + 17);
    assert.equal(spool.diskBytes, 5 * MB);
    spool.release(4 * MB + 3);
    assert.deepEqual([spool.start, spool.diskBytes], [0, 5 * MB]);
    for (let pos = 0; pos < spool.end; pos += 400_000) assertView(spool, pos, 700_000);
    spool.keepNoLonger();
    assert.equal(spool.keeps, false);
    assert.deepEqual(readdirSync(dir), ['segment-0'], 'the index is gone');
    assert.deepEqual([spool.start, spool.diskBytes], [4 * MB + 3, MB]);
    assertView(spool, spool.start, 2 * MB);
    fill(spool, 8 * MB);
    for (let pos = spool.start; pos < spool.end; pos += 400_000) assertView(spool, pos, 700_000);
    spool.release(spool.end);
    assert.deepEqual(readdirSync(dir), []);
  });

  test('counts for the limit', (t) => {
    const { spool } = spoolOf(t, 8 * MB, 3 * MB);
    spool.keep();
    const limit = (error: unknown): boolean =>
      error instanceof CheckpointError &&
      error.code === 'spool-limit' &&
      /4194304 bytes are kept by --keep-snapshot, the limit on disk is 3145728/.test(error.message);
    assert.throws(() => {
      for (let i = 0; i < 9; i++) {
        fill(spool, MB);
        spool.release(spool.end);
      }
    }, limit);
    spool.close();
  });

  test('begins with the first byte', (t) => {
    const { spool } = spoolOf(t, MB);
    fill(spool, 1);
    assert.throws(() => spool.keep(), InvariantError);
  });
});

describe('reopened', () => {
  test('every byte that was saved, when it came, and it goes on from there', async (t) => {
    const { spool, dir } = spoolOf(t, MB);
    const name = spool.keep();
    for (let i = 0; i < 70; i++) spool.append(bytesAt(spool.end, 50_001), 1000 + i * 100);
    spool.save();
    spool.append(bytesAt(spool.end, 10), 9_000);

    const second = await reopened(t, dir, name);
    assert.deepEqual([second.start, second.end], [0, 70 * 50_001]);
    for (let pos = 0; pos < second.end; pos += 300_000) assertView(second, pos, 700_000);
    for (let i = 0; i < 70; i++) assert.equal(second.receivedAt(i * 50_001), 1000 + i * 100);
    fill(second, 3 * MB);
    second.save();

    const third = await reopened(t, dir, name, 0);
    assert.equal(third.end, 70 * 50_001 + 3 * MB);
    assertView(third, 0, third.end);
    third.keepNoLonger();
    third.release(third.end);
    assert.deepEqual(readdirSync(dir), []);
  });

  test('without save() only the whole blocks are there', async (t) => {
    const { spool, dir } = spoolOf(t, MB);
    const name = spool.keep();
    fill(spool, 2 * MB + 5);
    assert.equal((await reopened(t, dir, name)).end, 2 * MB);
  });

  test('over more than one file', async (t) => {
    const { spool, dir } = spoolOf(t, 0);
    const name = spool.keep();
    fill(spool, 65 * MB + 9, 8 * MB);
    spool.save();
    const second = await reopened(t, dir, name, 0);
    assert.equal(second.end, 65 * MB + 9);
    assertView(second, 63 * MB + 5, 2 * MB);
    rmSync(join(dir, 'segment-1'));
    const third = await reopened(t, dir, name, 0);
    assert.equal(third.end, 64 * MB);
    fill(third, 2 * MB);
    assertView(third, 63 * MB + 5, 3 * MB);
  });

  test('nothing of a copy that was given up, or that is named otherwise', async (t) => {
    const { spool, dir } = spoolOf(t, MB);
    const first = spool.keep();
    fill(spool, 3 * MB);
    spool.save();
    spool.reset();
    const second = spool.keep();
    assert.equal((await reopened(t, dir, first)).end, 0);
    assert.equal((await reopened(t, dir, second)).end, 0);
  });

  test('left behind on purpose, or closed', async (t) => {
    const { spool, dir } = spoolOf(t, MB);
    const name = spool.keep();
    fill(spool, MB + 5);
    spool.leave();
    assert.deepEqual([spool.end, spool.keeps], [0, false]);
    const second = await reopened(t, dir, name);
    assert.equal(second.end, MB + 5);
    second.close();
    assert.equal(existsSync(dir), false);
    fill(second, 5);
    second.leave();
    assert.equal(existsSync(dir), false);
  });

  test('given up in the middle: it is all there for the next time', async (t) => {
    const { spool, dir } = spoolOf(t, MB);
    const name = spool.keep();
    fill(spool, 5 * MB + 5);
    spool.leave();
    const abort = new AbortController();
    const given = new Spool({ dir, memoryBytes: MB, limitBytes: Number.POSITIVE_INFINITY });
    const reading = given.reopen(name, abort.signal);
    abort.abort();
    given.leave();
    await assert.rejects(reading, { name: 'AbortError' });
    assert.equal((await reopened(t, dir, name)).end, 5 * MB + 5);
  });

  test('a spool that holds bytes takes over none', async (t) => {
    const { spool } = spoolOf(t, MB);
    fill(spool, 1);
    await assert.rejects(spool.reopen('a', NEVER), InvariantError);
  });
});

describe('torn or damaged', () => {
  /** Three pieces of 100 bytes on disk. */
  function pieces(t: TestContext): { dir: string; name: string; segment: string; index: string } {
    const { spool, dir } = spoolOf(t, MB);
    const name = spool.keep();
    for (let i = 0; i < 3; i++) {
      fill(spool, 100);
      spool.save();
    }
    return { dir, name, segment: join(dir, 'segment-0'), index: join(dir, `kept-${name}`) };
  }

  /** Reopens, checks what is there, and that it can be gone on with. */
  async function goodBytes(t: TestContext, dir: string, name: string): Promise<number> {
    const spool = new Spool({ dir, memoryBytes: MB, limitBytes: Number.POSITIVE_INFINITY });
    await spool.reopen(name, NEVER);
    const { end } = spool;
    assertView(spool, 0, end);
    fill(spool, 50);
    spool.leave();
    const again = await reopened(t, dir, name);
    assert.equal(again.end, end + 50);
    assertView(again, 0, end + 50);
    return end;
  }

  test('a file that ends anywhere in the last bytes', async (t) => {
    const { dir, name, segment, index } = pieces(t);
    const [bytes, lines] = [readFileSync(segment), readFileSync(index)];
    for (let length = 0; length <= bytes.length; length++) {
      writeFileSync(index, lines);
      writeFileSync(segment, bytes);
      truncateSync(segment, length);
      assert.equal(await goodBytes(t, dir, name), Math.floor(length / 100) * 100, `cut at ${length}`);
    }
  });

  test('an index that ends anywhere', async (t) => {
    const { dir, name, segment, index } = pieces(t);
    const [bytes, lines] = [readFileSync(segment), readFileSync(index)];
    for (let length = 0; length <= lines.length; length++) {
      writeFileSync(segment, bytes);
      writeFileSync(index, lines.subarray(0, length));
      const whole = lines.subarray(0, length).filter((byte) => byte === 0x0a).length;
      assert.equal(await goodBytes(t, dir, name), whole * 100, `cut at ${length}`);
    }
  });

  test('any byte that is another than it was', async (t) => {
    const { dir, name, segment, index } = pieces(t);
    const [bytes, lines] = [readFileSync(segment), readFileSync(index)];
    for (let at = 0; at < bytes.length; at += 7) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 0x10;
      writeFileSync(index, lines);
      writeFileSync(segment, damaged);
      assert.equal(await goodBytes(t, dir, name), Math.floor(at / 100) * 100, `byte ${at}`);
    }
    for (let at = 0; at < lines.length; at += 3) {
      const damaged = Buffer.from(lines);
      damaged[at]! ^= 0x01;
      writeFileSync(segment, bytes);
      writeFileSync(index, damaged);
      const before = lines.subarray(0, at).filter((byte) => byte === 0x0a).length;
      assert.equal(await goodBytes(t, dir, name), before * 100, `byte ${at} of the index`);
    }
  });

  test('zeros where a power cut kept the length of a file and not its bytes', async (t) => {
    const { dir, name, segment } = pieces(t);
    const bytes = readFileSync(segment);
    writeFileSync(segment, bytes.fill(0, 150));
    assert.equal(await goodBytes(t, dir, name), 100);
  });
});

test('any order of operations, killed at any of them: what was saved is there, and right', async (t) => {
  const operation = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('append' as const), size: fc.nat(900_000) }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'append' as const, size: MB }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), at: fc.nat(1000) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('view' as const), at: fc.nat(1000) }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'save' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'kill' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'enough' as const }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(0, MB, 3 * MB),
      fc.array(operation, { maxLength: 25 }),
      async (memoryBytes, operations) => {
        const { spool: first, dir } = spoolOf(t, memoryBytes);
        const name = first.keep();
        let spool = first;
        let [start, saved, asked] = [0, 0, 0];
        for (const step of operations) {
          const place = 'at' in step ? start + Math.floor(((spool.end - start) * step.at) / 1000) : 0;
          switch (step.kind) {
            case 'append':
              fill(spool, step.size);
              saved = Math.max(saved, Math.floor(spool.end / MB) * MB);
              break;
            case 'release':
              spool.release(place);
              asked = Math.max(asked, place);
              if (!spool.keeps) start = asked;
              break;
            case 'view':
              assertView(spool, place, 700_000);
              break;
            case 'save':
              spool.save();
              saved = spool.end;
              break;
            case 'kill': {
              if (!spool.keeps) break;
              spool = await reopened(t, dir, name, memoryBytes);
              assert.equal(spool.end, saved);
              asked = 0;
              break;
            }
            case 'enough':
              spool.keepNoLonger();
              start = asked;
          }
          assert.equal(spool.start, start);
          assertView(spool, start, spool.end - start);
        }
        spool.close();
      },
    ),
    { numRuns: 40 },
  );
});
