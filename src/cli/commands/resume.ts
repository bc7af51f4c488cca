/** `redis-cutover resume RUN_DIR`: goes on with a run after a crash or a quit. */
import { notBuiltYet, resolveRunOptions } from '../options.ts';
import { surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const resumeCommand: Command = {
  name: 'resume',
  help: 'go on after a crash or a quit (not built yet)',
  args: '<run-dir>',
  examples: ['redis-cutover resume ./redis-cutover-run-20260412-031500'],
  async run(raw) {
    resolveRunOptions(raw, surroundings(raw));
    throw notBuiltYet(
      'resume',
      'begin again: redis-cutover migrate with --flush-target; README.md says how to lift a fence by hand',
    );
  },
};
