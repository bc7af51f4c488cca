/** `redis-cutover cutover RUN_DIR`: lets the session that works there cut over, asked from another terminal. */
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { EXIT, InvariantError, UsageError } from '../../core/errors.ts';
import { errorEvent } from '../../core/events.ts';
import { printable } from '../../core/text.ts';
import { askSession } from '../../fleet/control-client.ts';
import type { PairChoice } from '../../fleet/control-messages.ts';
import { chosenForCutover } from '../../fleet/run-control.ts';
import { RelayedError } from '../../fleet/worker-messages.ts';
import { jsonRenderer } from '../../ui/json.ts';
import { plainRenderer } from '../../ui/plain.ts';
import { surroundings } from '../wiring.ts';
import type { Command } from './command.ts';
import { nameAndWave, statusOf } from './status.ts';

export const cutoverCommand: Command = {
  name: 'cutover',
  help: 'let a running session cut over, from another terminal: exit 0 where all of it came through, else 7',
  args: '<run-dir>',
  argValues: 'folder',
  examples: [
    'redis-cutover cutover ./redis-cutover-run-20260412-031500 --pair cart --confirm cart',
    'redis-cutover cutover ./redis-cutover-run-20260412-031500 --wave two --confirm "wave two"',
  ],
  async run(raw, [given = '.']) {
    const dir = resolve(given);
    const renderer = raw.json ? jsonRenderer(process.stdout) : plainRenderer(process.stdout);
    const choice: PairChoice = { pairs: raw.pair ?? null, wave: raw.wave ?? null };
    const { pairs, words } = chosenForCutover((await statusOf(dir)).pairs, choice, nameAndWave);
    for (const { pair, target } of pairs) {
      renderer.say(`${printable(pair)}: make ${printable(target)} the master`);
    }
    const asks = surroundings(raw).terminal && raw.input !== false;
    if (raw.confirm === undefined && !asks) {
      throw new UsageError('a cutover must be confirmed', {
        code: 'confirm',
        hint: `--confirm "${printable(words)}"`,
      });
    }
    const confirm = raw.confirm ?? (await typed(`Type "${printable(words)}" to go on: `, raw.json === true));
    if (raw.confirm === undefined && confirm !== words) {
      renderer.say('Nothing was changed.');
      if (raw.json) {
        renderer.event({ event: 'summary', outcome: 'cancelled', exitCode: EXIT.cancelled, pairs: [] });
      }
      return EXIT.cancelled;
    }
    const answer = await askSession(dir, { kind: 'cutover', choice, confirm });
    if (answer.kind === 'refused') throw new RelayedError(answer.error);
    if (answer.kind !== 'cutover') throw new InvariantError(`cutover was answered by ${answer.kind}`);
    for (const { pair, phase, error } of answer.results) {
      const result = error === null ? 'done' : 'failed';
      renderer.event({ event: 'action', pair, by: 'control', action: 'cutover', result });
      renderer.say(`${printable(pair)}: ${phase}`);
      if (error === null) continue;
      renderer.event(errorEvent(error, pair));
    }
    const waiting = pairs.length - answer.results.length;
    if (waiting > 0) {
      renderer.say(`The canary went first (--canary): ask again for the other ${waiting} when it is well.`);
    }
    const failed = answer.results.filter(({ error }) => error !== null).length;
    const exitCode = failed === 0 ? EXIT.done : EXIT.attention;
    const outcome = failed === 0 ? 'promoted' : failed < answer.results.length ? 'partly-failed' : 'failed';
    if (raw.json) renderer.event({ event: 'summary', outcome, exitCode, pairs: [] });
    return exitCode;
  },
};

/** The line that is typed; '' where the input ends or Ctrl-C is pressed. */
function typed(question: string, json: boolean): Promise<string> {
  return new Promise((done) => {
    const output = json ? process.stderr : process.stdout;
    const lines = createInterface({ input: process.stdin, output });
    const unanswered = (): void => {
      output.write('\n');
      done('');
    };
    lines.once('close', unanswered).question(question, (answer) => {
      lines.off('close', unanswered).close();
      done(answer);
    });
  });
}
