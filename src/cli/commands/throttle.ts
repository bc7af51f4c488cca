/** `redis-cutover throttle RUN_DIR`: limits what goes to the targets of a running session, asked from another terminal. */
import { throttleText } from '../../core/throttle.ts';
import { change, choiceOf } from '../control.ts';
import { resolveThrottle } from '../options.ts';
import type { Command } from './command.ts';

export const throttleCommand: Command = {
  name: 'throttle',
  help: 'limit what goes to each target of a running session in a second, until --off',
  args: '<run-dir>',
  argValues: 'folder',
  examples: [
    'redis-cutover throttle ./redis-cutover-run-20260412-031500 --mb 20',
    'redis-cutover throttle ./redis-cutover-run-20260412-031500 --pair cart --keys 5000',
    'redis-cutover throttle ./redis-cutover-run-20260412-031500 --off',
  ],
  async run(raw, [dir = '.']) {
    const limits = resolveThrottle(raw);
    const done = raw.off ? 'goes as fast as its target takes it' : `at most ${throttleText(limits)}`;
    return change(raw, dir, { kind: 'throttle', choice: choiceOf(raw), limits }, done);
  },
};
