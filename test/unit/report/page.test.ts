/**
 * report.html as a browser sees it: hostile names stay text, nothing is loaded, nothing runs. Looked at in headless
 * Chromium where there is one (`CHROMIUM=/path`, or the usual names on PATH); what can be seen in the text alone is
 * checked everywhere.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { MigrationEvent } from '../../../src/core/events.ts';
import type { RunReport } from '../../../src/report/model.ts';
import { reportPage } from '../../../src/report/page.ts';
import { runFile, Session } from './support.ts';

const CHROMIUM_MS = 60_000;
/** Would be an element, a handler, an escape sequence, and text that reads backwards. */
const HOSTILE = `<img src=x onerror=alert(1)><script>alert(2)</script>"'&\u001b]52;c;aGk=\u0007\u202egnp.\u0000`;
/** What a browser shows of it. */
const SHOWN = String.raw`<img src=x onerror=alert(1)><script>alert(2)</script>"'&\x1b]52;c;aGk=\x07\u202egnp.\x00`;

/** Everything that can come from outside is hostile. */
function hostileReport(): RunReport {
  const pair = HOSTILE;
  const session = new Session(0, null, HOSTILE, 2);
  const client = { addr: HOSTILE, name: HOSTILE, user: HOSTILE, lastCommand: HOSTILE, idleSeconds: 0 };
  session
    .at(
      1,
      { event: 'check', pair, name: 'versions', status: 'ok', detail: HOSTILE },
      { event: 'check', pair, name: HOSTILE, status: 'refuse', detail: HOSTILE, hint: HOSTILE },
      { event: 'clients', pair, ...client, writing: true },
      { event: 'note', pair, message: HOSTILE },
      { event: 'note', message: HOSTILE },
      { event: 'verify', pair, compared: 1e6, different: 3, missing: 0, extra: 0 },
      { event: 'action', pair, by: 'keyboard', action: HOSTILE, result: 'declined', detail: HOSTILE },
      { event: 'error', pair, code: HOSTILE, message: HOSTILE, hint: HOSTILE, recovery: 'none' },
      { event: 'error', code: HOSTILE, message: HOSTILE, hint: HOSTILE, recovery: 'none' },
    )
    .phase(2, pair, 'checking', 'snapshot', HOSTILE);
  for (let second = 3; second < 60; second++) session.progress(second, pair, 1000 * (second % 7));
  for (const [index, name] of ['writes paused', 'drained', HOSTILE].entries()) {
    session.at(60, { event: 'step', pair, name, ms: 20 * index, detail: HOSTILE });
  }
  session.phase(60, pair, 'snapshot', 'failed', HOSTILE);
  session.journal.push({ kind: 'run-user', pair, data: null, at: '2026-04-12T03:15:05.000Z' });
  const data = [{ name: HOSTILE, value: HOSTILE }];
  session.journal.push({ kind: 'attach', pair, data, at: '2026-04-12T03:15:05.000Z' });
  const end: Extract<MigrationEvent, { event: 'summary' }> = {
    event: 'summary',
    outcome: HOSTILE,
    exitCode: 7,
    pairs: [
      {
        pair,
        phase: 'failed',
        keys: 5,
        seconds: 60,
        writeOutageMs: 217,
        notes: [HOSTILE, 'ACL SETUSER x +@all'],
      },
    ],
  };
  return session.at(61).recorder.report(runFile([HOSTILE, 'second']), session.journal, end);
}

/** Names and attributes of the elements of our own; the text of every other `<` must be encoded. */
const OWN =
  /<!DOCTYPE html>|<\/?(?:html|head|meta|title|style|body|h[1-3]|p|div|strong|dl|dt|dd|span|ul|li|b|br|code|table|thead|tbody|tr|th|td|time|section|figure|figcaption|svg|rect|line|path|text|footer|a)(?: [a-z][a-z0-9A-Z-]*="[^"<>]*")*\/?>/g;

