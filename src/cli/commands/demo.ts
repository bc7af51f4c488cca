/** `redis-cutover demo`: two throwaway servers, traffic, and a real cutover. */
import { notBuiltYet } from '../options.ts';
import type { Command } from './command.ts';

export const demoCommand: Command = {
  name: 'demo',
  help: 'two throwaway servers, traffic, a real cutover',
  async run() {
    throw notBuiltYet('demo');
  },
};
