/**
 * The clients that are still on the source, or already on the target (CLIENT LIST), without replicas and without our
 * own connections; and how stragglers are thrown off.
 */
import { ReplyError } from '../client/reply-error.ts';
import { type BufferReply, CLIENT_NAME, type ServerSession } from '../client/session.ts';
import type { ClientInfo } from '../core/events.ts';
import { printable } from '../core/text.ts';

/** A client as CLIENT LIST tells of it, without what is worked out from it. */
type ListedClient = Omit<ClientInfo, 'writing'>;

/** A write older than this does not make its client a writer any more. */
const RECENT_SECONDS = 5;
/** What CLIENT LIST shows as `cmd` (7.0: `client|list`); anything else is not sent back to the server. */
const COMMAND_NAME = /^[a-z0-9._|-]{1,40}$/i;
/** COMMAND INFO does not call these writing, yet what they run may write. */
const MAY_WRITE: ReadonlySet<string> = new Set(['eval', 'evalsha', 'fcall', 'exec']);
/** Where COMMAND INFO is not answered (renamed, not permitted, before 2.8.13). */
const COMMON_WRITES =
  /^(append|bitop|bitfield|copy|del|expire(at)?|flush(all|db)|getdel|getex|getset|h(del|incrby(float)?|mset|set(nx)?)|(incr|decr)(by)?|incrbyfloat|b?[lr](insert|move|pop|poplpush|push|pushx|rem|set|trim)|move|mset(nx)?|persist|pexpire(at)?|pf(add|merge)|psetex|rename(nx)?|restore|s(add|move|pop|rem)|set(bit|ex|nx|range)?|unlink|x(ack|add|claim|del|group|readgroup|trim)|z(add|incrby|pop(max|min)|rem)|bzpop(max|min))$/;

/** @throws ReplyError where CLIENT LIST is refused */
export async function clientsOn(session: ServerSession): Promise<ClientInfo[]> {
  const clients = parseClientList(String(await session.call('CLIENT', 'LIST')));
  const writes = await writeCommands(
    session,
    clients.map((client) => client.lastCommand),
  );
  return clients.map((client) => ({
    ...client,
    writing: client.idleSeconds <= RECENT_SECONDS && writes.has(client.lastCommand),
  }));
}

/** One line a client, `name=value` words; flags S and M mark replication links (CLIENT LIST, all releases). */
export function parseClientList(text: string): ListedClient[] {
  const clients: ListedClient[] = [];
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const fields = new Map(
      line.split(' ').map((word) => {
        const equals = word.indexOf('=');
        return [word.slice(0, equals), word.slice(equals + 1)] as const;
      }),
    );
    const name = fields.get('name') ?? '';
    if (/[SM]/.test(fields.get('flags') ?? '') || name.startsWith(CLIENT_NAME)) continue;
    const idle = fields.get('idle') ?? '';
    clients.push({
      // the path of a Unix socket has up to 108 characters
      addr: printable(fields.get('addr') ?? '?', 128),
      name: printable(name, 80),
      // before 6.0 there are no users
      user: printable(fields.get('user') ?? 'default', 80),
      lastCommand: printable(fields.get('cmd') ?? '?', 40),
      idleSeconds: /^\d{1,15}$/.test(idle) ? Number(idle) : 0,
    });
  }
  return clients;
}

/** Those of `names` (as in CLIENT LIST) that write, or may write. */
async function writeCommands(session: ServerSession, names: readonly string[]): Promise<ReadonlySet<string>> {
  const known = [...new Set(names)].filter((name) => COMMAND_NAME.test(name));
  if (known.length === 0) return new Set();
  const [reply] = await session.pipeline([['COMMAND', 'INFO', ...known]]);
  const writes = Array.isArray(reply)
    ? known.filter((_name, index) => hasWriteFlag(reply[index]))
    : known.filter((name) => COMMON_WRITES.test(name.toLowerCase()));
  return new Set([...writes, ...known.filter((name) => MAY_WRITE.has(name.toLowerCase()))]);
}

/** Of one command in the reply to COMMAND INFO: name, arity, flags, …; null where it is not known. */
function hasWriteFlag(info: BufferReply | undefined): boolean {
  const flags: BufferReply | undefined = Array.isArray(info) ? info[2] : undefined;
  return Array.isArray(flags) && flags.some((flag) => Buffer.isBuffer(flag) && flag.toString() === 'write');
}

/**
 * CLIENT KILL for each address, in the form that every release takes. Those that went by themselves are no error.
 * @returns how many addresses were killed
 * @throws ReplyError where the server refuses and the client is still there
 */
export async function killClients(session: ServerSession, addresses: readonly string[]): Promise<number> {
  const replies = await session.pipeline(addresses.map((address) => ['CLIENT', 'KILL', address] as const));
  const unsettled = addresses.flatMap((address, index) => {
    const reply = replies[index];
    return reply instanceof ReplyError ? [{ address, reply }] : [];
  });
  if (unsettled.length > 0) {
    // "No such client" and a refusal have the same prefix: the list says which it was
    const present = new Set(
      parseClientList(String(await session.call('CLIENT', 'LIST'))).map(({ addr }) => addr),
    );
    const refused = unsettled.find(({ address }) => present.has(address));
    if (refused !== undefined) throw refused.reply;
  }
  return addresses.length - unsettled.length;
}
