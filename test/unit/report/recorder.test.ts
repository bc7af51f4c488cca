/** What the report tells of a run: of one session, of a resumed one, and of one that was killed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MigrationEvent } from '../../../src/core/events.ts';
import type { RunReport } from '../../../src/report/model.ts';
import { at, runFile, Session } from './support.ts';

type Summary = Extract<MigrationEvent, { event: 'summary' }>;

function summary(
  phase: Summary['pairs'][number]['phase'],
  change: Partial<Summary> = {},
  outageMs: number | null = null,
): Summary {
  const pairs = [{ pair: 'cart', phase, keys: 100, seconds: 9, writeOutageMs: outageMs, notes: ['a note'] }];
  return { event: 'summary', outcome: 'promoted', exitCode: 0, pairs, ...change };
}

/** As it comes back from report.json. */
function stored(report: RunReport): RunReport {
  return JSON.parse(JSON.stringify(report)) as RunReport;
}

test('one session: everything that was told, with its time', () => {
  const session = new Session(0);
  session
    .at(
      1,
      { event: 'check', pair: 'cart', name: 'versions', status: 'ok', detail: 'redis 6.2 to redis 7.2' },
      { event: 'check', pair: 'cart', name: 'clock', status: 'warn', detail: 'old', hint: 'ntp' },
      { event: 'check', pair: 'cart', name: 'clock', status: 'ok', detail: 'looked again' },
    )
    .at(2, { event: 'action', by: 'keyboard', action: 'start', result: 'asked' })
    .phase(3, 'cart', 'checking', 'snapshot')
    .progress(4, 'cart', 5)
    .phase(5, 'cart', 'snapshot', 'catching-up')
    .at(6, { event: 'verify', pair: 'cart', compared: 10, different: 1, missing: 2, extra: 3 })
    .at(7, { event: 'note', message: 'of all' }, { event: 'note', pair: 'cart', message: 'of one' })
    .at(8, { event: 'step', pair: 'cart', name: 'drained', ms: 12.5 })
    .at(9, { event: 'error', pair: 'cart', code: 'c', message: 'm', hint: 'h', recovery: 'none' })
    .phase(10, 'cart', 'catching-up', 'failed', 'm');
  const client = {
    pair: 'cart',
    addr: '10.0.0.1:5',
    name: 'web',
    user: 'app',
    lastCommand: 'get',
    idleSeconds: 1,
  };
  session
    .at(11, { event: 'clients', ...client, writing: true })
    .at(12, { event: 'clients', ...client, lastCommand: 'ping', writing: false });

  const report = session
    .at(13)
    .recorder.report(runFile(['cart']), session.journal, summary('failed', {}, 217));
  const [pair] = report.pairs;
  assert.ok(pair);
  assert.deepEqual(report.sessions, [
    {
      kind: 'ended',
      command: 'migrate',
      version: '0.1.0',
      by: 'op@desk',
      startedAt: at(0),
      endedAt: at(13),
      outcome: 'promoted',
      exitCode: 0,
    },
  ]);
  assert.deepEqual(pair.phases, [
    { at: at(0), phase: 'checking', reason: null },
    { at: at(3), phase: 'snapshot', reason: null },
    { at: at(5), phase: 'catching-up', reason: null },
    { at: at(10), phase: 'failed', reason: 'm' },
  ]);
  assert.deepEqual(
    pair.checks.map(({ name, detail }) => [name, detail]),
    [
      ['versions', 'redis 6.2 to redis 7.2'],
      ['clock', 'looked again'],
    ],
  );
  assert.deepEqual(pair.verifies, [{ at: at(6), compared: 10, different: 1, missing: 2, extra: 3 }]);
  assert.deepEqual(pair.steps, [{ at: at(8), name: 'drained', ms: 12.5, detail: null }]);
  assert.deepEqual(
    pair.messages.map(({ kind, text, hint }) => [kind, text, hint]),
    [
      ['note', 'of one', null],
      ['error', 'm', 'h'],
    ],
  );
  assert.deepEqual(
    report.messages.map(({ text }) => text),
    ['of all'],
  );
  assert.deepEqual(
    pair.clients.map(({ lastCommand, writing, firstAt, at }) => [lastCommand, writing, firstAt, at]),
    [['ping', true, at(11), at(12)]],
  );
  assert.deepEqual(report.actions, [{ at: at(2), by: 'keyboard', action: 'start', result: 'asked' }]);
  assert.equal(pair.source, 'old-cart:6379');
  assert.equal(pair.feed, 'write');
  assert.equal(pair.writeOutageMs, 217);
  assert.deepEqual(pair.remarks, ['a note']);
  assert.equal(pair.series.points.length, 1);
});

