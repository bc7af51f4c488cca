/** `redis-cutover status RUN_DIR`: what the session that works there is at, asked from another terminal. */
import { resolve } from 'node:path';
import { EXIT, InvariantError } from '../../core/errors.ts';
import type { PairSnapshot } from '../../core/events.ts';
import { PHASES } from '../../core/phase.ts';
import { printable } from '../../core/text.ts';
import { askSession } from '../../fleet/control-client.ts';
import type { SessionStatus } from '../../fleet/control-messages.ts';
import { chosenPairs } from '../../fleet/run-control.ts';
import { RelayedError } from '../../fleet/worker-messages.ts';
import { jsonRenderer } from '../../ui/json.ts';
import { progressLine } from '../../ui/lines.ts';
import { plainRenderer } from '../../ui/plain.ts';
import type { Command } from './command.ts';

export const statusCommand: Command = {
  name: 'status',
  help: 'what a running session is at, from another terminal',
  args: '<run-dir>',
  argValues: 'folder',
  examples: ['redis-cutover status ./redis-cutover-run-20260412-031500 --pair cart --json'],
  async run(raw, [dir = '.']) {
    const { session, pairs } = await statusOf(resolve(dir));
    const shown = chosenPairs(pairs, { pairs: raw.pair ?? null, wave: raw.wave ?? null }, nameAndWave);
    if (raw.json) {
      const renderer = jsonRenderer(process.stdout);
      for (const pair of shown) renderer.event({ event: 'progress', ...pair });
      renderer.event({ event: 'summary', outcome: session, exitCode: EXIT.done, pairs: [] });
      return EXIT.done;
    }
    const renderer = plainRenderer(process.stdout);
    for (const pair of shown) renderer.say(progressLine(pair) ?? phaseLine(pair));
    const counts = PHASES.flatMap((phase) => {
      const count = shown.filter((pair) => pair.phase === phase).length;
      return count === 0 ? [] : [`${count} ${phase}`];
    });
    renderer.say(`The session is ${session}: ${counts.join(', ')}.`);
    return EXIT.done;
  },
};

/**
 * Asks the session in the folder.
 *
 * @param dir absolute path
 * @throws what askSession() throws
 */
export async function statusOf(dir: string): Promise<SessionStatus> {
  const answer = await askSession(dir, { kind: 'status' });
  if (answer.kind === 'refused') throw new RelayedError(answer.error);
  if (answer.kind !== 'status') throw new InvariantError(`status was answered by ${answer.kind}`);
  return answer;
}

/** What pairs are chosen by. */
export function nameAndWave({ pair, wave, phase, paused }: PairSnapshot) {
  return { name: pair, wave, phase, paused };
}

function phaseLine({ pair, phase, reason }: PairSnapshot): string {
  return `${printable(pair)}: ${phase}${reason === null ? '' : ` (${printable(reason)})`}`;
}
