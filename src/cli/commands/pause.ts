/** `redis-cutover pause RUN_DIR`: lets nothing go to the targets of a running session, asked from another terminal. */
import { change, choiceOf } from '../control.ts';
import type { Command } from './command.ts';

export const pauseCommand: Command = {
  name: 'pause',
  help: 'let nothing go to the targets of a running session until --off; the sources are read all the same',
  args: '<run-dir>',
  argValues: 'folder',
  examples: [
    'redis-cutover pause ./redis-cutover-run-20260412-031500 --pair cart',
    'redis-cutover pause ./redis-cutover-run-20260412-031500 --pair cart --off',
  ],
  run(raw, [dir = '.']) {
    const on = raw.off !== true;
    const done = on ? 'paused: nothing goes to its target until pause --off' : 'goes on';
    return change(raw, dir, { kind: 'pause', choice: choiceOf(raw), on }, done);
  },
};
