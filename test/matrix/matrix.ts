/**
 * `npm run matrix [-- --only 'redis-6.2*:valkey-*' --feed write --jobs 2]`: every ordered pair of the server releases that
 * are here (npm run servers), by both feeds, one line each; then docs/compatibility.md is written anew. With --only or
 * --feed it is shown instead. Exit code 1 where a pair failed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { type Pair, runCell } from './cell.ts';
import { type Cell, cellLine, renderPage } from './page.ts';
import type { Feed } from './verdict.ts';

const PAGE = new URL('../../docs/compatibility.md', import.meta.url);
const PACKAGE = new URL('../../package.json', import.meta.url);

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '*:*' },
    feed: { type: 'string' },
    jobs: { type: 'string', default: '2' },
  },
});
const feeds: readonly Feed[] =
  values.feed === 'attach' || values.feed === 'write' ? [values.feed] : ['write', 'attach'];
const isPart = values.only !== '*:*' || feeds.length === 1;

// 'exit' ends the servers
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

const releases = serverReleases();
const cells = await runAll(pairsOf(releases, values.only));
const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { readonly version: string };
const page = renderPage({
  releases: releases.map(nameOf),
  cells,
  version,
  date: new Date().toISOString().slice(0, 10),
});
if (isPart) console.log(`\n${page}`);
else writeFileSync(PAGE, page);
// a cell that failed may have left a socket open; servers end with this process
process.exit(cells.length === 0 || cells.some(({ verdict }) => verdict.kind === 'failed') ? 1 : 0);

/** Rows, then columns, in the order of the releases; `only`: names with `*`, as `redis-6.2*:valkey-9.1.2`. */
function pairsOf(all: readonly Release[], only: string): Pair[] {
  const [from = '*', to = '*'] = only.split(':');
  const [sources, targets] = [from, to].map((pattern) => all.filter(matches(pattern)));
  return feeds.flatMap((feed) =>
    (sources ?? []).flatMap((source) => (targets ?? []).map((target) => ({ source, target, feed }))),
  );
}

function matches(pattern: string): (release: Release) => boolean {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[^\w-]/g, '\\$&'));
  const expression = new RegExp(`^${parts.join('.*')}$`);
  return ({ kind, version }) => expression.test(`${kind}-${version}`);
}

function nameOf({ kind, version }: Release): string {
  return `${kind === 'redis' ? 'Redis' : 'Valkey'} ${version}`;
}

/** Some at a time; the result is in the order of `pairs`, whatever ends first. */
async function runAll(pairs: readonly Pair[]): Promise<Cell[]> {
  const done: Cell[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < pairs.length; at = next++) {
      const { source, target, feed } = pairs[at]!;
      const verdict = await runCell({ source, target, feed });
      const cell = { source: nameOf(source), target: nameOf(target), feed, verdict };
      done[at] = cell;
      console.log(cellLine(cell));
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  return done;
}
