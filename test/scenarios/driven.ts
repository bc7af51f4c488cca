/** Starts driven-pair.ts: a pair that is led by an operator's words, and waits when they are done, until it is killed. */
import { fileURLToPath } from 'node:url';
import { type CliEvent, type CliRun, runCli } from '../helpers/cli.ts';
import type { Cleanup } from '../helpers/server.ts';

const DRIVEN = fileURLToPath(new URL('./driven-pair.ts', import.meta.url));

/** @param words `e`, `c`, `m`, `b`, one after the other, each when the pair is ready for it */
export function driven(
  t: Cleanup,
  uris: readonly [string, string],
  runDir: string,
  feed: 'attach' | 'write',
  words: readonly string[],
): CliRun {
  const ports = uris.map((uri) => new URL(uri).port);
  return runCli([...ports, runDir, feed, ...words], {
    t,
    script: DRIVEN,
    env: { NODE_OPTIONS: '--import tsx' },
  });
}

/** What it says when a word is done. */
export function did(run: CliRun, word: string): Promise<CliEvent> {
  return run.until((event) => event.event === 'did' && event['word'] === word);
}
