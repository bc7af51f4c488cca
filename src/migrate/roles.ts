/** Masters and replicas: what a server says of its place in a chain, and the commands that change it. protocol.md 1.13. */
import { ReplyError } from '../client/reply-error.ts';
import { ServerInfo } from '../client/server-info.ts';
import type { Command, ServerSession } from '../client/session.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { TargetError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';

/** INFO replication of a server from 4.0 on. */
export interface ReplicationState extends ReplicationPosition {
  readonly role: 'master' | 'replica';
  /** Of a replica: where its master is, and whether the link is up. */
  readonly master: { readonly host: string; readonly port: number } | null;
  readonly linkUp: boolean;
  /** The history that it had before, and the offset behind which it left it; null: none. */
  readonly former: { readonly replid: string; readonly endOffset: number } | null;
}

export async function replicationState(session: ServerSession): Promise<ReplicationState> {
  return stateOf(await session.info('replication'));
}

function stateOf(info: ServerInfo): ReplicationState {
  const formerId = info.text('master_replid2');
  const secondOffset = info.number('second_repl_offset') ?? -1;
  const host = info.text('master_host');
  return {
    role: info.role,
    replid: info.masterReplid ?? '',
    offset: info.masterReplOffset ?? -1,
    master: host === null ? null : { host, port: info.number('master_port') ?? 0 },
    linkUp: info.masterLinkUp,
    former: formerId === null || secondOffset < 0 ? null : { replid: formerId, endOffset: secondOffset - 1 },
  };
}

/** True where `replica` follows `master`, or was told to and has not come to it yet; `at`: where it finds it. */
export function isFollowing(
  replica: ReplicationState,
  master: ReplicationState,
  at: Pick<Endpoint, 'host' | 'port'>,
): boolean {
  if (replica.role === 'master') return false;
  const told = replica.master?.host === at.host && replica.master.port === at.port;
  return told || replica.replid === master.replid;
}

/** REPLICAOF, or SLAVEOF before 5.0. */
export function replicaOf(info: ServerInfo, host: string, port: number | string): Command {
  return [info.atLeast(5, 0) ? 'REPLICAOF' : 'SLAVEOF', host, port];
}

/** Makes a replica a master; returns where it left its history. */
export async function makeMaster(session: ServerSession, info: ServerInfo): Promise<ReplicationState> {
  const [refused, told] = await session.pipeline([replicaOf(info, 'NO', 'ONE'), ['INFO', 'replication']]);
  if (refused instanceof ReplyError) throw refused;
  return stateOf(ServerInfo.parse(String(told)));
}

/** @throws TargetError `offset-mismatch` where a server did not become a master at exactly this place */
export function assertLeftAt(state: ReplicationState, place: ReplicationPosition, where: string): void {
  const { role, former } = state;
  if (role === 'master' && former?.replid === place.replid && former.endOffset === place.offset) return;
  throw new TargetError(
    `the ${where} left the history at offset ${former?.endOffset ?? '?'}, not at ${place.offset}`,
    {
      code: 'offset-mismatch',
      hint: 'nothing is to be done: it is undone; try again',
      recovery: 'reconnect',
    },
  );
}

/** Makes a server follow a master; `login` where the master wants one. */
export async function follow(
  session: ServerSession,
  info: ServerInfo,
  master: Pick<Endpoint, 'host' | 'port' | 'username' | 'password'>,
): Promise<void> {
  const { host, port, username, password } = master;
  if (password !== null) {
    if (info.atLeast(6, 0)) await session.call('CONFIG', 'SET', 'masteruser', username ?? '');
    await session.call('CONFIG', 'SET', 'masterauth', password.reveal());
  }
  const [command, ...args] = replicaOf(info, host, port);
  await session.call(command, ...args);
}

/** The seconds between a master's PINGs, which move its offset. */
export function pingPeriodName(info: ServerInfo): string {
  return info.atLeast(5, 0) ? 'repl-ping-replica-period' : 'repl-ping-slave-period';
}
