/** Function libraries of two servers (7.0), compared by their code. */
import type { BufferReply, ServerSession } from '../../client/session.ts';

/** Names of the libraries that one side lacks, or has with other code; in order. Throws ReplyError (NOPERM). */
export async function differingLibraries(source: ServerSession, target: ServerSession): Promise<Buffer[]> {
  const [here, there] = await Promise.all([librariesOf(source), librariesOf(target)]);
  const names = new Set([...here.keys(), ...there.keys()]);
  return [...names]
    .filter((name) => here.get(name) !== there.get(name))
    .sort()
    .map((name) => Buffer.from(name, 'latin1'));
}

async function librariesOf(session: ServerSession): Promise<Map<string, string>> {
  const reply = await session.callBuffer('FUNCTION', 'LIST', 'WITHCODE');
  const libraries = new Map<string, string>();
  for (const library of arrayOf(reply)) {
    const words = arrayOf(library);
    const fieldOf = (field: string): string => {
      const at = words.findIndex((word, index) => index % 2 === 0 && textOf(word) === field);
      return at < 0 ? '' : textOf(words[at + 1] ?? null);
    };
    libraries.set(fieldOf('library_name'), fieldOf('library_code'));
  }
  return libraries;
}

function arrayOf(reply: BufferReply): readonly BufferReply[] {
  return Array.isArray(reply) ? (reply as readonly BufferReply[]) : [];
}

function textOf(reply: BufferReply): string {
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : String(reply);
}
