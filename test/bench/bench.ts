/**
 * `npm run bench [-- --scale 1 --runs 5 --only small,live --plain --write-docs]`: what this program takes, beside the
 * server's own replication, and beside RedisShake where REDIS_SHAKE_BIN names its binary. Each part prints a table;
 * `--write-docs` also puts it into docs/benchmarks.md, as soon as it is there. `--plain`: copies of ours by `--tune-source
 * compression`, too. The parts are in PARTS below; `cutover` runs only when it is named, 20 times. Judges nothing: timings
 * never decide a test. Exit code 1 where something did not come through. CPU and memory are read from /proc: Linux only.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { readRelease } from '../../src/demo/release.ts';
import { testServer } from '../helpers/server.ts';
import { comparisons } from './comparisons.ts';
import { copies } from './copies.ts';
import { cutovers } from './cutovers.ts';
import { BLOB, MEMBER, MIXED, SMALL } from './data-sets.ts';
import { renderSection, type Section } from './figures.ts';
import { live } from './live.ts';
import { updatePage } from './page.ts';
import { parts } from './parts.ts';
import { asRound } from './round.ts';
import { connected } from './servers.ts';
import type { Effort } from './turns.ts';
import { wrapper } from './wrapper.ts';

const PAGE = new URL('../../docs/benchmarks.md', import.meta.url);
const PACKAGE = new URL('../../package.json', import.meta.url);
const RUNS = 5;
const CUTOVERS = 20;
const FLEET = 8;

/** In the order of the page. */
const PARTS: ReadonlyMap<string, (effort: Effort) => Promise<Section>> = new Map([
  ['small', (effort) => copies(SMALL, effort)],
  ['mixed', (effort) => copies(MIXED, effort)],
  ['blob', (effort) => copies(BLOB, effort)],
  ['fleet', (effort) => copies(MEMBER, effort, FLEET)],
  ['live', live],
  ['cutover', ({ runs }) => cutovers(runs)],
  ['verify', comparisons],
  ['wrapper', wrapper],
  ['parts', parts],
]);
const OFTEN = [...PARTS.keys()].filter((name) => name !== 'cutover');

const { values } = parseArgs({
  options: {
    scale: { type: 'string', default: '1' },
    runs: { type: 'string' },
    only: { type: 'string', default: OFTEN.join(',') },
    plain: { type: 'boolean', default: false },
    'write-docs': { type: 'boolean', default: false },
  },
});
const scale = positive('--scale', values.scale);
const names = values.only.split(',');
const unknown = names.find((name) => !PARTS.has(name));
if (unknown !== undefined) refuse(`--only ${unknown}: there are ${[...PARTS.keys()].join(', ')}`);

// 'exit' ends servers and programs
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

const machine = await machineLine();
let failed = false;
for (const [name, measure] of PARTS) {
  if (!names.includes(name)) continue;
  const runs = positive('--runs', values.runs ?? String(name === 'cutover' ? CUTOVERS : RUNS));
  const began = performance.now();
  try {
    const section = await measure({ scale, runs, plain: values.plain });
    failed ||= section.failures.length > 0;
    const text = renderSection(section, conditions(runs));
    console.log(`\n${text}`);
    if (values['write-docs']) writeToPage(name, text);
  } catch (error) {
    failed = true;
    console.log(`\n${name} did not come through: ${error instanceof Error ? error.stack : String(error)}`);
  }
  console.log(`(${name}: ${Math.round((performance.now() - began) / 1000)} s in all)`);
}
// what failed may have left a socket open
process.exit(failed ? 1 : 0);

function writeToPage(name: string, text: string): void {
  const old = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : null;
  writeFileSync(PAGE, updatePage(old, new Map([[name, text]]), [...PARTS.keys()]));
}

function conditions(runs: number): string {
  const part = scale === 1 ? '' : `; SCALE ${scale}`;
  return `${machine}, ${new Date().toISOString().slice(0, 10)}; medians of ${runs}${part}`;
}

/** Machine and releases, in one line. */
async function machineLine(): Promise<string> {
  const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { readonly version: string };
  const server = await asRound(async (round) =>
    connected(await testServer(round), (connection) => readRelease(connection)),
  );
  const all = cpus();
  return [
    `${all.length} cores (${all[0]?.model.trim() ?? 'unknown'})`,
    `${Math.round(totalmem() / 1e9)} GB`,
    `Node ${process.versions.node}`,
    `${server.kind === 'redis' ? 'Redis' : 'Valkey'} ${server.version}`,
    `redis-cutover ${version}`,
  ].join(', ');
}

function positive(option: string, text: string): number {
  const number = Number(text);
  if (!(number > 0)) refuse(`${option} ${text}: a number above 0`);
  return number;
}

function refuse(why: string): never {
  console.error(why);
  process.exit(2);
}
