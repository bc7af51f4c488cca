/** What the benchmark asks its servers, each question on a connection of its own. */
import type { DemoServer } from '../../src/demo/server.ts';
import { RespConnection } from '../../src/resp/connection.ts';
import { until } from '../helpers/wait.ts';
import { cpuSecondsWithChildren } from './process-usage.ts';

/** A source and its target. Each source may have an address of its own: a fleet's sources are on hosts of their own. */
export interface Pair {
  readonly source: DemoServer;
  readonly sourceHost: string;
  readonly target: DemoServer;
}

/** For a source: the benchmark asks how fast a copy is, not whether this machine's output-buffer limit ends it. */
export const SOURCE_ARGS = ['--client-output-buffer-limit', 'replica 0 0 0'] as const;

export async function connected<Value>(
  server: DemoServer,
  use: (to: RespConnection) => Promise<Value>,
): Promise<Value> {
  const connection = await RespConnection.connect(server.port);
  try {
    return await use(connection);
  } finally {
    connection.close();
  }
}

/** Keys in all databases. */
export async function keyCount(server: DemoServer): Promise<number> {
  const keyspace = await connected(server, async (to) => String(await to.call('INFO', 'keyspace')));
  return [...keyspace.matchAll(/keys=(\d+)/g)].reduce((sum, [, keys]) => sum + Number(keys), 0);
}

/** As the server says it: `588.10M`. */
export async function memoryUsed(server: DemoServer): Promise<string> {
  const memory = await connected(server, async (to) => String(await to.call('INFO', 'memory')));
  return /used_memory_human:(\S+)/.exec(memory)?.[1] ?? '?';
}

/** CPU seconds of these servers so far, the processes that wrote their snapshots included. */
export async function serverCpuSeconds(servers: readonly DemoServer[]): Promise<number> {
  for (const server of servers) {
    await connected(server, (to) =>
      // what a child has used counts as soon as its parent has noticed its end
      until(async () => String(await to.call('INFO', 'persistence')).includes('rdb_bgsave_in_progress:0'), {
        what: 'the end of a BGSAVE',
      }),
    );
  }
  return servers.reduce((sum, { process: { pid } }) => sum + cpuSecondsWithChildren(pid ?? 0), 0);
}
