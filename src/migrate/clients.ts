/** The clients that are still on the source (CLIENT LIST), without replicas and without our own connections. */
import { CLIENT_NAME, type ServerSession } from '../client/session.ts';
import type { ClientInfo } from '../core/events.ts';
import { printable } from '../core/text.ts';

export async function clientsOn(source: ServerSession): Promise<ClientInfo[]> {
  return parseClientList(String(await source.call('CLIENT', 'LIST')));
}

/** One line a client, `name=value` words; flags S and M mark replication links (CLIENT LIST, all releases). */
export function parseClientList(text: string): ClientInfo[] {
  const clients: ClientInfo[] = [];
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
    clients.push({
      addr: printable(fields.get('addr') ?? '?', 80),
      name: printable(name, 80),
      // before 6.0 there are no users
      user: printable(fields.get('user') ?? 'default', 80),
      lastCommand: printable(fields.get('cmd') ?? '?', 40),
      idleSeconds: Number(fields.get('idle') ?? 0),
    });
  }
  return clients;
}
