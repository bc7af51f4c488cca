/**
 * Watches a target from which others cannot be fenced off (feed `write`; target-hold.ts says why): what they write while
 * it is filled would be lost, or make it differ, without a word. The target's own counters tell: executions of commands
 * that write (INFO commandstats, COMMAND) less those of ours (WriteTally). They never forget, so that a write is found
 * also when it came and went between two looks.
 *
 * While something of ours is under way the number is known as an interval only; a look counts as exact where nothing
 * was. Never a false alarm: found is only what lies above the upper end. What others execute and what changes nothing
 * (a DEL of no key, a BRPOP that waits) counts, too: it would not be without effect on another day.
 */
import { ReplyError } from '../client/reply-error.ts';
import { ServerInfo } from '../client/server-info.ts';
import type { BufferReply, ServerSession } from '../client/session.ts';
import { TargetError } from '../core/errors.ts';
import type { ClientInfo } from '../core/events.ts';
import { printable } from '../core/text.ts';
import type { WriteTally } from '../target/write/write-tally.ts';
import { clientsOn } from './clients.ts';

/** The feed is asked for a quiet moment where there was none for so long. */
const EXACT_EVERY_MS = 5_000;
const COMMANDS_SHOWN = 5;
const CLIENTS_SHOWN = 3;

/** Executions by command, names in lower case, as a server has counted them since it started or was told to forget. */
export type CommandCounts = ReadonlyMap<string, number>;

/** INFO commandstats: a line `cmdstat_<name>:calls=<n>,…` per command; `xgroup|create` from 7.0 on. */
export function parseCommandStats(text: string): CommandCounts {
  const counts = new Map<string, number>();
  for (const [, name = '', calls] of text.matchAll(/^cmdstat_([^:\r\n]+):calls=(\d+)/gm)) {
    counts.set(name.toLowerCase(), Number(calls));
  }
  return counts;
}

/** Names of the commands that the server flags as writing, in the reply to COMMAND; subcommands (7.0) stand in theirs. */
export function writeCommandNames(reply: BufferReply | undefined, names = new Set<string>()): Set<string> {
  for (const command of Array.isArray(reply) ? (reply as readonly BufferReply[]) : []) {
    if (!Array.isArray(command)) continue;
    const [name, , flags] = command as readonly BufferReply[];
    const writes = Array.isArray(flags) && flags.some((flag) => String(flag) === 'write');
    if (writes && Buffer.isBuffer(name)) names.add(name.toString('latin1').toLowerCase());
    writeCommandNames(command[9], names);
  }
  return names;
}

/** What a number of executed writes says, where between `least` and `most` of them are ours. */
export type CountVerdict =
  | { readonly kind: 'ours' }
  /** At least so many are others'. */
  | { readonly kind: 'foreign'; readonly count: number }
  /** Fewer than were ours: the counters were set back, or what we took for a write is none. */
  | { readonly kind: 'fell' };

export function judgeCount(executed: number, least: number, most: number): CountVerdict {
  if (executed > most) return { kind: 'foreign', count: executed - most };
  return executed < least ? { kind: 'fell' } : { kind: 'ours' };
}

/** True where a counter is lower than it was. */
export function hasFallen(before: CommandCounts, now: CommandCounts): boolean {
  return [...before].some(([name, calls]) => (now.get(name) ?? 0) < calls);
}

/** Which commands write on this server; a text for people where its writes cannot be counted. */
async function writesOn(session: ServerSession, info: ServerInfo): Promise<ReadonlySet<string> | string> {
  if (info.family === 'dragonfly' || info.family === 'other') {
    return `how ${info.family} servers count commands is not known to us`;
  }
  const [commands, stats] = await session.pipeline([['COMMAND'], ['INFO', 'commandstats']]);
  if (commands instanceof ReplyError) return `it does not say which commands write (${commands.reply})`;
  if (stats instanceof ReplyError) return `it does not tell its counters (${stats.reply})`;
  const names = writeCommandNames(commands);
  if (names.size === 0) return 'it does not say which commands write';
  return parseCommandStats(String(stats)).size === 0 ? 'it counts no commands' : names;
}

/** Why writes of others on this server could not be noticed; null: they are. Changes nothing. */
export async function whyUnwatched(session: ServerSession, info: ServerInfo): Promise<string | null> {
  const found = await writesOn(session, info);
  return typeof found === 'string' ? found : null;
}

interface Look {
  readonly counts: CommandCounts;
  /** Executions of commands that write. */
  readonly writes: number;
  /** Which process it was; null: not told. */
  readonly runId: string | null;
}

