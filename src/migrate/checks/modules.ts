/**
 * Modules of the source that the target does not have: their values no target takes, and their commands it does not
 * know. Found out before a run begins, as far as it can be; what --skip-unknown may leave out follows from that.
 */
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { ServerSession } from '../../client/session.ts';
import { printable } from '../../core/text.ts';
import { TYPE } from '../../rdb/opcodes.ts';
import type { TargetCapabilities } from '../../target/write/capabilities.ts';
import { ask, type Check, type CheckContext, ok, refuse, unknown, warn } from './context.ts';

type TwoServers = Pick<CheckContext, 'source' | 'target' | 'sourceInfo' | 'targetInfo'>;

/** So many keys of the source are asked for their type: enough to see all of a small server in a moment. */
const LOOKED_AT = 20_000;
const PAGE = 1_000;
/** Valkey 9.1 lists its own engine for Lua as a module; it has neither types nor commands of its own. */
const SCRIPT_ENGINE = 'lua';
const OWN_TYPES = new Set(['string', 'list', 'set', 'zset', 'hash', 'stream', 'array', 'none']);

/** Values of modules that the target has not got are refused one by one: better before anything is touched. */
export const modules: Check = async (context) => {
  const name = 'modules';
  const { sourceInfo, options } = context;
  if (!sourceInfo.atLeast(4, 0)) return ok(name, 'none: the source is older than modules');
  const missing = await missingModules(context);
  if (missing instanceof ReplyError) return unknown(name, 'the modules of the two servers', missing);
  if (missing.length === 0) return ok(name, 'the target has all that the source has');
  const found = await countTypes(context, (type) => !OWN_TYPES.has(type));
  const absent = `not on the target: ${missing.join(', ')}`;
  const stops = options.skipUnknown
    ? 'what belongs to it is skipped and listed (--skip-unknown)'
    : 'a value of such a module stops the run';
  const hint =
    'load the modules on the target: MODULE LOAD <path>; or leave out what belongs to them: --skip-unknown';
  if (found === null) return warn(name, `${absent}; ${stops}`, hint);
  const { types, keys, all } = found;
  if (types.size === 0) {
    return all
      ? ok(name, `${absent}; no key of the source belongs to a module`)
      : warn(name, `${absent}; none of ${keys} keys looked at belongs to a module; ${stops}`, hint);
  }
  const seen = [...types].map(([type, count]) => `${count} of type ${printable(type, 30)}`).join(', ');
  const detail = `${absent}; of ${keys} keys looked at ${seen}`;
  // where the target has some of the source's modules, nobody can tell which of them a type is of
  const theirs = await moduleNames(context.source);
  const certain = !(theirs instanceof ReplyError) && missing.length === theirs.length;
  return options.skipUnknown || !certain
    ? warn(name, `${detail}; ${stops}`, hint)
    : refuse(name, detail, hint);
};

/**
 * Names of the modules (Redis >= 4.0) that the source has loaded and the target has not, fit to be shown; the error
 * reply where a server does not tell.
 */
export async function missingModules({
  source,
  target,
}: Pick<TwoServers, 'source' | 'target'>): Promise<string[] | ReplyError> {
  const wanted = await moduleNames(source);
  if (wanted instanceof ReplyError || wanted.length === 0) return wanted;
  const present = await moduleNames(target);
  return present instanceof ReplyError ? present : wanted.filter((module) => !present.includes(module));
}

/** What a run is to know of all this. */
export interface Lacking {
  /** True where the target may lack a module of the source. */
  readonly modules: boolean;
  /**
   * Commands of the source, by name in lower case, that belong to modules, or to types, that the target does not have;
   * none where a server does not tell its commands.
   */
  readonly commands: ReadonlySet<string>;
  /** The target's own types, as TYPE names them. */
  readonly typesTaken: ReadonlySet<string>;
}

