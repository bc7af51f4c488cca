/** Settings of a server that a run changes for a while: read, written, and given back as they were. */
import { ReplyError } from '../client/reply-error.ts';
import type { ServerSession } from '../client/session.ts';

export interface Setting {
  readonly name: string;
  readonly value: string;
}

/** null where the server has no such setting. */
export async function readSetting(session: ServerSession, name: string): Promise<string | null> {
  const reply = await session.call('CONFIG', 'GET', name);
  const value = Array.isArray(reply) ? reply[1] : undefined;
  return typeof value === 'string' ? value : null;
}

/** Several at once, by name: those that the server has. Throws ReplyError where one is refused. */
export async function readSettings(
  session: ServerSession,
  names: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const settings = new Map<string, string>();
  const values = await Promise.all(names.map((name) => readSetting(session, name)));
  for (const [index, name] of names.entries()) {
    const value = values[index];
    if (typeof value === 'string') settings.set(name, value);
  }
  return settings;
}

/** One after the other; throws ReplyError for the first that is refused. */
export async function writeSettings(session: ServerSession, settings: readonly Setting[]): Promise<void> {
  for (const { name, value } of settings) await session.call('CONFIG', 'SET', name, value);
}

/** As they stand in a journal; anything else gives none. */
export function settingsFromJournal(json: unknown): Setting[] {
  if (!Array.isArray(json)) return [];
  return json.filter(
    (each): each is Setting =>
      typeof each === 'object' &&
      each !== null &&
      typeof (each as Partial<Setting>).name === 'string' &&
      typeof (each as Partial<Setting>).value === 'string',
  );
}

/** A setting that may be out of reach: null also where the server refuses to tell. */
export async function readSettingIfAllowed(session: ServerSession, name: string): Promise<string | null> {
  return readSetting(session, name).catch((error: unknown) => {
    if (error instanceof ReplyError) return null;
    throw error;
  });
}
