/** `redis-cutover verify`: compares both sides of every pair; exit 5 where they differ. */
import { resolveVerifyOptions } from '../options.ts';
import { resolvePairs } from '../pairs.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const verifyCommand: Command = {
  name: 'verify',
  help: 'compare both sides of every pair: exit 0 equal, 5 different',
  examples: [
    'redis-cutover verify --src redis://old-1:6379 --dst redis://new-1:6379',
    'redis-cutover verify --hosts fleet.txt --sample 10000 --json',
    'redis-cutover verify --hosts fleet.txt --report compared.html',
    'redis-cutover verify --src old-1 --dst new-1 --mismatches keys.ndjson --repair',
  ],
  async run(raw) {
    const pairs = await resolvePairs(raw, surroundings(raw));
    const options = resolveVerifyOptions(raw);
    // loaded where it is used: the other commands start without it
    const { runVerify } = await import('../../fleet/verify.ts');
    return inSession(
      raw,
      'never',
      (io) => runVerify(pairs, options, raw.mismatches ?? null, io),
      raw.report === undefined ? null : { command: 'verify', file: raw.report, pairs },
    );
  },
};
