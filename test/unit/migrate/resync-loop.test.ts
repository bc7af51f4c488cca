/** Full copies again and again: the figures that are told follow from what was measured. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loopHint, parseOutputBuffer, ResyncLoop } from '../../../src/migrate/resync-loop.ts';

const MB = 1024 * 1024;

describe('the measure', () => {
  it('counts copies until the pair is in sync, and takes the rate over all of them', () => {
    const loop = new ResyncLoop();
    loop.begins(0, 1_000, null);
    assert.deepEqual(loop.measure, { bytesPerSecond: 0, copySeconds: 0 });
    loop.begins(10_000, 1_000 + 50 * MB, 0.5);
    loop.begins(14_000, 1_000 + 70 * MB, null);
    assert.deepEqual(loop.measure, { bytesPerSecond: 5 * MB, copySeconds: 20 });
    assert.deepEqual([loop.copies, loop.tooMany], [3, false]);
    for (let copy = 4; copy <= 6; copy++) loop.begins(copy * 10_000, 71 * MB, null);
    assert.equal(loop.tooMany, true);
    loop.reset();
    assert.deepEqual([loop.copies, loop.tooMany], [0, false]);
  });

  it('offsets of another history are not compared', () => {
    const loop = new ResyncLoop();
    loop.begins(0, 900 * MB, null);
    loop.begins(10_000, 10 * MB, null);
    loop.begins(20_000, 30 * MB, null);
    assert.equal(loop.measure.bytesPerSecond, 2 * MB);
  });
});

describe('the hint', () => {
  const measure = { bytesPerSecond: 20 * MB, copySeconds: 30 };

  it('rate x time x 3, for the backlog and the output buffer', () => {
    const hint = loopHint(measure, {
      backlogBytes: MB,
      outputBuffer: { name: 'slave', hard: 256 * MB, soft: 64 * MB, seconds: 60 },
    });
    const bytes = 20 * 30 * 3 * MB;
    assert.ok(hint.includes(`CONFIG SET repl-backlog-size ${bytes},`), hint);
    assert.ok(hint.includes(`CONFIG SET client-output-buffer-limit "slave ${bytes} ${bytes} 60"`), hint);
    assert.match(hint, /20\.0 MB\/s.* 30 s/);
  });

  it('never less than twice what is set, which was not enough', () => {
    const hint = loopHint(
      { bytesPerSecond: 1, copySeconds: 1 },
      {
        backlogBytes: 1000 * MB,
        outputBuffer: { name: 'replica', hard: 3000 * MB, soft: 500 * MB, seconds: 90 },
      },
    );
    assert.ok(hint.includes(`repl-backlog-size ${2000 * MB}`), hint);
    assert.ok(hint.includes(`"replica ${6000 * MB} ${1000 * MB} 90"`), hint);
  });

  it('a source that tells nothing, or has no limit', () => {
    assert.match(
      loopHint(measure, { backlogBytes: null, outputBuffer: null }),
      /repl-backlog-size \d+, CONFIG SET client-output-buffer-limit "replica \d+ \d+ 60"/,
    );
    const none = loopHint(measure, {
      backlogBytes: null,
      outputBuffer: { name: 'replica', hard: 0, soft: 0, seconds: 0 },
    });
    assert.doesNotMatch(none, /output-buffer/);
  });
});

it('the setting as CONFIG GET answers it', () => {
  assert.deepEqual(parseOutputBuffer('normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60'), {
    name: 'slave',
    hard: 256 * MB,
    soft: 64 * MB,
    seconds: 60,
  });
  assert.equal(parseOutputBuffer(null), null);
});
