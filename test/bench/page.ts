/**
 * docs/benchmarks.md: a generated section for each part of the benchmark, then what people wrote by hand. A run puts in
 * the parts that it has measured and keeps all else. Pure.
 */

/** What stands behind this line is written by hand and kept. */
const BY_HAND = '<!-- from here on by hand: npm run bench keeps it -->';

const HEAD = `# Benchmarks

\`npm run bench -- --write-docs\` writes the tables of this page and keeps the words behind them. Each table says on what
machine and when it was measured. All servers and programs share that one machine, over loopback; the ways in a table took
turns in one run. Seconds differ between machines, so the ratios come first.

- *redis-cutover* is the built program as people start it: from the start of the process, its checks included, until the
  event \`in-sync\`, for which three samples 200 ms apart must agree. A replica counts from REPLICAOF until
  \`master_link_status:up\`; *diskless load* is \`repl-diskless-load on-empty-db\`. Another tool counts until the target has a
  key that was written while the copy ran.
- CPU is user and system time together; that of a source includes the process that writes its snapshot. Memory is the most
  that was resident, of a tool of several processes the sum.
- Values are noise, which LZF cannot shrink, but for a third of the plain strings among the keys of all types.
  \`test/bench/data-sets.ts\` makes them, the same each time.`;

const BY_HAND_AT_FIRST = `## What was tried, what did not help, where the next bottleneck is
`;

/** The marks around the section of the part `id`. */
const beginOf = (id: string): string => `<!-- ${id} -->`;
const endOf = (id: string): string => `<!-- end of ${id} -->`;

/**
 * The page with the sections of this run in it.
 * @param old the page so far; null where there is none
 * @param measured the text of each section, by the id of its part
 * @param order the ids of all parts, in the order of the page
 */
export function updatePage(
  old: string | null,
  measured: ReadonlyMap<string, string>,
  order: readonly string[],
): string {
  const sections = order.flatMap((id) => {
    const text = measured.get(id) ?? between(old ?? '', beginOf(id), endOf(id))?.trim();
    return text === undefined ? [] : [`${beginOf(id)}\n\n${text}\n\n${endOf(id)}`];
  });
  const at = old?.indexOf(BY_HAND) ?? -1;
  const byHand = old === null || at < 0 ? BY_HAND_AT_FIRST : old.slice(at + BY_HAND.length).trim();
  return `${[HEAD, ...sections, BY_HAND, byHand.trim()].join('\n\n')}\n`;
}

function between(text: string, begin: string, end: string): string | undefined {
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  return from < 0 || to < 0 ? undefined : text.slice(from + begin.length, to);
}