/** From where on it is counted, on the target's side and on ours. */
interface Base {
  readonly writes: number;
  readonly own: number;
}

interface Finding {
  readonly sinceMs: number;
  count: number;
  /** By command; with some of ours among them where not certain. */
  readonly commands: Map<string, number>;
  certain: boolean;
  clients: readonly ClientInfo[];
}

export interface WatchRequest {
  readonly session: ServerSession;
  readonly info: ServerInfo;
  readonly tally: WriteTally;
  readonly note: (message: string) => void;
  /** What an earlier process of the run has found, and nobody has looked at since; null: nothing. */
  readonly former: string | null;
  /** What was found, durable; null: it is gone. */
  readonly journal: (found: string | null) => Promise<void>;
}

export class ForeignWrites {
  readonly #request: WatchRequest;
  readonly #names: ReadonlySet<string>;
  /** Why nothing more can be told; null: it can. */
  #blind: string | null = null;
  /** null: to be taken at the next exact look. */
  #base: Base | null = null;
  #previous: Look | null = null;
  #exactAtMs = 0;
  /** The last look that was exact or found something; begun: what we had begun until then, -1 where not exact. */
  #since: { readonly counts: CommandCounts; readonly atMs: number; readonly begun: number } | null = null;
  #fallNoted = false;
  /** To be said when it is counted again; null: nothing. */
  #fall: string | null = null;
  #found: Finding | null = null;
  #former: string | null;
  /** Found before the base. */
  #foundEarlier = 0;
  #looking: Promise<void> = Promise.resolve();
  #ticking = false;

  private constructor(request: WatchRequest, names: ReadonlySet<string>) {
    this.#request = request;
    this.#names = names;
    this.#former = request.former;
  }

  /**
   * Counts from now on. null where that cannot be done, which is noted.
   * @throws TargetError where the connection broke
   */
  static async watch(request: WatchRequest): Promise<ForeignWrites | null> {
    const names = await writesOn(request.session, request.info);
    if (typeof names === 'string') {
      request.note(`writes of others on the target would not be noticed: ${names}`);
      return null;
    }
    const watch = new ForeignWrites(request, names);
    await watch.look();
    return watch;
  }

