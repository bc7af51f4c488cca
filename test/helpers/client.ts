/** A plain connection for tests, closed when the test ends. */
import { type Reply, RespConnection } from '../../src/resp/connection.ts';
import { atEnd, type Cleanup } from './server.ts';
import { within } from './wait.ts';

/** No server of a test takes this long for a connection or an answer. */
export const ANSWER_MS = 60_000;

export async function testClient(t: Cleanup, port: number): Promise<RespConnection> {
  const client = await within(RespConnection.connect(port), ANSWER_MS, `a connection to port ${port}`);
  atEnd(t, () => client.close());
  return client;
}

/** A reply as plain values to compare with: Buffers become text (latin1, every byte kept). */
export function plain(reply: Reply | undefined): unknown {
  if (Buffer.isBuffer(reply)) return reply.toString('latin1');
  return Array.isArray(reply) ? reply.map(plain) : reply;
}

/** One field of INFO as text, e.g. `infoField(client, 'replication', 'master_repl_offset')`; '' when absent. */
export async function infoField(client: RespConnection, section: string, field: string): Promise<string> {
  const info = String(await client.call('INFO', section));
  return new RegExp(`^${field}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
}
