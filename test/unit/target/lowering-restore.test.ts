/** Values in RESTORE commands of the stream: in a form that the target takes, held back where fields expire soon. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { payloadOf } from '../../../src/rdb/dump-payload.ts';
import { earliestFieldExpiry } from '../../../src/rdb/field-ttls.ts';
import { FORM, type Form } from '../../../src/rdb/forms.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import { SAMPLES } from '../../../src/rdb/samples.ts';
import { transcode } from '../../../src/rdb/transcode.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { HeldTtls, SHIFT_MS } from '../../../src/target/write/held-ttls.ts';
import { type LoweringContext, loweringsFor } from '../../../src/target/write/lowering.ts';
import { missingForms, type ReleaseLevel } from '../../../src/target/write/missing-forms.ts';
import type { Word } from '../../../src/target/write/words.ts';
import { len, str } from '../rdb/build.ts';

const NEWEST: ReleaseLevel = { family: 'redis', version: [8, 8, 0] };
const sample = (form: Form): Buffer => SAMPLES.get(form)!;
const made = (from: Form, to: Form): Buffer =>
  transcode(from, to, sample(from), 0, sample(from).length, 0).value;

interface Seen {
  readonly sent: readonly (readonly Word[])[];
  readonly lost: readonly string[];
  readonly lacking: readonly string[];
}

/** What goes to a target in the place of RESTORE k 0 payload and these options. */
function restored(
  target: ReleaseLevel,
  payload: Buffer,
  options: readonly Word[] = [],
  more: Partial<LoweringContext> = {},
): Seen {
  const { family, version } = target;
  const lost: string[] = [];
  const lacking: string[] = [];
  const missing = missingForms(NEWEST, target);
  const sent = loweringsFor(missing, true).get('restore')!(['RESTORE', 'k', '0', payload, ...options], {
    missing,
    forms: capabilitiesOf({ major: version[0], minor: version[1] }, family).forms,
    ttls: null,
    db: 0,
    lose: ({ what }) => lost.push(what.split(' ')[0]!),
    lacks: (what, key) => lacking.push(`${what} ${key}`),
    ...more,
  });
  return { sent, lost, lacking };
}

const redis = (major: number, minor: number): ReleaseLevel => ({
  family: 'redis',
  version: [major, minor, 0],
});
const VALKEY_9: ReleaseLevel = { family: 'valkey', version: [9, 0, 0] };
const of = (form: Form, value = sample(form)): Buffer => payloadOf(form, value);

describe('RESTORE: its value', () => {
  const rows: readonly (readonly [target: ReleaseLevel, from: Form, to: Form, lost: readonly string[]])[] = [
    [redis(8, 8), FORM.hashTtls, FORM.hashTtls, []],
    [redis(7, 2), FORM.hashTtls, TYPE.hash, ['expiries']],
    [redis(7, 4), FORM.hashTtlsValkey, FORM.hashTtls, []],
    [VALKEY_9, FORM.hashTtlsListpack, FORM.hashTtlsValkey, []],
    [redis(6, 2), TYPE.quicklist2, TYPE.list, []],
    [redis(6, 2), TYPE.stream2, TYPE.stream, ['counters']],
    [redis(7, 2), FORM.stream5, TYPE.stream3, []],
    [redis(3, 2), TYPE.zset2, TYPE.zset, []],
  ];
  it('in its own form, or an older one, and what that loses', () => {
    for (const [target, from, to, lost] of rows) {
      const value = from === to ? sample(from) : made(from, to);
      const seen = restored(target, of(from), ['REPLACE']);
      assert.deepEqual(seen.sent, [['RESTORE', 'k', '0', of(to, value), 'REPLACE']], `${from} to ${to}`);
      assert.deepEqual([seen.lost, seen.lacking], [lost, []], `${from} to ${to}`);
    }
  });

  it('of which the target knows nothing: left out, and what it replaced goes', () => {
    const { sent, lacking } = restored(redis(4, 0), of(TYPE.stream), ['REPLACE']);
    assert.deepEqual(sent, [['DEL', 'k']]);
    assert.deepEqual(lacking, ['streams (5.0) k']);
    assert.deepEqual(restored(redis(4, 0), of(TYPE.stream)).sent, []);
  });

  /** "vectorset" version 1, as Redis 8.2.3 writes it. */
  const vectors = of(
    TYPE.module2,
    Buffer.concat([Buffer.from('81bde72da2bb1eb400', 'hex'), len(5), str('x'), len(0)]),
  );
  it('of a module: the target may refuse it, and then has nothing under that name', () => {
    assert.deepEqual(restored(redis(7, 2), vectors, ['REPLACE']).sent, [
      ['DEL', 'k'],
      ['RESTORE', 'k', '0', vectors, 'REPLACE'],
    ]);
    // where it would be the end of the target, it does not go there
    const { forms } = capabilitiesOf({ major: 6, minor: 0 });
    const safe = { forms: new Set([...forms].filter((form) => form !== TYPE.module2)) };
    const { sent, lacking } = restored(redis(6, 0), vectors, [], safe);
    assert.deepEqual(sent, []);
    assert.deepEqual(lacking, ['values of the module type vectorset k']);
  });

  it('damaged: the target judges', () => {
    const damaged = of(TYPE.hashListpack, str('no listpack'));
    assert.deepEqual(restored(redis(6, 2), damaged).sent, [['RESTORE', 'k', '0', damaged]]);
  });
});

describe('RESTORE: fields that expire soon', () => {
  it('do so later, as long as they are held back, in either form', (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-held-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const ttls = new HeldTtls(dir);
    for (const form of [FORM.hashTtls, FORM.hashTtlsListpack]) {
      ttls.beginCopy(Number.POSITIVE_INFINITY);
      const [command] = restored(redis(8, 2), of(form), [], { ttls, db: 3 }).sent;
      const payload = command?.[3];
      assert.ok(Buffer.isBuffer(payload));
      assert.equal(payload[0], FORM.hashTtls);
      const atMs = earliestFieldExpiry(sample(form), 0, 0);
      assert.equal(earliestFieldExpiry(payload, 1, 0), atMs + SHIFT_MS);
      ttls.holdNone();
      assert.deepEqual(restored(redis(8, 2), of(form), [], { ttls }).sent, [['RESTORE', 'k', '0', of(form)]]);
    }
  });
});