test('a resumed run goes on with the report of before', () => {
  const first = new Session(0).phase(1, 'cart', 'checking', 'snapshot').progress(2, 'cart', 9);
  first
    .at(3, { event: 'check', pair: 'cart', name: 'clock', status: 'ok', detail: 'fine' })
    .at(3, { event: 'action', by: 'keyboard', action: 'quit', result: 'asked' })
    .phase(4, 'cart', 'snapshot', 'stopped', 'cancelled');
  const run = runFile(['cart']);
  const before = first
    .at(5)
    .recorder.report(run, first.journal, summary('stopped', { outcome: 'cancelled', exitCode: 6 }, 44));
  const second = new Session(60, stored(before), 'resume')
    .phase(61, 'cart', 'checking', 'promoted', 'it was promoted before')
    .progress(62, 'cart', 1);
  const report = second
    .at(63)
    .recorder.report(run, [...first.journal, ...second.journal], summary('promoted'));
  assert.deepEqual(
    report.sessions.map((session) => [session.kind, session.startedAt, session.endedAt]),
    [
      ['ended', at(0), at(5)],
      ['ended', at(60), at(63)],
    ],
  );
  const [pair] = report.pairs;
  assert.deepEqual(
    pair?.phases.map(({ phase }) => phase),
    ['checking', 'snapshot', 'stopped', 'checking', 'promoted'],
  );
  assert.equal(pair?.writeOutageMs, 44, 'of the cutover before');
  assert.equal(pair?.checks.length, 1, 'there was no new preflight');
  assert.deepEqual(
    pair?.series.points.map((point) => point[1]),
    [9, 1],
  );
  assert.equal(report.actions.length, 1);
});

test('a session that was killed made no report: the journal tells its phases', () => {
  const killed = new Session(0)
    .phase(1, 'cart', 'checking', 'snapshot')
    .phase(3, 'cart', 'snapshot', 'catching-up');
  const second = new Session(60, null, 'resume').phase(61, 'cart', 'checking', 'in-sync');
  const run = runFile(['cart']);
  const journal = [...killed.journal, ...second.journal];
  const report = second.at(62).recorder.report(run, journal, summary('stopped'));
  const third = new Session(90, stored(report), 'resume').phase(91, 'cart', 'checking', 'in-sync');
  const again = third.at(92).recorder.report(run, [...journal, ...third.journal], summary('stopped'));
  for (const each of [report, again]) {
    assert.deepEqual(each.sessions[0], { kind: 'killed', startedAt: at(1), endedAt: at(3) });
    assert.deepEqual(
      each.pairs[0]?.phases.slice(0, 4).map((phase) => [phase.at, phase.phase]),
      [
        [at(1), 'snapshot'],
        [at(3), 'catching-up'],
        [at(60), 'checking'],
        [at(61), 'in-sync'],
      ],
    );
  }
  assert.equal(report.sessions.length, 2);
  assert.equal(again.sessions.length, 3);
});

test('memory is bounded: long lists lose their middle, and say so', () => {
  const session = new Session(0);
  for (let index = 0; index < 5_000; index++) {
    session.at(index, { event: 'note', pair: 'cart', message: `note ${index}` });
    const client = {
      addr: `10.0.0.1:${index}`,
      name: '',
      user: 'default',
      lastCommand: 'get',
      idleSeconds: 0,
    };
    session.at(index, { event: 'clients', pair: 'cart', ...client, writing: false });
  }
  const [pair] = session.recorder.report(runFile(['cart']), [], summary('promoted')).pairs;
  assert.equal(pair?.messages.length, 400);
  assert.equal(pair.messages[0]?.text, 'note 0');
  assert.equal(pair.messages.at(-1)?.text, 'note 4999');
  assert.equal(pair.clients.length, 400);
  assert.equal(pair.omitted, 9_200);
});
