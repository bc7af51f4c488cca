/** The spool against a simple model: one growing Buffer. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CheckpointError, InvariantError } from '../../../src/core/errors.ts';
import { Spool } from '../../../src/spool/spool.ts';
import { assertView, bytesAt, fill, folder, MB, spoolOf } from './support.ts';

/** Whether a program of the system ran and was content; false also where there is none. */
function runs(program: string, ...args: string[]): boolean {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}

describe('positions and views', () => {
  it('begins empty', (t) => {
    const { spool } = spoolOf(t, 8 * MB);
    assert.deepEqual([spool.start, spool.end, spool.diskBytes], [0, 0, 0]);
    assert.equal(spool.view(0, 100).length, 0);
    assert.ok(spool.reserve().length > 0);
    assert.throws(() => spool.view(1, 1), InvariantError);
  });

  it('a socket reads into the reserved space', (t) => {
    const { spool } = spoolOf(t, 8 * MB);
    for (let left = 3 * MB; left > 0; ) {
      const space = spool.reserve();
      assert.ok(space.length > 0);
      const length = Math.min(space.length, left, 70_001);
      bytesAt(spool.end, length).copy(space);
      spool.commit(length, 1);
      left -= length;
    }
    assert.equal(spool.end, 3 * MB);
    for (let pos = 0; pos < spool.end; pos += 65_537) assertView(spool, pos, 100_000);
  });

  it('a view reaches to the end of its block, and over it where more is wanted', (t) => {
    const { spool } = spoolOf(t, 8 * MB);
    fill(spool, 3 * MB + 5);
    assert.equal(spool.view(0, 1).length, MB);
    assert.equal(spool.view(MB - 1, 1).length, 1);
    assert.equal(spool.view(MB - 1, 2).length, 2);
    assert.equal(spool.view(3 * MB, 100).length, 5);
    assert.equal(spool.view(spool.end, 100).length, 0);
    for (const pos of [0, MB - 1, MB, MB + 1, 2 * MB - 10, 3 * MB - 1]) {
      for (const want of [1, 2, 20, MB, 2 * MB, 9 * MB]) assertView(spool, pos, want);
    }
  });

  it('release forgets, and never goes back or beyond the end', (t) => {
    const { spool } = spoolOf(t, 8 * MB);
    fill(spool, 2 * MB + 9);
    spool.release(MB + 3);
    assert.equal(spool.start, MB + 3);
    spool.release(5);
    assert.equal(spool.start, MB + 3);
    assert.throws(() => spool.view(MB + 2, 1), InvariantError);
    assertView(spool, MB + 3, 2 * MB);
    spool.release(99 * MB);
    assert.equal(spool.start, spool.end);
    fill(spool, MB);
    assertView(spool, spool.start, 2 * MB);
  });

  it('reset begins again at 0', (t) => {
    const { spool, dir } = spoolOf(t, 0);
    fill(spool, 5 * MB + 7);
    spool.release(MB);
    spool.view(2 * MB, 1);
    spool.reset();
    assert.deepEqual([spool.start, spool.end, spool.diskBytes], [0, 0, 0]);
    assert.deepEqual(readdirSync(dir), []);
    // other bytes than before: nothing old may come out
    spool.append(Buffer.alloc(3 * MB, 0x99), 1);
    assert.ok(spool.view(2 * MB, 1).equals(Buffer.alloc(MB, 0x99)));
    assert.ok(spool.view(0, 3 * MB).equals(Buffer.alloc(3 * MB, 0x99)));
  });
});

