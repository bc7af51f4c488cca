/** Where the report is written, and where not; what happens when it cannot be. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { MigrationEvent } from '../../../src/core/events.ts';
import type { Renderer } from '../../../src/core/ports.ts';
import type { RunReport } from '../../../src/report/model.ts';
import { withReport } from '../../../src/report/report-files.ts';
import { runFile } from './support.ts';

const FACTS = { command: 'migrate', version: '0.1.0', by: 'op@desk', pairs: 1 };
const END: MigrationEvent = { event: 'summary', outcome: 'promoted', exitCode: 0, pairs: [] };

/** A folder that is none of a run yet, and a renderer that remembers what was said and shown. */
function setting(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-report-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const dir = join(folder, 'run');
  mkdirSync(dir);
  const said: string[] = [];
  const inner: Renderer = {
    event: (event) => said.push(event.event),
    frame() {},
    say: (text) => said.push(text),
    step: () => () => undefined,
    close() {},
  };
  return { dir, said, inner };
}

function beginRun(dir: string, startedAt = new Date().toISOString()): void {
  writeFileSync(join(dir, 'run.json'), JSON.stringify({ ...runFile(['cart']), startedAt }));
}

function reportIn(dir: string): RunReport {
  return JSON.parse(readFileSync(join(dir, 'report.json'), 'utf8')) as RunReport;
}

test('both files, for nobody else to read, said before the last line', (t) => {
  const { dir, said, inner } = setting(t);
  const renderer = withReport(inner, dir, false, FACTS);
  beginRun(dir);
  renderer.event({ event: 'note', pair: 'cart', message: '\u202e' });
  renderer.event(END);
  assert.deepEqual(said, ['note', `Report: ${join(dir, 'report.html')}`, 'summary']);
  for (const name of ['report.json', 'report.html']) {
    assert.equal(statSync(join(dir, name)).mode & 0o777, 0o600);
    assert.doesNotMatch(readFileSync(join(dir, name), 'utf8'), /\u202e/);
  }
  assert.equal(reportIn(dir).pairs[0]?.messages[0]?.text, '\u202e');
});

test('none where the session had no run folder, or where the folder is that of another run', (t) => {
  const { dir, said, inner } = setting(t);
  withReport(inner, dir, false, FACTS).event(END);
  beginRun(dir, '2026-01-01T00:00:00.000Z');
  withReport(inner, dir, false, FACTS).event(END);
  assert.deepEqual(said, ['summary', 'summary']);
  assert.ok(!existsSync(join(dir, 'report.json')));
});

test('a resumed run: the part of before stays; one that cannot be read is said and left out', (t) => {
  const { dir, said, inner } = setting(t);
  beginRun(dir, '2026-01-01T00:00:00.000Z');
  const resume = (): void => withReport(inner, dir, true, { ...FACTS, command: 'resume' }).event(END);
  resume();
  resume();
  assert.equal(reportIn(dir).sessions.length, 2);
  writeFileSync(join(dir, 'report.json'), '{');
  said.length = 0;
  resume();
  assert.match(said[0] ?? '', /^the report of before is left out: /);
  assert.equal(reportIn(dir).sessions.length, 1);
});

test('what cannot be written, or a damaged run folder, is said, and the summary comes all the same', (t) => {
  const { dir, said, inner } = setting(t);
  const renderer = withReport(inner, dir, false, FACTS);
  beginRun(dir);
  mkdirSync(join(dir, 'report.json.new'));
  renderer.event(END);
  assert.deepEqual(said, ['the report could not be written: EISDIR', 'summary']);
  writeFileSync(join(dir, 'run.json'), '{}');
  renderer.event(END);
  assert.match(said[2] ?? '', /^the report could not be written: run.json in .* is damaged$/);
});
