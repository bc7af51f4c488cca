/** What is sent as an expiry, and which keys are noted meanwhile. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { COPY_HORIZON_MS, HeldTtls, SHIFT_MS } from '../../../src/target/write/held-ttls.ts';

const NOW = 1_700_000_000_000;
const NEAR_MS = 30_000;

function heldTtls(t: TestContext): { readonly ttls: HeldTtls; readonly dir: string } {
  const parent = mkdtempSync(join(tmpdir(), 'redis-cutover-ttls-'));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  const dir = join(parent, 'expiring');
  return { ttls: new HeldTtls(dir, () => NOW), dir };
}

/** The key stands somewhere in a bigger buffer. */
function hold(ttls: HeldTtls, db: number, key: string, atMs: number): number {
  return ttls.hold(db, Buffer.from(`<${key}>`), 1, key.length + 1, atMs);
}

function holdFields(ttls: HeldTtls, db: number, key: string, atMs: number): number {
  return ttls.holdFields(db, Buffer.from(`<${key}>`), 1, key.length + 1, atMs);
}

function taken(ttls: HeldTtls, size = 100): string[] {
  return [...ttls.take(size)].map(({ kind, db, keys }) => `${kind} ${db}: ${keys.join(' ')}`);
}

describe('what is sent', () => {
  it('all held: everything so much later, nothing is noted', (t) => {
    const { ttls } = heldTtls(t);
    for (const atMs of [0, 1, NOW - 1, NOW, NOW + 1, NOW + 1e12]) {
      assert.equal(hold(ttls, 0, 'k', atMs), atMs + SHIFT_MS);
      assert.equal(holdFields(ttls, 0, 'k', atMs), atMs + SHIFT_MS);
    }
    ttls.inherits(0, Buffer.from('k'));
    assert.equal(ttls.noted, 0);
  });

  it('in a copy: what is due within so long, and that there is something to be looked at', (t) => {
    const { ttls } = heldTtls(t);
    assert.equal(ttls.lookDue, true, 'who knows what lies there from before');
    ttls.beginCopy(COPY_HORIZON_MS);
    for (const atMs of [NOW + COPY_HORIZON_MS, NOW + 1e12]) {
      assert.equal(hold(ttls, 0, 'far', atMs), atMs);
      assert.equal(holdFields(ttls, 0, 'far', atMs), atMs);
    }
    assert.deepEqual([ttls.copying, ttls.lookDue, ttls.holdsSome], [true, false, false]);
    const last = NOW + COPY_HORIZON_MS - 1;
    assert.equal(holdFields(ttls, 0, 'soon', last), last + SHIFT_MS);
    assert.deepEqual([ttls.copying, ttls.lookDue], [true, true]);
    ttls.beginCopy(COPY_HORIZON_MS);
    assert.deepEqual([ttls.lookDue, ttls.holdsSome], [false, false], 'another copy begins with nothing');
    assert.equal(hold(ttls, 0, 'past', 1), 1 + SHIFT_MS);
    assert.deepEqual([ttls.copying, ttls.lookDue], [true, true]);
    assert.equal(ttls.noted, 0);
    ttls.holdSoon(NEAR_MS);
    assert.deepEqual([ttls.copying, ttls.lookDue, ttls.holdsSome], [false, false, true]);
    ttls.beginCopy(COPY_HORIZON_MS, true);
    assert.deepEqual([ttls.lookDue, ttls.holdsSome], [true, true], 'keys of before');
    ttls.beginCopy(COPY_HORIZON_MS);
    ttls.holdSoon(NEAR_MS);
    assert.equal(ttls.holdsSome, false);
    assert.equal(hold(ttls, 0, 'stream', NOW), NOW + SHIFT_MS);
    assert.equal(ttls.holdsSome, true);
  });

  it('near ones held: what is due before then, and its key is noted', (t) => {
    const { ttls } = heldTtls(t);
    ttls.holdNear(NEAR_MS);
    for (const atMs of [NOW + NEAR_MS, NOW + NEAR_MS + 1, NOW + 1e12]) {
      assert.equal(hold(ttls, 0, 'far', atMs), atMs);
      assert.equal(holdFields(ttls, 0, 'far', atMs), atMs);
    }
    assert.equal(ttls.noted, 0);
    for (const atMs of [1, NOW, NOW + NEAR_MS - 1])
      assert.equal(hold(ttls, 2, 'near', atMs), atMs + SHIFT_MS);
    assert.equal(holdFields(ttls, 3, 'hash', NOW), NOW + SHIFT_MS);
    assert.equal(ttls.noted, 4);
    assert.deepEqual(taken(ttls), ['keys 2: near near near', 'hashes 3: hash']);
  });

  it('with no time left all are true, though keys that are moved about are noted', (t) => {
    const { ttls } = heldTtls(t);
    ttls.holdNear(Number.NEGATIVE_INFINITY);
    for (const atMs of [1, NOW, NOW + 1]) assert.equal(hold(ttls, 0, 'k', atMs), atMs);
    ttls.inherits(1, Buffer.from('renamed'));
    assert.deepEqual(taken(ttls), ['keys 1: renamed', 'hashes 1: renamed']);
  });

  it('none held: what it is', (t) => {
    const { ttls } = heldTtls(t);
    ttls.holdNone();
    for (const atMs of [0, 1, NOW, NOW + 1]) {
      assert.equal(hold(ttls, 0, 'k', atMs), atMs);
      assert.equal(holdFields(ttls, 0, 'k', atMs), atMs);
    }
    ttls.inherits(0, Buffer.from('k'));
    assert.equal(ttls.noted, 0);
    ttls.beginCopy(1);
    assert.equal(hold(ttls, 0, 'k', NOW), NOW + SHIFT_MS);
  });

  it('no expiry stays none, whatever is held', (t) => {
    const { ttls } = heldTtls(t);
    for (const set of [
      () => ttls.beginCopy(Number.POSITIVE_INFINITY),
      () => ttls.holdNear(NEAR_MS),
      () => ttls.holdNone(),
    ]) {
      set();
      assert.equal(hold(ttls, 0, 'k', -1), -1);
      assert.equal(holdFields(ttls, 0, 'k', -1), -1);
      assert.equal(ttls.noted, 0);
    }
  });
});

