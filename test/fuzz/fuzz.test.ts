/**
 * Every parser under the fuzzer for some seconds, always from the same seed, so that a change is judged by what it
 * changed; `npm run fuzz` goes on for longer, from a new one each time.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { atEnd, type Cleanup } from '../helpers/server.ts';

/** Runs the program to its end; everything that it printed. */
async function fuzz(t: Cleanup, ...args: readonly string[]): Promise<{ code: unknown; output: string }> {
  const program = fileURLToPath(new URL('fuzz.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  atEnd(t, () => void child.kill());
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  const [code] = await once(child, 'close');
  return { code, output };
}

/** One that has found something: a SELECT of 2 GB, in the stream that is written. */
const SEED = '924711737';

it('no parser breaks a rule', async (t) => {
  const { code, output } = await fuzz(t, '--cases', '1', '--seed', SEED);
  console.log(output.trim());
  assert.equal(code, 0, output);
});
