/** `redis-cutover verify`: compares both sides of every pair. */
import { notBuiltYet, resolvePairs } from '../options.ts';
import { surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const verifyCommand: Command = {
  name: 'verify',
  help: 'compare both sides of every pair (not built yet)',
  examples: ['redis-cutover verify --src redis://old-1:6379 --dst redis://new-1:6379'],
  async run(raw) {
    await resolvePairs(raw, surroundings(raw));
    throw notBuiltYet(
      'verify',
      'while nobody writes, compare redis-cli DEBUG DIGEST of both servers (same release), or DBSIZE',
    );
  },
};
