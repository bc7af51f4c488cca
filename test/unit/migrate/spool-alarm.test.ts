/** The warning before the spool is full: early, once each time, and with what to do. */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { SpoolAlarm } from '../../../src/migrate/spool-alarm.ts';

test('told at four fifths of the bound, once, and again only behind a time with room', async () => {
  const notes: string[] = [];
  const spool = { diskBytes: 0 };
  let held = true;
  const alarm = new SpoolAlarm(spool, {
    limitBytes: 10e6,
    dir: tmpdir(),
    note: (message) => notes.push(message),
    held: () => held,
  });
  for (const diskBytes of [0, 5e6, 7.9e6, 8e6, 9e6, 7e6, 9e6]) {
    spool.diskBytes = diskBytes;
    await alarm.look();
  }
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? '', /^the spool holds 8 MB of the 10 MB .*pause --off/);
  held = false;
  for (spool.diskBytes of [1e6, 9.5e6]) await alarm.look();
  assert.equal(notes.length, 2);
  assert.match(notes[1] ?? '', /slower than the source$/);
});

test('without a limit the disk is the bound', async () => {
  const notes: string[] = [];
  const settings = { limitBytes: Number.POSITIVE_INFINITY, note: (message: string) => notes.push(message) };
  const much = { diskBytes: 1e18 };
  await new SpoolAlarm(much, { ...settings, dir: tmpdir(), held: () => false }).look();
  assert.equal(notes.length, 1);
  // a disk that tells nothing is no reason for a warning
  await new SpoolAlarm(much, { ...settings, dir: '/nowhere', held: () => false }).look();
  assert.equal(notes.length, 1);
});
