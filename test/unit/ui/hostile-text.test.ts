/**
 * Hostile text in every field of every event that has room for text, through everything that shows or keeps events:
 * lines, table and details, NDJSON, log, findings, metrics, journal, report. Which escapes stand there instead is told
 * by the tests of each of them.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { WriteStream } from 'node:tty';
import { crashText } from '../../../src/core/errors.ts';
import type { MigrationEvent, PairSnapshot } from '../../../src/core/events.ts';
import type { RunOptions } from '../../../src/core/options.ts';
import { PHASES } from '../../../src/core/phase.ts';
import type { Renderer } from '../../../src/core/ports.ts';
import { harmlessJson, printable } from '../../../src/core/text.ts';
import { metricsText } from '../../../src/fleet/metrics.ts';
import { RunFolder } from '../../../src/migrate/run-folder.ts';
import { mismatchLine, mismatchText } from '../../../src/migrate/verify/mismatches.ts';
import { reportPage } from '../../../src/report/page.ts';
import { findingsTable } from '../../../src/ui/findings-table.ts';
import { jsonRenderer } from '../../../src/ui/json.ts';
import { liveRenderer } from '../../../src/ui/live.ts';
import { withLog } from '../../../src/ui/log-file.ts';
import { plainRenderer } from '../../../src/ui/plain.ts';
import {
  assertHarmless,
  assertHarmlessJson,
  assertHarmlessOnTerminal,
  HOSTILE_BYTES,
  HOSTILE_TEXTS,
} from '../../helpers/hostile.ts';
import { at, runFile, Session } from '../report/support.ts';
import { pairSnapshot, Recorder } from './fake.ts';

type EventName = MigrationEvent['event'];
type Made = { readonly [Name in EventName]: (text: string) => Extract<MigrationEvent, { event: Name }> };

function snapshotOf(text: string, phase: PairSnapshot['phase'] = 'snapshot'): PairSnapshot {
  const fields = { pair: text, source: text, target: text, wave: text, reason: text, wayBack: text };
  return pairSnapshot({ ...fields, phase, divergences: 1 });
}

const MADE: Made = {
  phase: (text) => ({ event: 'phase', pair: text, from: 'checking', to: 'snapshot', reason: text }),
  progress: (text) => ({ event: 'progress', ...snapshotOf(text) }),
  check: (text) => ({ event: 'check', pair: text, name: text, status: 'refuse', detail: text, hint: text }),
  clients: (text) => ({
    event: 'clients',
    pair: text,
    addr: text,
    name: text,
    user: text,
    lastCommand: text,
    idleSeconds: 1,
    writing: true,
  }),
  verify: (text) => ({ event: 'verify', pair: text, compared: 1, different: 1, missing: 1, extra: 1 }),
  'verify-progress': (text) => ({
    event: 'verify-progress',
    pair: text,
    compared: 1,
    total: 2,
    suspects: 1,
    round: 1,
  }),
  action: (text) => ({
    event: 'action',
    pair: text,
    by: 'control',
    action: text,
    result: 'asked',
    detail: text,
  }),
  step: (text) => ({ event: 'step', pair: text, name: text, ms: 1, detail: text }),
  note: (text) => ({ event: 'note', pair: text, message: text }),
  error: (text) => ({ event: 'error', pair: text, code: text, message: text, hint: text, recovery: text }),
  summary: (text) => ({
    event: 'summary',
    outcome: text,
    exitCode: 7,
    pairs: [{ pair: text, phase: 'stopped', keys: 1, seconds: 1, writeOutageMs: 1, notes: [text] }],
  }),
};

function eventsOf(text: string): MigrationEvent[] {
  const { summary, ...others } = MADE;
  const general = [
    { event: 'note', message: text },
    { event: 'error', code: text, message: text, hint: text, recovery: text },
  ] as const;
  return [...Object.values(others).map((make) => make(text)), ...general, summary(text)];
}

/** All that a renderer can be told, with this text in it. */
function tellAll(renderer: Renderer, text: string): void {
  renderer.step(text)('ok', text);
  for (const phase of PHASES) renderer.frame([snapshotOf(text, phase)], text);
  renderer.say(text);
  for (const event of eventsOf(text)) renderer.event(event);
}

/** The text was shown, in whatever form: cut or escaped, but its beginning is there. */
function assertShown(output: string, text: string): void {
  assert.ok(output.includes(text.slice(0, 2)), output.slice(0, 300));
}