  /** Once a second, while the feed is connected: what earlier connections of ours had sent is executed, or never will be. */
  async tick(feed: { whileQuiet(work: () => Promise<void>): Promise<void> }): Promise<void> {
    if (this.#ticking) return;
    this.#ticking = true;
    try {
      await this.look();
      const due = this.#base === null || Date.now() - this.#exactAtMs > EXACT_EVERY_MS;
      if (due) await feed.whileQuiet(() => this.look());
    } catch {
      // a target that does not answer now is asked again
    } finally {
      this.#ticking = false;
    }
  }

  /** The target is about to be emptied: what others wrote goes with it. */
  async restart(): Promise<void> {
    await this.#looking.catch(() => undefined);
    if (this.#found !== null || this.#former !== null) await this.#request.journal(null);
    this.#found = null;
    this.#former = null;
    this.#foundEarlier = 0;
    this.#base = null;
    this.#previous = null;
    await this.look();
  }

  /** @throws TargetError `foreign-writes`, with the evidence; as look() */
  async assertNone(): Promise<void> {
    await this.look();
    const found = this.#found === null ? this.#former : describe(this.#found);
    if (found === null) return;
    throw new TargetError(`others have written to the target while it was filled: ${found}`, {
      code: 'foreign-writes',
      hint: 'keep those clients off the target, then start again with --flush-target; or, where you have compared both sides and it does no harm: q, then resume with --cutover ask, which counts anew',
    });
  }

  /** One after the other. @throws TargetError, ReplyError where the target does not answer */
  look(): Promise<void> {
    this.#looking = this.#looking.catch(() => undefined).then(() => this.#look());
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { tally } = this.#request;
    if (this.#isBlind()) return;
    const before = { least: tally.least, begun: tally.begun, quiet: tally.quiet };
    const look = await this.#read();
    if (this.#isBlind()) return;
    const exact = before.quiet && tally.begun === before.begun;
    const { most } = tally;
    const previous = this.#previous;
    this.#previous = look;
    const base = this.#base;
    if (base === null) {
      this.#rebase(look, exact);
      return;
    }
    const executed = look.writes - base.writes;
    const verdict = judgeCount(executed, before.least - base.own, most - base.own);
    const setBack =
      previous !== null && (look.runId !== previous.runId || hasFallen(previous.counts, look.counts));
    if (setBack || verdict.kind === 'fell') {
      this.#noteFall(setBack, look.runId !== previous?.runId);
      this.#rebase(look, exact);
      return;
    }
    if (verdict.kind === 'foreign') await this.#find(this.#foundEarlier + verdict.count, look, exact);
    if (exact && tally.least < most) this.#rebase(look, exact);
    else if (exact) this.#reach(look, exact);
  }

  #noteFall(setBack: boolean, restarted: boolean): void {
    // commands that only seem to write come again and again
    if (!setBack && this.#fallNoted) return;
    this.#fallNoted = true;
    const why = restarted
      ? 'it was restarted'
      : setBack
        ? 'CONFIG RESETSTAT?'
        : 'modules may count otherwise';
    this.#fall = `the target counts fewer writes than before (${why}): those of others in that time cannot be told`;
  }

  /** Counts from here on, or from the next exact look on. */
  #rebase(look: Look, exact: boolean): void {
    const { tally } = this.#request;
    this.#foundEarlier = this.#found?.count ?? 0;
    this.#base = null;
    if (!exact) return;
    tally.forgetDoubt();
    this.#base = { writes: look.writes, own: tally.least };
    if (this.#fall !== null) this.#request.note(this.#fall);
    this.#fall = null;
    this.#reach(look, exact);
  }

  #reach({ counts }: Look, exact: boolean): void {
    const atMs = Date.now();
    if (exact) this.#exactAtMs = atMs;
    this.#since = { counts, atMs, begun: exact ? this.#request.tally.begun : -1 };
  }

  async #find(count: number, look: Look, exact: boolean): Promise<void> {
    const { session, tally, note } = this.#request;
    const since = this.#since;
    const first = this.#found === null;
    const found: Finding = this.#found ?? {
      sinceMs: since?.atMs ?? Date.now(),
      count: 0,
      commands: new Map(),
      certain: true,
      clients: [],
    };
    const growth = count - found.count;
    if (growth <= 0) return;
    this.#found = found;
    found.count = count;
    found.certain &&= exact && since !== null && since.begun === tally.begun;
    for (const [name, calls] of look.counts) {
      const more = calls - (since?.counts.get(name) ?? 0);
      // of more than there are, most are ours
      if (more <= 0 || more > growth || !this.#names.has(name)) continue;
      found.commands.set(name, (found.commands.get(name) ?? 0) + more);
    }
    this.#reach(look, exact);
    if (!first) return;
    found.clients = await clientsOn(session).catch(() => []);
    note(`others write to the target: ${describe(found)}`);
    await this.#request.journal(describe(found));
  }

  /** Says so when it becomes so. */
  #isBlind(): boolean {
    if (this.#blind === null && this.#request.tally.uncountable) {
      this.#blind = 'the source sends scripts as they are, and nobody knows how many writes they are';
      this.#request.note(`writes of others on the target are not noticed from now on: ${this.#blind}`);
    }
    return this.#blind !== null;
  }

  async #read(): Promise<Look> {
    const { session } = this.#request;
    const [server, stats] = await session.pipeline([
      ['INFO', 'server'],
      ['INFO', 'commandstats'],
    ]);
    if (server instanceof ReplyError) throw server;
    if (stats instanceof ReplyError) throw stats;
    const { runId } = ServerInfo.parse(String(server));
    const counts = parseCommandStats(String(stats));
    let writes = 0;
    for (const [name, calls] of counts) if (this.#names.has(name)) writes += calls;
    return { counts, writes, runId };
  }
}

function describe({ count, sinceMs, commands, certain, clients }: Finding): string {
  const named = [...commands]
    .sort(([, a], [, b]) => a - b)
    .slice(0, COMMANDS_SHOWN)
    .map(([name, calls]) => `${printable(name, 40)} ${calls}`);
  const which = named.length === 0 ? '' : ` (${certain ? '' : 'among '}${named.join(', ')})`;
  const who = clients
    .slice(0, CLIENTS_SHOWN)
    .map(({ addr, name, lastCommand }) => `${addr}${name === '' ? '' : ` ${name}`} ${lastCommand}`);
  const more = clients.length > CLIENTS_SHOWN ? ` and ${clients.length - CLIENTS_SHOWN} more` : '';
  const clientsNow = who.length === 0 ? '' : `; clients there: ${who.join(', ')}${more}`;
  return `${count} write${count === 1 ? '' : 's'} since ${new Date(sinceMs).toISOString()}${which}${clientsNow}`;
}
