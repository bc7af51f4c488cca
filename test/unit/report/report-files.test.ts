/** Where the report is written, and where not; what happens when it cannot be. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Secret } from '../../../src/core/endpoint.ts';
import type { MigrationEvent } from '../../../src/core/events.ts';
import type { Renderer } from '../../../src/core/ports.ts';
import type { RunReport } from '../../../src/report/model.ts';
import { withReport, withReportFile } from '../../../src/report/report-files.ts';
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

test('of a command without a run: one new file, HTML or JSON by its name', (t) => {
  const { dir, said, inner } = setting(t);
  const { pairs } = runFile(['cart']);
  const specs = pairs.map((pair) => ({
    ...pair,
    source: { ...pair.source, password: new Secret('S3cret'), tls: null },
    target: { ...pair.target, password: null, tls: null },
  }));
  const facts = { ...FACTS, command: 'verify' };
  for (const name of ['found.html', 'found.JSON']) {
    const path = join(dir, name);
    const renderer = withReportFile(inner, path, specs, facts);
    renderer.event({ event: 'phase', pair: 'cart', from: 'checking', to: 'failed' });
    renderer.event({ event: 'note', pair: 'cart', message: 'db0 "a" (value, hash)' });
    renderer.event({ event: 'verify', pair: 'cart', compared: 12, different: 1, missing: 0, extra: 0 });
    renderer.event({
      event: 'error',
      pair: 'cart',
      code: 'c',
      message: 'm',
      hint: 'do it',
      recovery: 'none',
    });
    renderer.event({ event: 'summary', outcome: 'different', exitCode: 5, pairs: [] });
    assert.deepEqual(said.splice(0), ['phase', 'note', 'verify', 'error', `Report: ${path}`, 'summary']);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.doesNotMatch(readFileSync(path, 'utf8'), /S3cret/);
    assert.throws(() => withReportFile(inner, path, specs, facts), { code: 'report-file', exitCode: 2 });
  }
  const { runId, pairs: [pair] = [] } = JSON.parse(
    readFileSync(join(dir, 'found.JSON'), 'utf8'),
  ) as RunReport;
  assert.deepEqual(
    [runId, pair?.source, pair?.verifies[0]?.different, pair?.phases],
    [null, 'old-cart:6379', 1, []],
  );
  const page = readFileSync(join(dir, 'found.html'), 'utf8').replaceAll(/<[^>]*>/g, ' ');
  assert.match(page, /The two sides differ.*12 keys, 1 not equal.*do it.*db0 &quot;a&quot;/s);
  assert.doesNotMatch(page, /stood still|Phases|Run null/);
  assert.throws(() => withReportFile(inner, join(dir, 'none', 'x.html'), specs, facts), {
    code: 'report-file',
  });

  // taken by somebody else meanwhile
  const late = join(dir, 'late.html');
  const renderer = withReportFile(inner, late, specs, facts);
  writeFileSync(late, 'theirs');
  renderer.event(END);
  assert.deepEqual(said, ['the report could not be written: EEXIST', 'summary']);
  assert.equal(readFileSync(late, 'utf8'), 'theirs');
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
