/**
 * Whether anybody has changed a server's data between two looks, for a server whose replication offset does not say:
 * one that has had no replica since it started does not count its writes (run on 2.8 to 9.1).
 */
import { ServerInfo } from '../client/server-info.ts';
import type { ServerSession } from '../client/session.ts';

/**
 * Two marks that are equal say that nothing was written between them. Others say nothing: a save and a restart make a
 * new one, too.
 * @returns null where the server does not tell enough; before 7.0, which does not count its saves, also in the second of
 * one: another one would not show
 * @throws what ServerSession throws
 */
export async function changeMark(session: ServerSession): Promise<string | null> {
  const [persistence, server, time] = await session.pipeline([
    ['INFO', 'persistence'],
    ['INFO', 'server'],
    ['TIME'],
  ]);
  const info = ServerInfo.parse(`${String(persistence)}\r\n${String(server)}`);
  const { runId } = info;
  const changes = info.number('rdb_changes_since_last_save');
  const savedAt = info.number('rdb_last_save_time');
  const saves = info.number('rdb_saves');
  const now = Array.isArray(time) ? Number(time[0]) : 0;
  if (runId === null || changes === null || savedAt === null) return null;
  if (saves === null && now <= savedAt) return null;
  return `${runId} ${savedAt} ${saves ?? '-'} ${changes}`;
}