describe('on disk', () => {
  it('the oldest blocks stay in memory, the rest goes to a folder of our own', (t) => {
    const { spool, dir } = spoolOf(t, 2 * MB);
    fill(spool, 2 * MB);
    assert.equal(existsSync(dir), false);
    fill(spool, 3 * MB);
    assert.equal(spool.diskBytes, 3 * MB);
    assert.equal(statSync(dir).mode & 0o777, 0o700);
    assert.equal(statSync(join(dir, 'segment-0')).mode & 0o777, 0o600);
    assertView(spool, 0, 5 * MB);
    // sequential reading, back and forth over boundaries
    for (let pos = 0; pos < spool.end; pos += 400_000) assertView(spool, pos, 700_000);
    for (let pos = spool.end; pos > 0; pos -= 400_000) assertView(spool, pos, 50);
  });

  it('files go as they are released, and with close', (t) => {
    const { spool, dir } = spoolOf(t, 0);
    fill(spool, 130 * MB, 8 * MB);
    assert.deepEqual(readdirSync(dir).sort(), ['segment-0', 'segment-1', 'segment-2']);
    assertView(spool, 63 * MB + 5, 2 * MB);
    spool.release(64 * MB - 1);
    assert.equal(readdirSync(dir).length, 3);
    spool.release(64 * MB);
    assert.deepEqual(readdirSync(dir).sort(), ['segment-1', 'segment-2']);
    assertView(spool, 64 * MB, 10);
    spool.release(130 * MB);
    assert.equal(spool.diskBytes, 0);
    assert.deepEqual(readdirSync(dir), []);
    fill(spool, 3 * MB);
    assertView(spool, 130 * MB, 3 * MB);
    spool.close();
    assert.equal(existsSync(dir), false);
  });
});

describe('reception times', () => {
  it('are those of the chunk, at a grain of 10 ms', (t) => {
    const { spool } = spoolOf(t, 8 * MB);
    const before = Date.now();
    assert.ok(spool.receivedAt(0) >= before);
    spool.append(bytesAt(0, 100), 1000);
    spool.append(bytesAt(100, 100), 1009);
    spool.append(bytesAt(200, 100), 1010);
    spool.append(bytesAt(300, 100), 5000);
    assert.deepEqual(
      [0, 99, 100, 199, 200, 299, 300, 399].map((pos) => spool.receivedAt(pos)),
      [1000, 1000, 1000, 1000, 1010, 1010, 5000, 5000],
    );
    spool.release(250);
    assert.equal(spool.receivedAt(250), 1010);
    assert.equal(spool.receivedAt(300), 5000);
    spool.release(400);
    spool.append(bytesAt(400, 1), 5001);
    assert.equal(spool.receivedAt(400), 5000);
    spool.reset();
    spool.append(bytesAt(0, 1), 7000);
    assert.equal(spool.receivedAt(0), 7000);
  });

  it('follow a clock that is set back', (t) => {
    const { spool } = spoolOf(t, 8 * MB);
    spool.append(bytesAt(0, 10), 3_600_000);
    spool.append(bytesAt(10, 10), 1_000);
    spool.append(bytesAt(20, 10), 1_500);
    assert.deepEqual(
      [0, 10, 20].map((pos) => spool.receivedAt(pos)),
      [3_600_000, 1_000, 1_500],
    );
  });
});

