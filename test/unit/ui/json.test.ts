import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';
import type { MigrationEvent } from '../../../src/core/events.ts';
import { jsonRenderer } from '../../../src/ui/json.ts';
import { pairSnapshot, Recorder } from './fake.ts';

/** The keys that design.md fixes, for each event. */
const SAMPLES: readonly { event: MigrationEvent; keys: readonly string[] }[] = [
  {
    event: { event: 'phase', pair: 'a', from: 'checking', to: 'snapshot', reason: 'r' },
    keys: ['pair', 'from', 'to', 'reason'],
  },
  {
    event: { event: 'progress', ...pairSnapshot() },
    keys: [
      'pair',
      'phase',
      'feed',
      'wayBack',
      'snapshotBytes',
      'snapshotTotal',
      'keys',
      'appliedOffset',
      'sourceOffset',
      'lagBytes',
      'lagSeconds',
      'commandsPerSecond',
    ],
  },
  {
    event: { event: 'check', pair: 'a', name: 'n', status: 'refuse', detail: 'd', hint: 'h' },
    keys: ['pair', 'name', 'status', 'detail', 'hint'],
  },
  {
    event: {
      event: 'clients',
      pair: 'a',
      addr: '1',
      name: 'n',
      user: 'u',
      lastCommand: 'get',
      idleSeconds: 1,
      writing: true,
    },
    keys: ['pair', 'addr', 'name', 'user', 'lastCommand', 'idleSeconds', 'writing'],
  },
  {
    event: { event: 'verify', pair: 'a', compared: 1, different: 0, missing: 0, extra: 0 },
    keys: ['pair', 'compared', 'different', 'missing', 'extra'],
  },
  {
    event: { event: 'error', code: 'c', message: 'm', hint: 'h', recovery: 'none' },
    keys: ['code', 'message', 'hint', 'recovery'],
  },
  {
    event: { event: 'summary', outcome: 'promoted', exitCode: 0, pairs: [] },
    keys: ['outcome', 'exitCode', 'pairs'],
  },
];

test('one line per event, with ts, event and the fixed keys', () => {
  const out = new Recorder();
  const renderer = jsonRenderer(out, new Recorder());
  for (const { event } of SAMPLES) renderer.event(event);
  const lines = out.lines();
  assert.equal(lines.length, SAMPLES.length);
  for (const [index, { event, keys }] of SAMPLES.entries()) {
    const parsed = JSON.parse(lines[index] ?? '') as Record<string, unknown>;
    assert.deepEqual(Object.keys(parsed).slice(0, 2), ['ts', 'event']);
    assert.equal(new Date(String(parsed['ts'])).toISOString(), parsed['ts']);
    assert.equal(parsed['event'], event.event);
    for (const key of keys) assert.ok(key in parsed, `${event.event} lacks ${key}`);
  }
});

test('what is no number is null, an unknown total is null, a missing reason is left out', () => {
  const out = new Recorder();
  const renderer = jsonRenderer(out, new Recorder());
  renderer.event({
    event: 'progress',
    ...pairSnapshot({
      snapshotTotal: null,
      lagSeconds: Number.POSITIVE_INFINITY,
      bytesPerSecond: Number.NaN,
    }),
  });
  renderer.event({ event: 'phase', pair: 'a', from: 'checking', to: 'snapshot' });
  const [progress, phase] = out.lines().map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.equal(progress?.['snapshotTotal'], null);
  assert.equal(progress?.['lagSeconds'], null);
  assert.equal(progress?.['bytesPerSecond'], null);
  assert.ok(!('reason' in (phase ?? {})));
});

test('text that acts on terminals is escaped and still the same text', () => {
  const out = new Recorder();
  const message = 'a\x1b[2J\x9b31m\u202eb\u2028\nc';
  jsonRenderer(out, new Recorder()).event({ event: 'note', message });
  assert.doesNotMatch(out.text.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028\u202e]/);
  assert.equal((JSON.parse(out.text) as { message: string }).message, message);
});

test('people read on the other stream; frames emit nothing', () => {
  const out = new Recorder();
  const people = new Recorder();
  const renderer = jsonRenderer(out, people);
  renderer.frame([pairSnapshot()], '[q] quit');
  renderer.say('hello\nworld\x1b[2J');
  renderer.step('checking')('failed', 'no luck');
  assert.equal(out.text, '');
  assert.deepEqual(people.lines(), ['hello', 'world\\x1b[2J', 'checking ...', 'FAILED: no luck']);
});

test('a reader that went away ends nothing', async () => {
  let writes = 0;
  const out = new Writable({
    write(_chunk, _encoding, done) {
      writes += 1;
      done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    },
  });
  const renderer = jsonRenderer(out, new Recorder());
  renderer.event({ event: 'note', message: '1' });
  await new Promise((resolve) => setImmediate(resolve));
  renderer.event({ event: 'note', message: '2' });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(writes, 1);
});

test('a slow reader loses samples but no state change', () => {
  const out = new PassThrough({ highWaterMark: 1 });
  const renderer = jsonRenderer(out, new Recorder());
  renderer.event({ event: 'note', message: 'fills the buffer' });
  assert.ok(out.writableNeedDrain);
  renderer.event({ event: 'progress', ...pairSnapshot() });
  renderer.event({ event: 'phase', pair: 'a', from: 'checking', to: 'snapshot' });
  out.end();
  out.setEncoding('utf8');
  let text = '';
  out.on('data', (chunk: string) => {
    text += chunk;
  });
  return new Promise<void>((resolve) => {
    out.on('end', () => {
      const events = text
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { event: string }).event);
      assert.deepEqual(events, ['note', 'phase']);
      resolve();
    });
  });
});
