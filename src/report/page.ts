/**
 * report.html: one file that opens anywhere, without network and without scripts. Told for somebody who was not there:
 * first how it ended, how long writes stood still and what is left to do; then each pair; then who did what. Pure.
 */
import { createHash } from 'node:crypto';
import { assertNever, EXIT } from '../core/errors.ts';
import type { CheckStatus } from '../core/events.ts';
import { formatBytes, formatCount, formatDuration, formatRate, formatShortCount } from '../ui/format.ts';
import { exitMeaning } from '../ui/report.ts';
import { type Html, html, NO_HTML, trusted } from './html.ts';
import type { ActionRecord, PairReport, PhaseRecord, RunReport, SessionReport, StepRecord } from './model.ts';
import { clock, type Line, type PhaseSpan, phaseBar, plotOf, type Span } from './plot.ts';
import type { Point } from './series.ts';
import { STYLE } from './style.ts';

/** A pause in the figures that a plot shows as one. */
const GAP_MS = 5_000;

const TITLES: Readonly<Record<string, string>> = {
  promoted: 'Moved: the new servers are the masters',
  'in-sync': 'Rehearsal: in sync, nothing was promoted',
  'rolled-back': 'Rolled back: the old servers are the masters again',
  'partly-rolled-back': 'Partly rolled back',
  'partly-failed': 'Partly failed',
  failed: 'Failed',
  cancelled: 'Ended by the operator',
  interrupted: 'Interrupted',
  refused: 'Refused by a check',
  ready: 'Nothing keeps a run from starting',
  equal: 'Both sides are equal',
  different: 'The two sides differ',
};

/** The code of the error that gives a pair up (fleet/worker-pool.ts). */
const GIVEN_UP = 'worker-killed';

const TONES: Record<CheckStatus, { readonly tone: string; readonly word: string; readonly place: number }> = {
  refuse: { tone: 'bad-text', word: 'refused', place: 0 },
  warn: { tone: 'warn-text', word: 'warning', place: 1 },
  ok: { tone: 'good-text', word: 'ok', place: 2 },
};

export function reportPage(report: RunReport): string {
  const span = spanOf(report);
  const style = trusted(STYLE);
  const page = html`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy()}">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>redis-cutover: ${report.outcome}, ${stamp(span[0])}</title>
<style>${style}</style></head><body>
<h1>redis-cutover report</h1>
<p class="soft">${about(report)}, ${stamp(span[0])} to ${stamp(span[1])} (${zone(span[1])})</p>
${outcome(report, span)}
${leftToDo(report)}
${givenUp(report, span)}
${pairTable(report)}
${report.pairs.map((pair, index) => pairSection(pair, index, report, span))}
${whoDidWhat(report)}
<footer>Made by redis-cutover ${lastSession(report)?.version ?? ''}. The same as data: ${report.runId === null ? '--report FILE.json' : 'report.json beside this file'}. Times are those of the machine that ran it.</footer>
</body></html>
`;
  return page.text;
}

/** Nothing is loaded and nothing runs; the one style sheet is known by its sum. */
function policy(): string {
  const sum = createHash('sha256').update(STYLE).digest('base64');
  return `default-src 'none'; style-src 'sha256-${sum}'; base-uri 'none'; form-action 'none'`;
}

// ---- for whoever reads only the beginning ----------------------------------------------------------------

function outcome(report: RunReport, [from, to]: Span): Html {
  const { exitCode, pairs } = report;
  const exit = `Exit code ${exitCode}: ${exitMeaning(exitCode)}.`;
  if (report.runId === null) {
    const checks = pairs.flatMap((pair) => pair.checks);
    const found =
      checks.length > 0
        ? html`<dt>Checks</dt><dd>${checkCounts({ checks })}</dd>`
        : html`<dt>Comparison</dt><dd>${latestVerdict(pairs)}</dd>`;
    return html`${banner(report, `${counted(pairs.length, 'pair')}. ${exit}`)}
<dl class="tiles"><div><dt>Took</dt><dd>${formatDuration((to - from) / 1000)}</dd></div><div>${found}</div></dl>`;
  }
  const phases = [...new Set(pairs.map(({ phase }) => phase))];
  const counts = phases.map(
    (phase) => `${formatCount(pairs.filter((pair) => pair.phase === phase).length)} ${phase}`,
  );
  const longest = pairs.reduce<PairReport | null>(
    (most, pair) => ((pair.writeOutageMs ?? -1) > (most?.writeOutageMs ?? -1) ? pair : most),
    null,
  );
  const who = pairs.length > 1 && longest !== null ? html`<span class="soft">${longest.name}</span>` : '';
  return html`${banner(report, `Of ${counted(pairs.length, 'pair')}: ${counts.join(', ')}. ${exit}`)}
<dl class="tiles"><div><dt>Writes stood still</dt><dd>${outageText(longest?.writeOutageMs ?? null)}</dd>${who}</div>
<div><dt>Took</dt><dd>${formatDuration((to - from) / 1000)}</dd></div>
<div><dt>Keys</dt><dd>${formatCount(pairs.reduce((sum, { keys }) => sum + keys, 0))}</dd></div>
<div><dt>Comparison</dt><dd>${latestVerdict(pairs)}</dd></div></dl>`;
}

