/**
 * A program for tests: one pair in sync, then the operator's words given as arguments (`e`, `c`, `m`, `b`), then it
 * stays until it is killed. What the keys of a terminal do, without a terminal.
 * Arguments: source port, target port, run folder, feed, words.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Endpoint } from '../../src/core/endpoint.ts';
import type { RunOptions } from '../../src/core/options.ts';
import { Migration } from '../../src/migrate/migration.ts';
import { RunFolder } from '../../src/migrate/run-folder.ts';
import { DEFAULT_OPTIONS } from '../integration/migration-scene.ts';

const [source = '', target = '', runDir = '', feed = '', ...words] = process.argv.slice(2);

const at = (port: string): Endpoint => ({
  host: '127.0.0.1',
  port: Number(port),
  username: null,
  password: null,
  tls: null,
});
const say = (event: object): boolean => process.stdout.write(`${JSON.stringify({ ts: '', ...event })}\n`);

const options: RunOptions = {
  ...DEFAULT_OPTIONS,
  runDir,
  feed: feed === 'attach' ? 'attach' : 'write',
  cutover: 'ask',
  cutoverTimeoutMs: 10_000,
};
const pair = { name: 'driven', source: at(source), target: at(target) };
const migration = new Migration(pair, options, { emit: say, phaseChanged: () => undefined }, null);
await migration.check();
if (migration.error !== null) throw migration.error;
await migration.start(await RunFolder.create(runDir, 'ab12', [pair], options));
async function obey(word: string): Promise<void> {
  while (!['in-sync', 'writable', 'promoted'].includes(migration.phase)) await delay(10);
  if (word === 'e') await migration.enableWrites();
  else if (word === 'c') await migration.cutOver();
  else if (word === 'm') await migration.promote();
  else if (word === 'b') await migration.rollBack();
}

for (const word of words) {
  for (let tries = 1; ; tries++) {
    try {
      await obey(word);
      break;
    } catch (error) {
      // as an operator would: once more, a moment later
      say({ event: 'refused', word, error: String(error) });
      if (tries === 50) throw error;
      await delay(100);
    }
  }
  say({ event: 'did', word, notes: migration.summary().notes, wayBack: migration.wayBackOpen });
}
// killed by the test
setInterval(() => undefined, 60_000);
