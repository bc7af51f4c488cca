import assert from 'node:assert/strict';
import { it } from 'node:test';
import { CheckpointError } from '../../../src/core/errors.ts';
import {
  CHECKPOINT_KEY,
  type Checkpoint,
  checkpointFields,
  parseCheckpoint,
} from '../../../src/target/write/checkpoint.ts';

const CHECKPOINT: Checkpoint = {
  replid: 'ab'.repeat(20),
  offset: 2 ** 53 - 1,
  db: 15,
  run: 'run 1',
  phase: 'stream',
};

it('comes back as it was written, from RESP2 and RESP3', () => {
  for (const checkpoint of [
    CHECKPOINT,
    { ...CHECKPOINT, offset: 0, db: 0, run: '', phase: 'snapshot' as const },
  ]) {
    const fields = checkpointFields(checkpoint);
    assert.deepEqual(parseCheckpoint(fields), checkpoint);
    assert.deepEqual(parseCheckpoint(fields.map((field) => Buffer.from(field))), checkpoint);
    const pairs = Array.from({ length: 5 }, (_, i) => [fields[2 * i]!, fields[2 * i + 1]!]);
    assert.deepEqual(parseCheckpoint(Object.fromEntries(pairs)), checkpoint);
    assert.deepEqual(parseCheckpoint([...fields, 'a later field', 'x']), checkpoint);
  }
});

it('no key, no checkpoint', () => {
  for (const reply of [[], {}, null]) assert.equal(parseCheckpoint(reply), null);
});

it('one that is not ours is an error that says what to do', () => {
  const damaged = {
    replid: ['', 'ab', `${'ab'.repeat(19)}zz`],
    offset: ['', 'x', '1.5', '-1', '-2', '99999999999999999999'],
    db: ['', 'x', '-1'],
    phase: ['', 'done'],
  };
  for (const [name, values] of Object.entries(damaged)) {
    for (const value of values) {
      const fields = checkpointFields(CHECKPOINT);
      fields[fields.indexOf(name) + 1] = value;
      assert.throws(
        () => parseCheckpoint(fields),
        (error) =>
          error instanceof CheckpointError &&
          error.code === 'checkpoint-damaged' &&
          error.hint.includes(CHECKPOINT_KEY),
        `${name} ${value}`,
      );
    }
  }
  assert.throws(() => parseCheckpoint(['replid', CHECKPOINT.replid]), CheckpointError);
});
