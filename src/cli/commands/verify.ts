/** `redis-cutover verify`: compares both sides of every pair. */
import { notBuiltYet, resolvePairs } from '../options.ts';
import { surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const verifyCommand: Command = {
  name: 'verify',
  help: 'compare both sides of every pair',
  async run(raw) {
    await resolvePairs(raw, surroundings(raw));
    throw notBuiltYet('verify');
  },
};