test('whatever names there are, the page has no element, attribute or control character but its own', () => {
  const page = reportPage(hostileReport());
  assert.doesNotMatch(page, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
  const style = /<style>([^<]*)<\/style>/.exec(page)?.[1] ?? '';
  assert.ok(style.length > 1000);
  const rest = page.replace(style, '').replaceAll(OWN, '');
  assert.doesNotMatch(rest, /[<>"']/);
  assert.doesNotMatch(page, /<script|\son[a-z]+=[^&]*>|javascript:|https?:|url\(/);
  assert.match(page, /<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; /);
});

test('a manager reads the outcome, the outage and what is left to do first', () => {
  const text = reportPage(hostileReport()).replaceAll(/<style>[^<]*<\/style>|<[^>]*>/g, ' ');
  const places = [
    'Exit code 7',
    'Writes stood still',
    '0.22 s',
    'What is left to do',
    'ACL SETUSER x +@all',
    'Lag',
  ];
  const found = places.map((place) => text.indexOf(place));
  assert.deepEqual(
    found,
    found.toSorted((one, other) => one - other),
    String(found),
  );
  assert.ok(
    found.every((index) => index > 0),
    String(found),
  );
});

test('headless Chromium shows it, and finds nothing to load, to run or to complain of', async (t) => {
  const browser = chromium();
  if (browser === null)
    return t.skip('no Chromium here: install one, or say where it is with CHROMIUM=/path');
  const { dom, complaints, picture } = look(t, browser, reportPage(hostileReport()));
  // as the browser has understood it, written out again: text is encoded in its way
  const encoded = SHOWN.replace(/[&<>]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[char] ?? '');
  assert.ok(dom.split(encoded).length > 20, 'the hostile name stands in many places, as text');
  assert.doesNotMatch(dom, /<script|<img|<iframe|<link|onerror="/);
  assert.deepEqual(complaints, [], 'the policy lets our own style in, and nothing asked for more');
  assert.ok(picture > 50_000, `a page with colours and plots, not an empty one: ${picture} bytes`);

  const alone = look(t, browser, reportPage({ ...hostileReport(), runId: null }));
  assert.deepEqual([alone.complaints, alone.dom.includes('Comparison of both sides')], [[], true]);

  const broken = reportPage(hostileReport()).replace(
    '<h1>',
    '<h1 style="color:red"><script>document.title=1</script>',
  );
  assert.ok(look(t, browser, broken).complaints.length > 0, 'this test would see what the policy refuses');
});

test('pairs that were given up stand together, with each end of their workers', () => {
  const session = new Session(0, null, 'migrate', 2);
  for (const pair of ['cart', 'sess'])
    session.phase(1, pair, 'checking', 'snapshot').phase(2, pair, 'snapshot', 'catching-up');
  session
    .phase(3, 'cart', 'catching-up', 'checking', 'its worker process ended (SIGKILL)')
    .phase(4, 'sess', 'catching-up', 'checking', 'its worker process ended (SIGKILL)')
    .phase(5, 'cart', 'checking', 'catching-up')
    .at(6, {
      event: 'error',
      pair: 'cart',
      code: 'worker-killed',
      message: 'alone in the last: it is not tried again',
      hint: 'look',
      recovery: 'operator',
    })
    .phase(6, 'cart', 'catching-up', 'failed', 'given up');
  const end = { event: 'summary', outcome: 'partly-failed', exitCode: 7, pairs: [] } as const;
  const text = reportPage(session.recorder.report(runFile(['cart', 'sess']), session.journal, end));
  const section = /<h2>Pairs that were given up<\/h2>[\s\S]*?<\/table>/.exec(text)?.[0] ?? '';
  assert.deepEqual(section.match(/href="#pair-\d+"/g), ['href="#pair-1"', 'href="#pair-1"']);
  assert.match(
    section,
    /its worker process ended \(SIGKILL\)[\s\S]*alone in the last: it is not tried again/,
  );
  assert.doesNotMatch(section, /sess/);
  const well = new Session(0).recorder.report(runFile(['cart']), [], end);
  assert.doesNotMatch(reportPage(well), /given up/);
});

/** @returns the document as Chromium has it, what it logs as errors of the page, and the size of a picture in bytes */
function look(
  t: TestContext,
  browser: string,
  page: string,
): { dom: string; complaints: string[]; picture: number } {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-page-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const file = join(folder, 'report.html');
  const picture = join(folder, 'report.png');
  writeFileSync(file, page);
  const args = [
    ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
    ...[
      '--disable-background-networking',
      `--user-data-dir=${join(folder, 'profile')}`,
      '--enable-logging=stderr',
    ],
    ...[
      '--window-size=900,1400',
      '--hide-scrollbars',
      `--screenshot=${picture}`,
      '--dump-dom',
      `file://${file}`,
    ],
  ];
  const { status, stdout, stderr } = spawnSync(browser, args, { encoding: 'utf8', timeout: CHROMIUM_MS });
  assert.equal(status, 0, stderr);
  const complaints = stderr.split('\n').filter((line) => line.includes('CONSOLE'));
  return { dom: stdout, complaints, picture: readFileSync(picture).length };
}

/** null where there is none. */
function chromium(): string | null {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'];
  const usual = names.flatMap((name) => folders.map((folder) => join(folder, name)));
  const given = process.env['CHROMIUM'];
  const isThere = (path: string): boolean => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  return (given === undefined ? usual : [given]).find(isThere) ?? null;
}
