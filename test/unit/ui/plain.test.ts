import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutRepeats } from '../../../src/ui/filter.ts';
import { plainRenderer } from '../../../src/ui/plain.ts';
import { pairSnapshot, Recorder } from './fake.ts';

test('one line per state change, hints below errors, no escape reaches the log', () => {
  const out = new Recorder();
  const renderer = plainRenderer(out);
  renderer.event({ event: 'phase', pair: 'a\x1b[2J', from: 'checking', to: 'snapshot', reason: 'go' });
  renderer.event({ event: 'check', pair: 'a', name: 'tls', status: 'ok', detail: 'fine' });
  renderer.event({
    event: 'check',
    pair: 'a',
    name: 'empty',
    status: 'refuse',
    detail: '40 keys',
    hint: 'FLUSHALL',
  });
  renderer.event({ event: 'step', pair: 'a', name: 'fenced', ms: 460, detail: '2 users' });
  renderer.event({ event: 'verify', pair: 'a', compared: 1234, different: 1, missing: 0, extra: 0 });
  renderer.event({
    event: 'clients',
    pair: 'a',
    addr: '10.0.0.9:5',
    name: '',
    user: 'app',
    lastCommand: 'set',
    idleSeconds: 3,
    writing: true,
  });
  renderer.event({ event: 'note', message: 'x' });
  renderer.event({
    event: 'error',
    pair: 'a',
    code: 'target-oom',
    message: 'OOM\r',
    hint: 'raise maxmemory',
    recovery: 'operator',
  });
  renderer.step('dialling')('ok');
  renderer.say('bye');
  assert.deepEqual(out.lines(), [
    'a\\x1b[2J: checking -> snapshot (go)',
    'a: refused: empty: 40 keys',
    '  -> FLUSHALL',
    'a: 0.46 s  fenced: 2 users',
    'a: compared 1,234 keys: 1 different, 0 missing, 0 extra',
    'a: client 10.0.0.9:5  user app  set 3.0 s ago  writing',
    'x',
    'a: error: OOM\\r [target-oom]',
    '  -> raise maxmemory',
    'dialling ...',
    'ok: dialling',
    'bye',
  ]);
});

test('verify: how far it is, and all that it found', () => {
  const out = new Recorder();
  let now = 0;
  const renderer = plainRenderer(out, () => now);
  const progress = {
    event: 'verify-progress',
    pair: 'a\x1b',
    compared: 2000,
    total: 9000,
    suspects: 3,
  } as const;
  renderer.event({ ...progress, round: 0 });
  now += 10_000;
  renderer.event({ ...progress, suspects: 0, round: 0 });
  now += 10_000;
  renderer.event({ ...progress, round: 2 });
  const result = { pair: 'a', compared: 9000, different: 0, missing: 0, extra: 1 };
  renderer.event({ event: 'verify', ...result, unsettled: 2, repaired: 1 });
  assert.deepEqual(out.lines(), [
    'a\\x1b: compared 2,000 of 9,000 keys, 3 to be looked at again',
    'a\\x1b: compared 2,000 of 9,000 keys',
    'a\\x1b: compared 2,000 of 9,000 keys, looking again at 3 (round 2)',
    'a: compared 9,000 keys: 0 different, 0 missing, 1 extra, 2 written to all the time, and not judged, 1 repaired',
  ]);
});

test('progress: one line per pair per 10 s, from events and frames alike, and none where nothing changed', () => {
  const out = new Recorder();
  let nowMs = 0;
  const renderer = plainRenderer(out, () => nowMs);
  const other = pairSnapshot({ pair: 'b', phase: 'in-sync' });
  renderer.frame([pairSnapshot(), other], '[q] quit');
  renderer.event({ event: 'progress', ...pairSnapshot({ keys: 1 }) });
  nowMs = 9_999;
  renderer.frame([pairSnapshot({ keys: 2 }), other], '');
  assert.deepEqual(out.lines(), [
    '10.0.0.1:6379: snapshot (write): 52% of 588 MB, 1,600,000 keys, 61.0 MB/s, ETA 21 s',
    'b: in-sync (write): lag 0 B 0 s, 0 commands/s',
  ]);
  nowMs = 10_000;
  renderer.frame([pairSnapshot({ keys: 3, divergences: 2, reason: 'slow' }), other], '');
  assert.deepEqual(out.lines().slice(2), [
    '10.0.0.1:6379: snapshot (write): 52% of 588 MB, 3 keys, 61.0 MB/s, ETA 21 s, 2 commands refused by the target, slow',
  ]);
});