function folder(t: { after(end: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-hostile-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('lines off a terminal', () => {
  for (const text of HOSTILE_TEXTS) {
    const out = new Recorder();
    tellAll(plainRenderer(out), text);
    assertShown(out.text, text);
    assertHarmless(out.text, text.slice(0, 12));
  }
});

test('NDJSON and the log: harmless as it stands, and a reader gets the text as it was', (t) => {
  const log = join(folder(t), 'log');
  for (const text of HOSTILE_TEXTS) {
    const [out, people] = [new Recorder(), new Recorder()];
    tellAll(withLog(jsonRenderer(out, people), log), text);
    assertHarmless(people.text, 'stderr');
    const events = assertHarmlessJson(out.text, text.slice(0, 12));
    assert.deepEqual(new Set(events.map(({ event }) => event)), new Set(Object.keys(MADE)));
    const note = events.find(({ event }) => event === 'note');
    assert.equal(note?.['message'], text);
  }
  const logged = assertHarmlessJson(readFileSync(log, 'utf8'), 'the log');
  assert.equal(logged.length, HOSTILE_TEXTS.length * eventsOf('').length);
});

class FakeTerminal extends Recorder {
  isTTY = true;
  columns = 80;
  rows = 24;
  hasColors(): boolean {
    return true;
  }
  cursorTo(): void {}
  moveCursor(): void {}
  clearLine(): void {}
}

test('table and details on a terminal', async () => {
  for (const text of HOSTILE_TEXTS) {
    const terminal = new FakeTerminal();
    const live = liveRenderer(terminal as unknown as WriteStream);
    live.frame([snapshotOf(text), snapshotOf('second', 'in-sync')], text);
    // chosen, then its details
    for (const event of eventsOf(text).slice(0, -3)) live.event(event);
    for (const key of ['down', 'details'] as const) live.viewKey(key);
    tellAll(live, text);
    live.close();
    assertShown(terminal.text, text);
    assertHarmlessOnTerminal(terminal.text, text.slice(0, 12));
  }
});

test('findings of check, list of keys, trace of a crash', () => {
  for (const text of HOSTILE_TEXTS) {
    const check = { name: text, status: 'refuse', detail: text, hint: text } as const;
    const pairs = [
      { pair: text, checks: [check], error: null },
      { pair: text, checks: [], error: text },
    ];
    const lines = findingsTable(pairs);
    for (const line of lines) assert.ok(!line.includes('\n'));
    assertHarmless(lines.join('\n'), 'findings');
    for (const key of [Buffer.from(text), HOSTILE_BYTES]) {
      const mismatch = { db: 0, key, kind: 'value', type: text, repaired: text } as const;
      assertHarmless(mismatchText(mismatch), 'a key that differs');
      const [line] = assertHarmlessJson(`${mismatchLine(text, mismatch)}\n`, 'mismatch file');
      const named = line?.['key'] ?? Buffer.from(String(line?.['keyBase64']), 'base64');
      assert.deepEqual(Buffer.from(named as string | Buffer), key);
    }
    const error = Object.assign(new Error(text), { name: text });
    assertHarmless(crashText(error), 'the trace of a crash');
    assertHarmless(crashText(text), 'what was thrown');
  }
});

test('metrics: one line for each sample, whatever the names', () => {
  const session = { startedAt: new Date(0), version: HOSTILE_TEXTS[0] ?? '' };
  const text = metricsText(
    session,
    HOSTILE_TEXTS.map((name) => snapshotOf(name, 'in-sync')),
  );
  assertHarmless(text, 'metrics');
  for (const line of text.trimEnd().split('\n')) {
    assert.match(
      line,
      /^(# (HELP|TYPE) redis_cutover_[a-z_]+ .+|redis_cutover_[a-z_]+(\{([a-z]+="([^"\\]|\\["\\])*",?)+\})? [\d.]+)$/,
    );
  }
  assert.equal(text.match(/^redis_cutover_up /gm)?.length, 1);
});

test('report.html and report.json', () => {
  for (const text of HOSTILE_TEXTS) {
    const session = new Session(0, null, text, 1).at(1, ...eventsOf(text));
    session.journal.push({
      kind: 'target-settings',
      pair: text,
      data: [{ name: text, value: text }],
      at: at(1),
    });
    const { summary } = MADE;
    const report = session.recorder.report(runFile([text]), session.journal, summary(text));
    const page = reportPage(report);
    assertHarmless(page, 'report.html');
    assert.doesNotMatch(page, /<script|<img|<x>|onerror=alert\(2\)>/);
    assertHarmlessJson(`${harmlessJson(report)}\n`, 'report.json');
  }
});

test('run.json and the journal: harmless as they stand, read as they were written', async (t) => {
  const dir = folder(t);
  const server = (text: string) => ({ host: text, port: 1, username: text, password: null, tls: null });
  const pairs = HOSTILE_TEXTS.map((text) => ({
    name: text,
    wave: text,
    source: server(text),
    target: server(text),
  }));
  const run = await RunFolder.create(dir, 'r', pairs, { runDir: dir, spoolLimitBytes: 1 } as RunOptions);
  for (const text of HOSTILE_TEXTS) await run.append({ kind: 'note', pair: text, data: { [text]: text } });
  const written = await run.readJournal();
  await run.close();
  for (const file of ['run.json', 'journal.ndjson']) {
    assertHarmless(readFileSync(join(dir, file), 'utf8'), file);
  }
  assertHarmlessJson(readFileSync(join(dir, 'journal.ndjson'), 'utf8'), 'journal');
  assert.deepEqual(
    written.map(({ pair }) => pair),
    HOSTILE_TEXTS,
  );
  const again = await RunFolder.open(dir);
  assert.deepEqual(
    again.run.pairs.map(({ name, source }) => [name, source.username]),
    HOSTILE_TEXTS.map((text) => [text, text]),
  );
  await again.close();
});

test('printable: what cannot be seen is shown as an escape, and all else stays', () => {
  assert.equal(
    printable('a\u001b[2J\u009b\u202e\u200b\u00ad\u{e0041}\ud800\r\n\t'),
    String.raw`a\x1b[2J\x9b\u202e\u200b\xad\u{e0041}\ud800\r\n\t`,
  );
  const fine = 'Grüße, 漢字 עברית العربية 🎉 naïve é ½ ﬀ';
  assert.equal(printable(fine), fine);
  assert.equal(printable('🎉🎉', 3), '🎉\\ud83c…');
});
