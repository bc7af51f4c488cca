/** `redis-cutover resume RUN_DIR`: goes on with a run after a crash or a quit. */
import { notBuiltYet, resolveRunOptions } from '../options.ts';
import { surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const resumeCommand: Command = {
  name: 'resume',
  help: 'go on after a crash or a quit',
  args: '<run-dir>',
  async run(raw) {
    resolveRunOptions(raw, surroundings(raw));
    throw notBuiltYet('resume');
  },
};
