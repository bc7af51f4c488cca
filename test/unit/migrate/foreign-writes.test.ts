import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  hasFallen,
  judgeCount,
  parseCommandStats,
  writeCommandNames,
} from '../../../src/migrate/foreign-writes.ts';

test('counters by command, as 5.0 and as 7.0 write them', () => {
  const text =
    '# Commandstats\r\ncmdstat_set:calls=7,usec=9,usec_per_call=1.29\r\ncmdstat_xgroup|create:calls=2,usec=4,usec_per_call=2.00,rejected_calls=0,failed_calls=1\r\ncmdstat_JSON.SET:calls=1,usec=1\r\n';
  assert.deepEqual(
    [...parseCommandStats(text)],
    [
      ['set', 7],
      ['xgroup|create', 2],
      ['json.set', 1],
    ],
  );
  assert.equal(parseCommandStats('').size, 0);
});

test('commands that write, subcommands among them', () => {
  const command = (name: string, flags: string[], subcommands: unknown[] = []) => [
    Buffer.from(name),
    -2,
    flags.map((flag) => Buffer.from(flag)),
    ...[1, 1, 1, [], [], []],
    subcommands,
  ];
  const reply = [
    command('set', ['write', 'denyoom']),
    command('get', ['readonly']),
    command('function', [], [command('function|load', ['write']), command('function|list', ['noscript'])]),
    null,
  ];
  assert.deepEqual([...writeCommandNames(reply as never)], ['set', 'function|load']);
  assert.equal(writeCommandNames(null).size, 0);
});

test('foreign is only what lies above all that ours can be', () => {
  assert.deepEqual(judgeCount(10, 10, 10), { kind: 'ours' });
  assert.deepEqual(judgeCount(11, 10, 10), { kind: 'foreign', count: 1 });
  assert.deepEqual(judgeCount(12, 10, 12), { kind: 'ours' });
  assert.deepEqual(judgeCount(15, 10, 12), { kind: 'foreign', count: 3 });
  assert.deepEqual(judgeCount(9, 10, 12), { kind: 'fell' });
});

test('counters fall where one is lower, or gone', () => {
  const before = new Map([
    ['set', 5],
    ['get', 2],
  ]);
  const now = (set: number, get?: number) =>
    new Map([['set', set], ...(get === undefined ? [] : [['get', get] as const])]);
  assert.equal(hasFallen(before, now(6, 2)), false);
  assert.equal(hasFallen(before, now(6, 1)), true);
  assert.equal(hasFallen(before, now(9)), true);
  assert.equal(hasFallen(new Map(), before), false);
});