test('behind the cutover the progress is the way back; without one there is nothing to say', () => {
  const out = new Recorder();
  let nowMs = 0;
  const renderer = plainRenderer(out, () => nowMs);
  const promoted = pairSnapshot({ phase: 'promoted', feed: 'attach' });
  const wayBack = 'rollback lossless: the old source follows, 0 B behind\x1b[2J';
  renderer.frame([promoted], '');
  renderer.frame([{ ...promoted, wayBack }], '');
  nowMs = 20_000;
  renderer.frame([{ ...promoted, wayBack }], '');
  assert.deepEqual(out.lines(), [
    '10.0.0.1:6379: promoted (attach): rollback lossless: the old source follows, 0 B behind\\x1b[2J',
  ]);
});

test('a pair that was rolled back is said to be, and what to do', () => {
  const out = new Recorder();
  const pairs = [
    { pair: 'a', phase: 'rolled-back' as const, keys: 5, seconds: 1, writeOutageMs: 40, notes: [] },
  ];
  plainRenderer(out).event({ event: 'summary', outcome: 'rolled-back', exitCode: 6, pairs });
  assert.deepEqual(out.lines(), [
    'a: rolled-back, 5 keys, 1.0 s, writes stood still for 40 ms',
    '    the source takes writes again, with all that the target took meanwhile: point the applications back at it',
    'rolled-back (exit code 6: cancelled or rolled back)',
  ]);
});

test('the summary says what became of each pair, what is left to do, and what the exit code means', () => {
  const out = new Recorder();
  const fence = `ACL SETUSER app ${'+set '.repeat(200)}END`;
  plainRenderer(out).event({
    event: 'summary',
    outcome: 'promoted',
    exitCode: 7,
    pairs: [
      {
        pair: 'a',
        phase: 'promoted',
        keys: 3_000_000,
        seconds: 12.4,
        writeOutageMs: 460,
        notes: [`lift it:\n${fence}`],
      },
      { pair: 'b', phase: 'stopped', keys: 0, seconds: 1, writeOutageMs: null, notes: [] },
    ],
  });
  assert.deepEqual(out.lines(), [
    'a: promoted, 3,000,000 keys, 12 s, writes stood still for 0.46 s',
    '    lift it:',
    `    ${fence}`,
    'b: stopped, 0 keys, 1.0 s',
    'promoted (exit code 7: needs attention: read the notes)',
  ]);
});

test('a refusal is told once: not again as the error of the pair, nor as the reason of its phase', () => {
  const out = new Recorder();
  const renderer = withoutRepeats(plainRenderer(out));
  const [pair, hint, recovery] = ['a', 'FLUSHALL', 'operator'];
  renderer.event({ event: 'check', pair, name: 'target-empty', status: 'refuse', detail: '40 keys', hint });
  renderer.event({ event: 'error', pair, code: 'target-empty', message: 'a: 40 keys', hint, recovery });
  renderer.event({ event: 'phase', pair, from: 'checking', to: 'failed', reason: 'a: 40 keys' });
  renderer.event({ event: 'error', pair, code: 'target-lost', message: 'a: gone', hint: '', recovery });
  renderer.event({
    event: 'error',
    pair: 'b',
    code: 'target-empty',
    message: 'b: 1 key',
    hint: '',
    recovery,
  });
  assert.deepEqual(out.lines(), [
    'a: refused: target-empty: 40 keys',
    '  -> FLUSHALL',
    'a: checking -> failed',
    'a: error: gone [target-lost]',
    'b: error: 1 key [target-empty]',
  ]);
});

test('the summary of a run that was stopped says what state the two sides are in', () => {
  const summary = (phase: 'stopped' | 'failed', outcome: string, exitCode: number): string[] => {
    const out = new Recorder();
    const pairs = [{ pair: 'a', phase, keys: 5, seconds: 1, writeOutageMs: 0, notes: [] }];
    plainRenderer(out).event({ event: 'summary', outcome, exitCode, pairs });
    return out.lines();
  };
  assert.deepEqual(summary('stopped', 'cancelled', 6).slice(0, 2), [
    'a: stopped, 5 keys, 1.0 s',
    '    the source is as it was; the target is given back with what it holds, and was not promoted',
  ]);
  // nothing was begun; it could not be given back whole; it failed
  for (const lines of [
    summary('stopped', 'refused', 3),
    summary('stopped', 'cancelled', 7),
    summary('failed', 'failed', 1),
  ])
    assert.equal(lines.length, 2);
});
