/**
 * Runs the tests with Node's own runner, which in Node 20 takes files but no patterns.
 *
 *   npm test                        everything
 *   npm test -- unit/rdb            files with this in their path; several such arguments are alternatives
 *   npm test -- --test-only …       arguments with a dash go to node
 *
 * The servers of .servers/ are fetched first where they were never tried and the run goes beyond unit tests.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const nodeOptions = process.argv.slice(2).filter((argument) => argument.startsWith('-'));
const filters = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));

const files = readdirSync('test', { recursive: true })
  .map((name) => `test/${name}`)
  .filter((path) => path.endsWith('.test.ts'))
  .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)));

if (files.length === 0) {
  console.error(`no test file matches ${filters.join(' or ')}`);
  process.exit(1);
}

if (!existsSync('.servers') && files.some((path) => !path.startsWith('test/unit/'))) {
  console.error('fetching server releases for the tests across versions (once; npm run servers repeats it)');
  // Without them the tests run with the redis-server on PATH, so a failure here is no reason to stop.
  spawnSync(process.execPath, ['scripts/servers.mjs'], { stdio: ['ignore', 2, 2] });
}

const { status } = spawnSync(
  process.execPath,
  [
    ...['--import', './scripts/late-exit.mjs', '--import', 'tsx', '--test', '--test-reporter=spec'],
    // Integration tests keep three processes busy each.
    '--test-concurrency=2',
    // For a file as a whole, in ms: one that hangs fails instead of holding up the run.
    '--test-timeout=240000',
    // Node 20 can spin for ever in its clean-up of sockets that were reset, when a file is through.
    '--test-force-exit',
    ...nodeOptions,
    ...files,
  ],
  { stdio: 'inherit' },
);
process.exitCode = status ?? 1;