function banner({ outcome, exitCode }: RunReport, text: string): Html {
  return html`<div class="outcome ${toneOf(exitCode)}"><strong>${TITLES[outcome] ?? outcome}</strong>
<p>${text}</p></div>`;
}

function toneOf(exitCode: number): 'good' | 'warn' | 'bad' {
  if (exitCode === EXIT.done) return 'good';
  return exitCode === EXIT.cancelled || exitCode === EXIT.interrupted ? 'warn' : 'bad';
}

function outageText(ms: number | null): string {
  if (ms === null) return 'not at all';
  // the target took writes already
  return ms === 0 ? 'for nobody' : formatDuration(ms / 1000);
}

/** Of the last comparison of each pair. */
function latestVerdict(pairs: readonly PairReport[]): string {
  return verdict(pairs.flatMap(({ verifies }) => verifies.at(-1) ?? []));
}

function verdict(verifies: readonly PairReport['verifies'][number][]): string {
  if (verifies.length === 0) return 'not compared';
  const sum = (of: (verify: PairReport['verifies'][number]) => number): number =>
    verifies.reduce((total, verify) => total + of(verify), 0);
  const bad = sum(({ different, missing, extra }) => different + missing + extra);
  const keys = counted(
    sum(({ compared }) => compared),
    'key',
  );
  return bad === 0 ? `${keys}, all equal` : `${keys}, ${formatCount(bad)} not equal`;
}

function leftToDo({ runId, pairs, messages }: RunReport): Html {
  const items = pairs.flatMap((pair) => {
    const error =
      runId === null || pair.phase === 'failed'
        ? pair.messages.findLast(({ kind }) => kind === 'error')
        : undefined;
    const found = pair.verifies.at(-1);
    const unequal = found === undefined ? 0 : found.different + found.missing + found.extra;
    const lines = [
      ...(unequal === 0 ? [] : [`the two sides are not equal: ${verdict(pair.verifies.slice(-1))}`]),
      ...(error === undefined ? [] : [`failed: ${error.text}`, ...(error.hint ? [error.hint] : [])]),
      ...pair.remarks.flatMap((remark) => remark.split('\n')),
    ];
    return lines.length === 0 ? [] : [html`<li><b>${pair.name}</b><br>${lines.map(remarkLine)}</li>`];
  });
  const failed = messages.filter(({ kind }) => kind === 'error').at(-1);
  const own = failed === undefined ? [] : [html`<li>${failed.text}<br>${failed.hint ?? ''}</li>`];
  const list = [...own, ...items];
  return html`<h2>What is left to do, or to know</h2>
${list.length === 0 ? html`<p>Nothing.</p>` : html`<ul class="todo">${list}</ul>`}`;
}

/** Pairs that killed their worker process again and again: when, and with what words. */
function givenUp({ pairs }: RunReport, run: Span): Html {
  const rows = pairs.flatMap(({ name, phases, messages }, index) => {
    const end = messages.findLast(({ code }) => code === GIVEN_UP);
    if (end === undefined) return [];
    // a pair begins again in another worker, and the reason says how the one before it ended
    const deaths = phases.filter(({ phase, reason }) => phase === 'checking' && reason !== null);
    const lines = [...deaths.map(({ at, reason }) => ({ at, text: reason ?? '' })), end];
    return lines.map(
      ({
        at,
        text,
      }) => html`<tr><td class="name"><a href="#pair-${index + 1}">${name}</a></td><td>${time(Date.parse(at), run)}</td><td class="wide">${text}</td></tr>
`,
    );
  });
  if (rows.length === 0) return NO_HTML;
  return html`<h2>Pairs that were given up</h2>
<p>Their worker processes ended again and again, and nobody has given their targets back: redis-cutover resume does, and tries them once more.</p>
${table(['pair', 'at', 'why'], rows)}`;
}

