/** `redis-cutover migrate`: moves every pair and leads the operator through the cutover. */
import type { Renderer } from '../../core/ports.ts';
import { printable } from '../../core/text.ts';
import { runMigrate } from '../../fleet/session.ts';
import { filtered } from '../../ui/filter.ts';
import { resolveRunOptions } from '../options.ts';
import { resolvePairs } from '../pairs.ts';
import { inSession, surroundings } from '../wiring.ts';
import type { Command } from './command.ts';

export const migrateCommand: Command = {
  name: 'migrate',
  help: 'move live servers: snapshot, live stream, cutover',
  examples: [
    'redis-cutover migrate --src redis://old-1:6379 --dst redis://new-1:6379',
    'redis-cutover migrate --hosts fleet.csv --auth-file auth.txt --stop-at in-sync',
    'redis-cutover migrate --src old-1 old-2 --dst new-1 new-2 --cutover auto --json',
  ],
  async run(raw) {
    const around = surroundings(raw);
    const pairs = await resolvePairs(raw, around);
    const options = resolveRunOptions(raw, around);
    return inSession(
      raw,
      options.cutover,
      (io) => runMigrate(pairs, options, { ...io, renderer: withRunFolder(io.renderer, options.runDir) }),
      { command: 'migrate', dir: options.runDir, resumes: false, pairs: pairs.length },
    );
  },
};

/** Says where the run folder is as soon as there is one: who needs it later has no other place to look. */
function withRunFolder(inner: Renderer, runDir: string): Renderer {
  let said = false;
  return filtered(inner, (event) => {
    if (event.event === 'phase' && event.to === 'snapshot' && !said) {
      said = true;
      inner.say(`After a crash or a quit:\n  redis-cutover resume ${printable(runDir, 1000)}`);
    }
    inner.event(event);
  });
}
