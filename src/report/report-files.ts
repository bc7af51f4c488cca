/**
 * report.json and report.html in the run folder, or one file of a command that has none: listens in front of a renderer,
 * and writes when the session ends. A report that cannot be written then is said, and changes nothing about how the
 * session ended.
 */
import { accessSync, constants, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { PairSpec } from '../core/endpoint.ts';
import { CutoverError, UsageError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import type { Renderer } from '../core/ports.ts';
import { harmlessJson, printable } from '../core/text.ts';
import { readRunFolder } from '../migrate/run-folder.ts';
import { filtered } from '../ui/filter.ts';
import { REPORT_FORMAT, type RunReport } from './model.ts';
import { reportPage } from './page.ts';
import { Recorder, type SessionFacts } from './recorder.ts';

const JSON_FILE = 'report.json';
const HTML_FILE = 'report.html';
/** It names hosts, users and clients. */
const FILE_MODE = 0o600;

/**
 * `inner`, and a report of what goes through it, in the run folder `dir`. Where the session has no folder of its own (it
 * was refused or cancelled before its start) there is none.
 *
 * @param resumes whether the folder's run is gone on with: what was reported of it before stays
 */
export function withReport(inner: Renderer, dir: string, resumes: boolean, facts: SessionFacts): Renderer {
  let former: RunReport | null = null;
  try {
    if (resumes) former = readReport(dir);
  } catch (error) {
    inner.say(`the report of before is left out: ${reasonOf(error)}`);
  }
  const recorder = new Recorder(facts, former);
  return filtered(inner, (event) => {
    recorder.event(event);
    // before the last line of all
    if (event.event === 'summary') write(inner, dir, resumes, recorder, event);
    inner.event(event);
  });
}

/**
 * `inner`, and a report of what goes through it in the new file `path`: for `check` and `verify`, which have no run folder.
 * JSON where the name ends in `.json`, else HTML.
 *
 * @throws UsageError `report-file` where it is clear now that the file cannot be written
 */
export function withReportFile(
  inner: Renderer,
  path: string,
  pairs: readonly PairSpec[],
  facts: SessionFacts,
): Renderer {
  const refusal = whyUnwritable(path);
  if (refusal !== null) {
    throw new UsageError(`the report ${printable(path, 1000)} cannot be written: ${refusal}`, {
      code: 'report-file',
      hint: 'give another name with --report; a file that is there is not overwritten',
    });
  }
  const recorder = new Recorder(facts);
  return filtered(inner, (event) => {
    // no pair begins
    if (event.event !== 'phase' && event.event !== 'progress') recorder.event(event);
    if (event.event === 'summary') {
      try {
        const about = { runId: null, startedAt: recorder.startedAt, pairs };
        const report = recorder.report(about, [], { ...event, pairs: [] });
        const text = /\.json$/i.test(path) ? `${harmlessJson(report)}\n` : reportPage(report);
        writeFileSync(path, text, { mode: FILE_MODE, flag: 'wx' });
        inner.say(`Report: ${printable(path, 1000)}`);
      } catch (error) {
        inner.say(`the report could not be written: ${reasonOf(error)}`);
      }
    }
    inner.event(event);
  });
}

/** null: nothing is in the way. */
function whyUnwritable(path: string): string | null {
  if (existsSync(path)) return 'EEXIST';
  try {
    accessSync(dirname(path), constants.W_OK);
    return null;
  } catch (error) {
    return reasonOf(error);
  }
}

function write(
  inner: Renderer,
  dir: string,
  resumes: boolean,
  recorder: Recorder,
  summary: Extract<MigrationEvent, { event: 'summary' }>,
): void {
  try {
    const folder = readRunFolder(dir);
    // an older one is the folder of another run, which was why this one could not begin
    if (folder === null || (!resumes && folder.run.startedAt < recorder.startedAt)) return;
    const report = recorder.report(folder.run, folder.journal, summary);
    replace(join(dir, JSON_FILE), `${harmlessJson(report)}\n`);
    replace(join(dir, HTML_FILE), reportPage(report));
    inner.say(`Report: ${printable(join(dir, HTML_FILE), 1000)}`);
  } catch (error) {
    inner.say(`the report could not be written: ${reasonOf(error)}`);
  }
}

/** null where there is none. */
function readReport(dir: string): RunReport | null {
  const path = join(dir, JSON_FILE);
  if (!existsSync(path)) return null;
  const report = JSON.parse(readFileSync(path, 'utf8')) as RunReport;
  return report.format === REPORT_FORMAT ? report : null;
}

/** A reader sees the old file or the new one. */
function replace(path: string, text: string): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, text, { mode: FILE_MODE });
  renameSync(temporary, path);
}

function reasonOf(error: unknown): string {
  if (error instanceof CutoverError) return printable(error.message);
  const { code } = error as NodeJS.ErrnoException;
  return code ?? (error instanceof Error ? printable(error.message) : 'unknown');
}