function remarkLine(line: string): Html {
  const isCommand = /^(ACL|CONFIG|CLIENT|REPLICAOF|SLAVEOF|redis-cli|redis-cutover) /.test(line);
  return isCommand ? html`<code>${line}</code><br>` : html`${line}<br>`;
}

function pairTable({ runId, pairs }: RunReport): Html {
  if (pairs.length < 2) return NO_HTML;
  if (runId === null) {
    const rows = pairs.map(
      (pair, index) => html`<tr><td class="name"><a href="#pair-${index + 1}">${pair.name}</a></td>
<td>${verdict(pair.verifies.slice(-1))}</td><td>${checkCounts(pair)}</td></tr>
`,
    );
    return html`<h2>Pairs</h2>${table(['pair', 'comparison', 'checks'], rows)}`;
  }
  const rows = pairs.map(
    (pair, index) => html`<tr><td class="name"><a href="#pair-${index + 1}">${pair.name}</a></td>
<td>${pair.phase}</td><td>${outageText(pair.writeOutageMs)}</td><td>${formatCount(pair.keys)}</td>
<td>${verdict(pair.verifies.slice(-1))}</td><td>${checkCounts(pair)}</td></tr>
`,
  );
  return html`<h2>Pairs</h2>${table(['pair', 'ended', 'writes stood still', 'keys', 'comparison', 'checks'], rows)}`;
}

function checkCounts({ checks }: Pick<PairReport, 'checks'>): string {
  if (checks.length === 0) return 'none';
  const bad = checks.filter(({ status }) => status !== 'ok').length;
  return bad === 0 ? `${checks.length} ok` : `${bad} of ${checks.length} not ok`;
}

// ---- one pair --------------------------------------------------------------------------------------------

function pairSection(pair: PairReport, index: number, report: RunReport, span: Span): Html {
  const spans = phaseSpans(pair.phases, report.sessions);
  const versions = pair.checks.find(({ name }) => name === 'versions')?.detail;
  const feed = pair.feed === null ? '' : `, fed by ${pair.feed}`;
  const servers = `${pair.source} to ${pair.target}${feed}${versions === undefined ? '' : `; ${versions}`}.`;
  const story =
    report.runId === null
      ? html`<p>${servers}</p>`
      : html`<p>${servers} Ended ${pair.phase}; writes stood still: ${outageText(pair.writeOutageMs)}.</p>
<h3>Phases</h3>${phaseBar(spans, span)}${phaseTable(pair.phases, spans, span)}`;
  return html`<section id="pair-${index + 1}"><h2>${pair.name}</h2>
${story}
${plots(pair, span)}
${cutovers(pair.steps, span)}
${verifyTable(pair, span)}
${clientTable(pair, span)}
${settingTable(pair, span)}
${checkTable(pair)}
${messageTable(pair.messages, span)}
${pair.omitted === 0 ? NO_HTML : html`<p class="soft">Long lists are cut in the middle: ${counted(pair.omitted, 'entry', 'entries')} left out.</p>`}
</section>
`;
}

/** A phase lasts until the next one, or until its session ended. */
function phaseSpans(phases: readonly PhaseRecord[], sessions: readonly SessionReport[]): PhaseSpan[] {
  const moves = phases.filter((each, index) => each.phase !== phases[index - 1]?.phase);
  return moves.map(({ at, phase }, index) => {
    const session = sessions.find(({ startedAt, endedAt }) => at >= startedAt && at <= endedAt);
    const next = moves[index + 1]?.at ?? session?.endedAt ?? at;
    const end = session !== undefined && session.endedAt < next ? session.endedAt : next;
    return { phase, span: [Date.parse(at), Date.parse(end)] };
  });
}

function phaseTable(phases: readonly PhaseRecord[], spans: readonly PhaseSpan[], run: Span): Html {
  const rows = spans.map(({ phase, span: [from, to] }) => {
    const reason = phases.find((each) => each.phase === phase && Date.parse(each.at) === from)?.reason ?? '';
    return html`<tr><td>${time(from, run)}</td><td>${phase}</td><td>${formatDuration((to - from) / 1000)}</td><td class="wide">${reason}</td></tr>
`;
  });
  return rows.length === 0 ? NO_HTML : table(['from', 'phase', 'for', 'why'], rows);
}

