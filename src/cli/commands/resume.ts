/** `redis-cutover resume RUN_DIR`: goes on with a run after a crash or a quit. */
import { resolve } from 'node:path';
import { runResume } from '../../fleet/session.ts';
import { RunFolder } from '../../migrate/run-folder.ts';
import { resolveFormerOptions } from '../options.ts';
import { resolveFormerPairs } from '../pairs.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const resumeCommand: Command = {
  name: 'resume',
  help: 'go on after a crash or a quit',
  args: '<run-dir>',
  argValues: 'folder',
  examples: [
    'redis-cutover resume ./redis-cutover-run-20260412-031500',
    'redis-cutover resume ./redis-cutover-run-20260412-031500 --askpass --cutover never',
  ],
  async run(raw, args) {
    const around = surroundings(raw);
    const dir = resolve(around.cwd, args[0] ?? '.');
    const folder = await RunFolder.open(dir);
    try {
      const pairs = await resolveFormerPairs(folder.run, raw, around);
      const options = resolveFormerOptions(folder.run, dir, raw, around);
      return await inSession(raw, options.cutover, (io) => runResume(folder, pairs, options, io), {
        command: 'resume',
        dir,
        resumes: true,
        pairs: pairs.length,
      });
    } finally {
      await folder.close();
    }
  },
};