describe('failures', () => {
  const failure = (run: () => void): CheckpointError => {
    let found: unknown;
    try {
      run();
    } catch (error) {
      found = error;
    }
    assert.ok(found instanceof CheckpointError, String(found));
    return found;
  };

  it('a limit, with what waits and what to set', (t) => {
    const { spool } = spoolOf(t, MB, 3 * MB);
    const error = failure(() => fill(spool, 20 * MB));
    assert.equal(error.code, 'spool-limit');
    assert.equal(spool.end, 5 * MB);
    assert.match(error.message, /5242880 bytes wait for the target, the limit on disk is 3145728/);
    assert.match(error.hint, /--spool-limit above 11 \(MB\)/);
    assertView(spool, 0, 5 * MB);
  });

  it('a limit that release() moves away', (t) => {
    const { spool } = spoolOf(t, MB, 3 * MB);
    for (let i = 0; i < 20; i++) {
      fill(spool, MB);
      spool.release(spool.end - 3 * MB);
    }
    assertView(spool, spool.start, 3 * MB);
  });

  it('a folder that cannot be made', (t) => {
    const dir = folder(t);
    writeFileSync(dir, 'a file where the folder should be');
    const spool = new Spool({ dir, memoryBytes: 0, limitBytes: Number.POSITIVE_INFINITY });
    const error = failure(() => fill(spool, 2 * MB));
    assert.equal(error.code, 'spool-io');
    assert.match(error.message, /cannot be written: (EEXIST|ENOTDIR)/);
    spool.reset();
  });

  it('a file that lost its end', (t) => {
    const { spool, dir } = spoolOf(t, 0);
    fill(spool, 4 * MB);
    truncateSync(join(dir, 'segment-0'), 2.5 * MB);
    assertView(spool, MB, 10);
    assert.equal(failure(() => spool.view(2 * MB, 10)).code, 'spool-torn');
  });

  it('files that somebody removed are missed only by who reads them', (t) => {
    const { spool, dir } = spoolOf(t, 0);
    fill(spool, 66 * MB, 8 * MB);
    rmSync(dir, { recursive: true });
    assertView(spool, MB, 10);
    spool.release(65 * MB);
    fill(spool, 2 * MB);
    assertView(spool, 65 * MB, 3 * MB);
  });

  it('a full disk', (t) => {
    const dir = folder(t);
    mkdirSync(dir, { recursive: true });
    if (!runs('mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', dir)) {
      t.skip('no tmpfs can be mounted here');
      return;
    }
    try {
      const spool = new Spool({ dir, memoryBytes: MB, limitBytes: Number.POSITIVE_INFINITY });
      const error = failure(() => fill(spool, 20 * MB));
      assert.equal(error.code, 'spool-disk-full');
      assert.match(error.message, new RegExp(`${spool.end} bytes from the source wait`));
      assert.match(error.hint, new RegExp(`at least ${Math.ceil((spool.end * 2) / 1e6)} MB free`));
      assert.equal(error.recovery, 'operator');
      // what was taken in before is all there
      assertView(spool, 0, spool.end);
      spool.reset();
    } finally {
      assert.ok(runs('umount', dir));
    }
  });
});

describe('any order of operations', () => {
  const operation = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('append' as const), size: fc.nat(900_000) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('append' as const),
        size: fc.constantFrom(1, MB, 2 * MB + 1),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('view' as const), at: fc.nat(1000), want: fc.nat(3 * MB) }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), at: fc.nat(1000) }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'release' as const, at: 1000 }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'reset' as const }) },
  );

  it('gives what a plain Buffer would', (t) => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, MB, 3 * MB),
        fc.array(operation, { maxLength: 30 }),
        (memoryBytes, operations) => {
          const { spool } = spoolOf(t, memoryBytes);
          const times: number[] = [];
          let start = 0;
          let now = 1000;
          for (const step of operations) {
            const place = 'at' in step ? start + Math.floor(((spool.end - start) * step.at) / 1000) : 0;
            switch (step.kind) {
              case 'append':
                now += 20;
                spool.append(bytesAt(spool.end, step.size), now);
                for (let at = times.length; at * 1000 < spool.end; at++) times.push(now);
                break;
              case 'view':
                assertView(spool, place, step.want);
                break;
              case 'release':
                spool.release(place);
                start = place;
                break;
              case 'reset':
                spool.reset();
                start = 0;
                times.length = 0;
            }
            assert.equal(spool.start, start);
            // times[n] is when the byte at n * 1000 came; the one at the end has not
            for (const at of [Math.ceil(start / 1000), Math.ceil(spool.end / 1000) - 1]) {
              if (at * 1000 >= start && at * 1000 < spool.end)
                assert.equal(spool.receivedAt(at * 1000), times[at]);
            }
          }
          spool.close();
        },
      ),
      {
        numRuns: 60,
        // nothing came first, and has no time of its own
        examples: [
          [
            0,
            [
              { kind: 'append', size: 0 },
              { kind: 'append', size: 1 },
            ],
          ],
        ],
      },
    );
  });
});