function plots({ series, phases }: PairReport, span: Span): Html {
  const { points, everyMs } = series;
  if (points.length === 0) return NO_HTML;
  const gapMs = Math.max(GAP_MS, 3 * everyMs);
  const moments = phases.filter(({ phase }) => phase === 'promoted' || phase === 'rolled-back');
  const marks = moments.map(({ at, phase }) => [Date.parse(at), phase] as const);
  const line = (title: string, value: (point: Point) => number, format: Line['format']): Line => ({
    title,
    points: points.map((point) => [point[0], value(point)] as const),
    gapMs,
    format,
  });
  const lines = [
    line('Lag, seconds', (point) => point[2], formatDuration),
    line('Lag, bytes', (point) => point[1], formatBytes),
    line(
      'Commands of the stream',
      (point) => point[3],
      (value) => `${formatShortCount(value)}/s`,
    ),
    line('Snapshot', (point) => point[4], formatRate),
  ];
  // a lag of nothing is worth seeing
  const shown = lines.filter((each, index) => index === 0 || each.points.some(([, value]) => value > 0));
  return html`<h3>Lag and throughput</h3><div class="plots">${shown.map((each) => plotOf(each, span, marks))}</div>`;
}

/** The clock of each cutover, or rollback, begins at 0. */
function cutovers(steps: readonly StepRecord[], span: Span): Html {
  if (steps.length === 0) return NO_HTML;
  const rows = steps.map(({ at, name, ms, detail }, index) => {
    const first = ms < (steps[index - 1]?.ms ?? Number.POSITIVE_INFINITY);
    return html`<tr><td>${first ? time(Date.parse(at), span) : ''}</td><td>${formatDuration(ms / 1000)}</td><td>${name}</td><td class="wide">${detail ?? ''}</td></tr>
`;
  });
  return html`<h3>Steps of cutover and rollback</h3>${table(['at', 'after', 'step', ''], rows)}`;
}

function verifyTable({ verifies }: PairReport, span: Span): Html {
  if (verifies.length === 0) return NO_HTML;
  const rows = verifies.map(({ at, compared, different, missing, extra, unsettled = 0, repaired = 0 }) => {
    const bad = [different, missing, extra].map(
      (count) => html`<td class="${count > 0 ? 'bad-text' : ''}">${formatCount(count)}</td>`,
    );
    return html`<tr><td>${time(Date.parse(at), span)}</td><td>${formatCount(compared)}</td>${bad}<td class="${unsettled > 0 ? 'warn-text' : ''}">${formatCount(unsettled)}</td><td>${formatCount(repaired)}</td></tr>
`;
  });
  return html`<h3>Comparison of both sides</h3>${table(['at', 'compared', 'different', 'missing', 'extra', 'unsettled', 'repaired'], rows)}`;
}

function clientTable({ clients }: PairReport, span: Span): Html {
  if (clients.length === 0) return NO_HTML;
  const rows = clients.map(
    (
      client,
    ) => html`<tr><td class="name">${client.addr}</td><td class="name">${client.name}</td><td class="name">${client.user}</td>
<td>${client.lastCommand}</td><td class="${client.writing ? 'warn-text' : ''}">${client.writing ? 'yes' : 'no'}</td><td>${time(Date.parse(client.at), span)}</td></tr>
`,
  );
  return html`<h3>Clients seen on the source</h3>${table(['address', 'name', 'user', 'last command', 'wrote', 'last seen'], rows)}`;
}

function settingTable({ settings }: PairReport, span: Span): Html {
  if (settings.length === 0) return NO_HTML;
  const rows = settings.map(({ side, what, changedAt, putBackAt }) => {
    const back =
      putBackAt === null ? html`<span class="warn-text">no</span>` : time(Date.parse(putBackAt), span);
    return html`<tr><td>${side}</td><td class="wide">${what}</td><td>${time(Date.parse(changedAt), span)}</td><td>${back}</td></tr>
`;
  });
  return html`<h3>Changed on the servers</h3>${table(['server', 'what', 'changed', 'put back'], rows)}`;
}

function checkTable({ checks }: PairReport): Html {
  if (checks.length === 0) return NO_HTML;
  // what was found first
  const sorted = checks.toSorted((one, other) => TONES[one.status].place - TONES[other.status].place);
  const rows = sorted.map(({ name, status, detail, hint }) => {
    const { tone, word } = TONES[status];
    const more = hint === undefined ? NO_HTML : html`<br><span class="soft">${hint}</span>`;
    return html`<tr><td>${name}</td><td class="${tone}">${word}</td><td class="wide">${detail}${more}</td></tr>
`;
  });
  return html`<h3>Checks</h3>${table(['check', 'found', ''], rows)}`;
}

