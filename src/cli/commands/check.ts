/** `redis-cutover check`: the preflight alone; it changes nothing on either side. */
import { runCheck } from '../../fleet/session.ts';
import { resolvePairs, resolveRunOptions } from '../options.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const checkCommand: Command = {
  name: 'check',
  help: 'preflight only: changes nothing',
  async run(raw) {
    const around = surroundings(raw);
    const pairs = await resolvePairs(raw, around);
    const options = resolveRunOptions(raw, around);
    return inSession(raw, 'never', (io) => runCheck(pairs, options, io));
  },
};