export async function lackingOn(servers: TwoServers): Promise<Lacking> {
  const { source, target, sourceInfo, targetInfo } = servers;
  const missing = sourceInfo.atLeast(4, 0) ? await missingModules(servers) : [];
  const modules = missing instanceof ReplyError || missing.length > 0;
  const lacksStreams = sourceInfo.atLeast(5, 0) && !targetInfo.atLeast(5, 0);
  const hasArrays = (info: ServerInfo): boolean => info.family === 'redis' && info.atLeast(8, 8);
  const lacksArrays = hasArrays(sourceInfo) && !hasArrays(targetInfo);
  const lacks = { stream: lacksStreams, array: lacksArrays } as Readonly<Record<string, boolean>>;
  const typesTaken = new Set([...OWN_TYPES].filter((type) => lacks[type] !== true));
  if (!modules && !lacksStreams && !lacksArrays) return { modules, commands: new Set(), typesTaken };
  const theirs = await commandsOf(source);
  const known = new Set((await commandsOf(target))?.keys());
  const commands = [...(theirs ?? [])]
    .filter(
      ([name, isOfModule]) =>
        isOfModule || (lacksStreams && name.startsWith('x')) || (lacksArrays && name.startsWith('ar')),
    )
    .map(([name]) => name)
    .filter((name) => known.size > 0 && !known.has(name));
  return { modules, commands: new Set(commands), typesTaken };
}

/**
 * The same target, but no value of a module is sent to it where it may not have the module, and RESTORE of such a value
 * ends the server: before 6.2 (run on 5.0.10 and 6.0.9, "The RDB file contains module data I can't load").
 */
export function withSafeModules(
  capabilities: TargetCapabilities,
  { targetInfo }: Pick<TwoServers, 'targetInfo'>,
  { modules }: Lacking,
): TargetCapabilities {
  if (!modules || targetInfo.atLeast(6, 2)) return capabilities;
  const forms = new Set(capabilities.forms);
  forms.delete(TYPE.module2);
  return { ...capabilities, forms };
}

async function moduleNames(session: ServerSession): Promise<string[] | ReplyError> {
  const reply = await ask(session, 'MODULE', 'LIST');
  if (reply instanceof ReplyError) return reply;
  // Each module is a list of names and values, the name first.
  const names = (Array.isArray(reply) ? reply : []).map((module) =>
    printable(String(Array.isArray(module) ? module[1] : module)),
  );
  return names.filter((name) => name !== SCRIPT_ENGINE);
}

/** Names of all commands in lower case, and whether each is of a module; null where the server does not tell. */
async function commandsOf(session: ServerSession): Promise<ReadonlyMap<string, boolean> | null> {
  const reply = await ask(session, 'COMMAND');
  if (!Array.isArray(reply)) return null;
  // Each command is a list: its name, its arity, its flags, …
  return new Map(
    reply.map((command) => {
      const [name, , flags] = Array.isArray(command) ? command : [];
      return [String(name).toLowerCase(), Array.isArray(flags) && flags.map(String).includes('module')];
    }),
  );
}

interface TypeCounts {
  /** Types that were asked for, and how many keys each has. */
  readonly types: ReadonlyMap<string, number>;
  /** How many keys were looked at. */
  readonly keys: number;
  readonly all: boolean;
}

/** Looks through the source's keys, some of them where there are many; null where it does not let us. */
export async function countTypes(
  { source, sourceInfo }: CheckContext,
  wanted: (type: string) => boolean,
): Promise<TypeCounts | null> {
  const types = new Map<string, number>();
  let keys = 0;
  for (const { db } of sourceInfo.keyspace) {
    let cursor = '0';
    do {
      if (keys >= LOOKED_AT) return { types, keys, all: false };
      // our connection goes back to database 0 in the same breath
      const [, page] = await source.pipeline([
        ['SELECT', db],
        ['SCAN', cursor, 'COUNT', PAGE],
        ['SELECT', 0],
      ]);
      if (!Array.isArray(page) || !Array.isArray(page[1])) return null;
      cursor = String(page[0]);
      const names = page[1] as Buffer[];
      const answers = await source.pipeline([
        ['SELECT', db],
        ...names.map((name): [string, Buffer] => ['TYPE', name]),
        ['SELECT', 0],
      ]);
      keys += names.length;
      for (const type of answers.slice(1, -1)) {
        if (type instanceof ReplyError) return null;
        if (wanted(String(type))) types.set(String(type), (types.get(String(type)) ?? 0) + 1);
      }
    } while (cursor !== '0');
  }
  return { types, keys, all: true };
}
