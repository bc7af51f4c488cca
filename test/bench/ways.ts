/**
 * The ways to bring a server into another that the benchmark puts side by side: the server's own replication, this
 * program by both feeds, and a peer whose binary the environment names (peer.ts).
 */
import { type CliRun, runCli } from '../helpers/cli.ts';
import { until } from '../helpers/wait.ts';
import { peerWays } from './peer.ts';
import { atAnyEnd, scratchFolder } from './scratch.ts';
import { connected, type Pair } from './servers.ts';
import { COPY_LIMIT_MS, metered, type Way } from './way.ts';

const FEEDS = ['write', 'attach'] as const;
const PLAIN = ['--tune-source', 'compression'];

export const NATIVE: Way = native('native REPLICAOF', []);
const NATIVE_DISKLESS: Way = native('native, diskless load', ['--repl-diskless-load', 'on-empty-db']);

/**
 * NATIVE, which the ratios refer to, is the first.
 * @param plain ours also with a source that is told not to compress its snapshot
 */
export function copyWays(plain: boolean): readonly Way[] {
  const plainly = plain ? FEEDS.map((feed) => ours(feed, PLAIN)) : [];
  return [NATIVE, NATIVE_DISKLESS, ...FEEDS.map((feed) => ours(feed)), ...plainly, ...peerWays()];
}

/** Those that differ once a copy is there. */
export function liveWays(): readonly Way[] {
  return [NATIVE, ...FEEDS.map((feed) => ours(feed)), ...peerWays()];
}

function native(name: string, targetArgs: readonly string[]): Way {
  const follow = ({ source, sourceHost, target }: Pair): Promise<void> =>
    connected(target, async (to) => {
      await to.call('REPLICAOF', sourceHost, source.port);
      await until(
        async () => String(await to.call('INFO', 'replication')).includes('master_link_status:up'),
        { timeoutMs: COPY_LIMIT_MS, what: 'the replica follows' },
      );
    });
  return {
    name,
    targetArgs,
    begin: (_round, pairs) => ({
      inSync: Promise.all(pairs.map(follow)).then(() => undefined),
      meters: [],
      end: async () => undefined,
    }),
  };
}

function ours(feed: (typeof FEEDS)[number], more: readonly string[] = []): Way {
  return {
    name: ['redis-cutover,', feed, ...more].join(' '),
    targetArgs: [],
    begin: (round, pairs, stays) => {
      const folder = scratchFolder(round);
      const run = runCli(
        [
          'migrate',
          '--src',
          ...pairs.map(({ source, sourceHost }) => `redis://${sourceHost}:${source.port}`),
          '--dst',
          ...pairs.map(({ target }) => target.uri),
          ...['--feed', feed, '--parallel', String(pairs.length), '--json', ...more],
          ...(stays ? ['--cutover', 'never'] : ['--stop-at', 'in-sync']),
        ],
        // its own temporary files, too, should it be killed
        { cwd: folder, env: { TMPDIR: folder }, t: round },
      );
      atAnyEnd(round, () => run.kill('SIGKILL'));
      return {
        inSync: allInSync(run, pairs.length),
        meters: [metered(round, run.pid)],
        end: async () => {
          if (stays) run.kill('SIGTERM');
          await run.exit;
        },
      };
    },
  };
}

async function allInSync(run: CliRun, count: number): Promise<void> {
  const names = new Set<unknown>();
  await run.until((event) => {
    if (event.event === 'phase' && event['to'] === 'in-sync') names.add(event['pair']);
    return names.size === count;
  }, COPY_LIMIT_MS);
}
