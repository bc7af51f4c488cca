/** `redis-cutover check`: the preflight alone; it changes nothing on either side. */
import { notBuiltYet, resolvePairs, resolveRunOptions } from '../options.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const checkCommand: Command = {
  name: 'check',
  help: 'preflight only: changes nothing',
  async run(raw) {
    const around = surroundings(raw);
    await resolvePairs(raw, around);
    resolveRunOptions(raw, around);
    return inSession(raw, 'never', async () => {
      throw notBuiltYet('check');
    });
  },
};
