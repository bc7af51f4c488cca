/** `redis-cutover migrate`: moves every pair and leads the operator through the cutover. */
import { runMigrate } from '../../fleet/session.ts';
import { resolvePairs, resolveRunOptions } from '../options.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const migrateCommand: Command = {
  name: 'migrate',
  help: 'move live servers: snapshot, live stream, cutover',
  examples: [
    'redis-cutover migrate --src redis://old-1:6379 --dst redis://new-1:6379',
    'redis-cutover migrate --hosts fleet.txt --auth-file auth.txt --stop-at in-sync',
    'redis-cutover migrate --src old-1 old-2 --dst new-1 new-2 --cutover auto --json',
  ],
  async run(raw) {
    const around = surroundings(raw);
    const pairs = await resolvePairs(raw, around);
    const options = resolveRunOptions(raw, around);
    return inSession(raw, options.cutover, (io) => runMigrate(pairs, options, io));
  },
};
