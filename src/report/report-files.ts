/**
 * report.json and report.html in the run folder: listens in front of a renderer, and writes both when the session ends.
 * A report that cannot be written is said, and changes nothing about how the session ended.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CutoverError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import type { Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import { readRunFolder } from '../migrate/run-folder.ts';
import { filtered } from '../ui/filter.ts';
import { harmlessJson } from '../ui/json.ts';
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