describe('take()', () => {
  it('what is noted while it hands out comes the next time, and only then', (t) => {
    const { ttls } = heldTtls(t);
    ttls.holdNear(NEAR_MS);
    for (const key of ['a', 'b', 'c']) hold(ttls, 0, key, NOW);
    holdFields(ttls, 0, 'h', NOW);
    const seen: string[] = [];
    for (const { kind, keys } of ttls.take(2)) {
      seen.push(`${kind}: ${keys.join(' ')}`);
      hold(ttls, 0, `new${seen.length}`, NOW);
      ttls.note('hashes', 1, Buffer.from('left'));
    }
    assert.deepEqual(seen, ['keys: a b', 'keys: c', 'hashes: h']);
    assert.equal(ttls.noted, 6);
    assert.deepEqual(taken(ttls), ['keys 0: new1 new2 new3', 'hashes 1: left left left']);
    assert.equal(ttls.noted, 0);
    assert.deepEqual(taken(ttls), []);
  });

  it('leaves no file behind, whether it came to its end or was given up', (t) => {
    const { ttls, dir } = heldTtls(t);
    ttls.holdNear(NEAR_MS);
    const note = (): void => {
      for (let i = 0; i < 3_000; i++) {
        hold(ttls, 0, `${i}`.padEnd(1_000), NOW);
        holdFields(ttls, 0, `${i}`.padEnd(1_000), NOW);
      }
    };
    note();
    assert.equal(readdirSync(dir).length, 2);
    assert.equal([...ttls.take(1_000)].flatMap(({ keys }) => keys).length, 6_000);
    assert.deepEqual(readdirSync(dir), []);
    note();
    assert.throws(() => {
      for (const _page of ttls.take(10)) throw new Error('the target is gone');
    }, /the target is gone/);
    assert.deepEqual(readdirSync(dir), []);
    assert.equal(ttls.noted, 0);
  });
});

it('all held again, or none any more: what was noted is forgotten', (t) => {
  const { ttls, dir } = heldTtls(t);
  for (const forget of [() => ttls.beginCopy(0), () => ttls.holdNone(), () => ttls.forget()]) {
    ttls.holdNear(NEAR_MS);
    hold(ttls, 0, 'k', NOW);
    ttls.inherits(0, Buffer.from('k'));
    ttls.movesKeys();
    assert.equal(ttls.noted, 3);
    forget();
    assert.equal(ttls.noted, 0);
    assert.equal(ttls.moved, false);
    assert.deepEqual(taken(ttls), []);
  }
  assert.equal(existsSync(dir), false, 'so few need no file');
});
