/** `redis-cutover check`: the preflight alone; it changes nothing on either side. */
import type { CheckResult, CheckStatus } from '../../core/events.ts';
import type { Renderer } from '../../core/ports.ts';
import { runCheck } from '../../fleet/session.ts';
import { filtered } from '../../ui/filter.ts';
import type { PairFindings } from '../../ui/findings-table.ts';
import { resolveRunOptions } from '../options.ts';
import { resolvePairs } from '../pairs.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const checkCommand: Command = {
  name: 'check',
  help: 'preflight only: changes nothing',
  examples: [
    'redis-cutover check --src redis://old-1:6379 --dst redis://new-1:6379',
    'redis-cutover check --hosts fleet.csv --json > findings.ndjson',
  ],
  async run(raw) {
    const around = surroundings(raw);
    const pairs = await resolvePairs(raw, around);
    const options = resolveRunOptions(raw, around);
    const names = pairs.map(({ name }) => name);
    // loaded where it is used: what measures the width of text takes long, and the other commands start without it
    const { findingsTable } = await import('../../ui/findings-table.ts');
    return inSession(
      raw,
      'never',
      (io) =>
        runCheck(
          pairs,
          options,
          raw.json ? io : { ...io, renderer: withVerdict(io.renderer, names, findingsTable) },
        ),
      raw.report === undefined ? null : { command: 'check', file: raw.report, pairs },
    );
  },
};

/**
 * For people: a row for each of several pairs, and all findings in one line at the end. Pairs that never began have no
 * phases and no keys to tell of.
 */
function withVerdict(
  inner: Renderer,
  names: readonly string[],
  findingsTable: (rows: readonly PairFindings[]) => readonly string[],
): Renderer {
  const checks = new Map<string, CheckResult[]>(names.map((name) => [name, []]));
  const failures = new Map<string, string>();
  const found: Record<CheckStatus, number> = { ok: 0, warn: 0, refuse: 0 };
  let errors = 0;
  return filtered(inner, (event) => {
    if (event.event === 'phase') return;
    if (event.event === 'check') {
      found[event.status] += 1;
      checks.get(event.pair)?.push(event);
    }
    if (event.event === 'error') {
      const own = event.pair === undefined ? [] : (checks.get(event.pair) ?? []);
      // the error of a refusal is no finding of its own
      if (!own.some(({ status }) => status === 'refuse')) errors += 1;
      if (event.pair !== undefined) failures.set(event.pair, event.message);
    }
    if (event.event !== 'summary') {
      inner.event(event);
      return;
    }
    if (names.length > 1) {
      const rows = names.map((pair) => ({
        pair,
        checks: checks.get(pair) ?? [],
        error: failures.get(pair) ?? null,
      }));
      inner.say(findingsTable(rows).join('\n'));
    }
    const made = found.ok + found.warn + found.refuse;
    const notOk = [
      ...(found.refuse > 0 ? [`${found.refuse} refused`] : []),
      ...(found.warn > 0 ? [counted(found.warn, 'warning')] : []),
      ...(errors > 0 ? [counted(errors, 'error')] : []),
    ];
    inner.say(
      notOk.length === 0
        ? `all ok: ${counted(made, 'check')}, nothing was changed`
        : `${notOk.join(', ')}, ${found.ok} ok; nothing was changed`,
    );
    inner.event({ ...event, pairs: [] });
  });
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