function messageTable(messages: PairReport['messages'], span: Span): Html {
  if (messages.length === 0) return NO_HTML;
  const rows = messages.map(({ at, kind, text, code, hint }) => {
    const lines = text.split('\n').map((line) => html`${line}<br>`);
    const about = kind === 'error' ? html`<span class="soft">[${code ?? ''}] ${hint ?? ''}</span>` : NO_HTML;
    return html`<tr><td>${time(Date.parse(at), span)}</td><td class="${kind === 'error' ? 'bad-text' : 'soft'}">${kind}</td><td class="wide">${lines}${about}</td></tr>
`;
  });
  return html`<h3>Messages</h3>${table(['at', '', ''], rows)}`;
}

// ---- who did what ----------------------------------------------------------------------------------------

function whoDidWhat(report: RunReport): Html {
  const span = spanOf(report);
  const sessions = report.sessions.map(
    (
      session,
    ) => html`<tr><td>${time(Date.parse(session.startedAt), span)}</td><td>${time(Date.parse(session.endedAt), span)}</td>${sessionCells(session)}</tr>
`,
  );
  const actions = report.actions.map(
    (
      action,
    ) => html`<tr><td>${time(Date.parse(action.at), span)}</td><td>${action.by}</td><td>${action.action}</td><td class="${actionTone(action)}">${action.result}</td><td class="name">${action.pair ?? ''}</td><td class="wide">${action.detail ?? ''}</td></tr>
`,
  );
  return html`<section><h2>Who did what</h2><h3>Sessions</h3>
${table(['from', 'to', 'command', 'by', 'ended', 'version'], sessions)}
<h3>Actions of the operator</h3>
${actions.length === 0 ? html`<p>None: nobody pressed a key.</p>` : table(['at', 'from', 'action', 'result', 'pair', ''], actions)}
${messageTable(report.messages, span)}</section>`;
}

function sessionCells(session: SessionReport): Html {
  switch (session.kind) {
    case 'ended':
      return html`<td>${session.command}</td><td class="name">${session.by}</td><td>${session.outcome} (${session.exitCode})</td><td>${session.version}</td>`;
    case 'killed':
      return html`<td></td><td></td><td class="wide bad-text">killed, or crashed: what is told of it comes from the journal</td><td></td>`;
    default:
      return assertNever(session);
  }
}

function actionTone({ result }: ActionRecord): string {
  switch (result) {
    case 'done':
    case 'confirmed':
      return 'good-text';
    case 'failed':
      return 'bad-text';
    case 'declined':
      return 'warn-text';
    case 'asked':
      return '';
    default:
      return assertNever(result);
  }
}

// ---- small things ----------------------------------------------------------------------------------------

function table(heads: readonly string[], rows: readonly Html[]): Html {
  return html`<div class="scroll"><table><thead><tr>${heads.map((head) => html`<th>${head}</th>`)}</tr></thead><tbody>
${rows}</tbody></table></div>
`;
}

function spanOf({ startedAt, sessions }: RunReport): Span {
  const starts = sessions.map((session) => Date.parse(session.startedAt));
  const ends = sessions.map((session) => Date.parse(session.endedAt));
  const start = Date.parse(startedAt);
  return [Math.min(start, ...starts), Math.max(start, ...ends)];
}

function about(report: RunReport): string {
  return report.runId === null
    ? `redis-cutover ${lastSession(report)?.command ?? ''}`
    : `Run ${report.runId}`;
}

function lastSession({ sessions }: RunReport): Extract<SessionReport, { kind: 'ended' }> | null {
  const last = sessions.findLast((session) => session.kind === 'ended');
  return last?.kind === 'ended' ? last : null;
}

/** With the date where the run did not begin and end on one day. */
function time(at: number, [from, to]: Span): Html {
  const oneDay = day(from) === day(to);
  const text = oneDay ? clock(at) : `${day(at)} ${clock(at)}`;
  return html`<time datetime="${new Date(at).toISOString()}">${text}</time>`;
}

function day(at: number): string {
  const date = new Date(at);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function stamp(at: number): string {
  return `${day(at)} ${clock(at)}`;
}

/** `UTC+02:00`: the clock of this machine at that time. */
function zone(at: number): string {
  const minutes = -new Date(at).getTimezoneOffset();
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const away = Math.abs(minutes);
  return minutes === 0 ? 'UTC' : `UTC${minutes < 0 ? '-' : '+'}${two(away / 60)}:${two(away % 60)}`;
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
