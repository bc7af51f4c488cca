/** Copies at the same time: as many as allowed, never two from one host, and each pair comes to its turn. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Phase } from '../../../src/core/phase.ts';
import { CopyQueue, nextCopies } from '../../../src/fleet/copy-queue.ts';

interface FakePair {
  phase: Phase;
  snapshotReceived: boolean;
  readonly pair: { readonly name: string; readonly source: { readonly host: string } };
}

const pair = (name: string, host = name): FakePair => ({
  phase: 'checking',
  snapshotReceived: false,
  pair: { name, source: { host } },
});
const names = (pairs: readonly FakePair[]): string[] => pairs.map((each) => each.pair.name);

describe('which begin now', () => {
  test('in order, up to the limit', () => {
    const [a, b, c] = [pair('a'), pair('b'), pair('c')];
    assert.deepEqual(names(nextCopies([a, b, c], [], 2)), ['a', 'b']);
    assert.deepEqual(names(nextCopies([b, c], [a], 2)), ['b']);
    assert.deepEqual(names(nextCopies([c], [a, b], 2)), []);
  });

  test('one for each host; those behind may overtake', () => {
    const [a, b, c] = [pair('a', 'x'), pair('b', 'x'), pair('c', 'y')];
    assert.deepEqual(names(nextCopies([a, b, c], [], 4)), ['a', 'c']);
    assert.deepEqual(names(nextCopies([b, c], [a], 4)), ['c']);
  });
});

test('a host is free as soon as its snapshot has come, though it is not loaded; its place among all copies is not', () => {
  const [a, b, c] = [pair('a', 'x'), pair('b', 'x'), pair('c', 'y')];
  a.phase = 'snapshot';
  a.snapshotReceived = true;
  assert.deepEqual(names(nextCopies([b, c], [a], 4)), ['b', 'c']);
  assert.deepEqual(names(nextCopies([b, c], [a], 2)), ['b']);
});

test('what begins anew with its copy on the target takes a place, and neither waits for a host nor keeps one', () => {
  const [a, b, c, d] = [pair('a', 'x'), pair('b', 'x'), pair('c', 'x'), pair('d', 'x')];
  assert.deepEqual(names(nextCopies([b, c, d], [a], 3, new Set([b, c]))), ['b', 'c']);
  assert.deepEqual(names(nextCopies([b, c, d], [], 3, new Set([b]))), ['b', 'c']);
  assert.deepEqual(names(nextCopies([d], [b], 3, new Set([b]))), ['d']);
});

describe('the queue', () => {
  const queue = (parallel: number) => {
    const begun: string[] = [];
    const returns = new Map<string, () => void>();
    const copies = new CopyQueue<FakePair>(parallel, (each) => {
      begun.push(each.pair.name);
      return new Promise((resolve) => returns.set(each.pair.name, resolve));
    });
    const returned = async (name: string): Promise<void> => {
      returns.get(name)?.();
      await new Promise((resolve) => setImmediate(resolve));
    };
    return { copies, begun, returned };
  };

  test('the next one begins when a copy is on its target, not when it was begun', async () => {
    const [a, b] = [pair('a'), pair('b')];
    const { copies, begun, returned } = queue(1);
    copies.add([a, b]);
    assert.deepEqual(begun, ['a']);
    assert.equal(copies.isWaiting(b), true);
    a.phase = 'snapshot';
    await returned('a');
    copies.look();
    assert.deepEqual(begun, ['a']);
    a.phase = 'catching-up';
    copies.look();
    assert.deepEqual(begun, ['a', 'b']);
    assert.equal(copies.isWaiting(b), false);
  });

  test('a pair that fails makes room, while it waits and while it copies', async () => {
    const [a, b, c] = [pair('a'), pair('b'), pair('c')];
    const { copies, begun, returned } = queue(1);
    copies.add([a, b, c]);
    b.phase = 'failed';
    a.phase = 'failed';
    await returned('a');
    assert.deepEqual(begun, ['a', 'c']);
  });

  test('a pair that begins anew waits for its turn again', async () => {
    const [a, b] = [pair('a'), pair('b')];
    const { copies, begun, returned } = queue(1);
    copies.add([a, b]);
    await returned('a');
    // its worker has died: the other one has waited longer
    copies.remove(a);
    copies.add([a]);
    assert.deepEqual(begun, ['a', 'b']);
    b.phase = 'in-sync';
    await returned('b');
    assert.deepEqual(begun, ['a', 'b', 'a']);
  });

  test('a pair that was taken out does not begin, though there is room', () => {
    const [a, b] = [pair('a'), pair('b')];
    const { copies, begun } = queue(1);
    copies.add([a, b]);
    copies.remove(b);
    a.phase = 'failed';
    copies.look();
    copies.look();
    assert.deepEqual(begun, ['a']);
    assert.equal(copies.isWaiting(b), false);
  });

  test('closed, it begins nothing', () => {
    const { copies, begun } = queue(1);
    copies.close();
    copies.add([pair('a')]);
    assert.deepEqual(begun, []);
  });
});
