/** `redis-cutover demo`: two throwaway servers, traffic, and a real cutover; asks on a terminal, else runs by itself. */
import { resolveDemoKeys, resolveRunOptions } from '../options.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const demoCommand: Command = {
  name: 'demo',
  help: 'two throwaway servers, traffic, a real cutover',
  examples: [
    'redis-cutover demo',
    'REDIS_SERVER=/opt/redis/bin/redis-server redis-cutover demo --keys 20000',
  ],
  async run(raw) {
    const around = surroundings(raw);
    const cutover = around.terminal && !raw.json && raw.input !== false ? 'ask' : 'auto';
    // the demo ends with its cutover and compares both servers: nobody is left to write to the new one
    const options = resolveRunOptions({ ...raw, feed: 'write', reverse: false, cutover }, around);
    const keys = resolveDemoKeys(raw);
    const { runDemo } = await import('../demo-story.ts');
    return inSession(raw, options.cutover, (io) => runDemo(keys, options, io));
  },
};
