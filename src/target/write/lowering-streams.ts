/** The rows of lowering.ts for streams. Before 5.0 there are none: a target of then refuses the first X command. */
import type { LoweringContext, LoweringRow, StreamLoss } from './lowering.ts';
import { deleteEntries, trimBelow } from './own-scripts.ts';
import { indexOfOption, lowerCase, type Word } from './words.ts';

export const COUNTERS_LOST: StreamLoss = {
  what: 'counters of streams and their groups (ENTRIESREAD, ENTRIESADDED, MAXDELETEDID), when consumers were last active',
  matters: false,
};
const ACKED_LOST: StreamLoss = {
  what: 'trimming of acknowledged entries only (ACKED of XADD and XTRIM): their streams stay longer',
  matters: true,
};
const DELREF_LOST: StreamLoss = {
  what: 'removal of trimmed entries from groups (DELREF of XADD and XTRIM)',
  matters: true,
};
export const IDMP_LOST: StreamLoss = { what: 'ids against double XADD (IDMP)', matters: true };
export const XNACK_LOST: StreamLoss = {
  what: 'given-back entries of groups (XNACK): they stay with their consumer',
  matters: true,
};

export const STREAM_LOWERINGS: readonly LoweringRow[] = [
  ['xadd', ['streams62', 'streamRefs', 'idmp', 'idmpWithId'], lowerXadd],
  ['xtrim', ['streams62', 'streamRefs'], lowerXtrim],
  ['xgroup', ['streams62', 'streams70'], lowerXgroup],
  ['xsetid', ['streams70'], lowerXsetid],
  ['xdelex', ['streamRefs'], lowerXdelex],
  ['xackdel', ['streamRefs'], lowerXackdel],
  ['xnack', ['xnack'], leftOut(XNACK_LOST)],
  ['xcfgset', ['idmp'], leftOut(IDMP_LOST)],
  ['xidmprecord', ['xidmprecord'], leftOut(IDMP_LOST)],
];

function leftOut(loss: StreamLoss): LoweringRow[2] {
  return (_words, context) => {
    context.lose(loss);
    return [];
  };
}

/**
 * XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [IDMP pid iid|IDMPAUTO pid] [MAXLEN|MINID [=|~] n [LIMIT n]] id field
 * value …; the id is whole, and there is a stream if NOMKSTREAM stands there (protocol.md 2.2).
 */
function lowerXadd(words: readonly Word[], context: LoweringContext): Word[][] {
  const { missing } = context;
  const key = words[1];
  if (key === undefined) return [words.slice()];
  const options: Word[] = [];
  let trim: Trim | null = null;
  let recorded: { readonly pid: Word; readonly iid: Word } | null = null;
  let at = 2;
  for (; ; at++) {
    const option = lowerCase(words[at]);
    if (option === 'nomkstream') {
      if (!missing.has('streams62')) options.push(words[at]!);
    } else if (isRefs(option)) {
      if (!missing.has('streamRefs')) options.push(words[at]!);
    } else if (option === 'idmp') {
      recorded = { pid: words[at + 1] ?? '', iid: words[at + 2] ?? '' };
      at += 2;
    } else if (option === 'idmpauto') {
      // its second id is made of the entry: nobody can record it without knowing how
      context.lose(IDMP_LOST);
      at++;
    } else if (option === 'maxlen' || option === 'minid') {
      trim = trimAt(words, at);
      at = trim.end - 1;
    } else {
      break;
    }
  }
  const trimming = trim === null ? null : lowerTrim(key, trim, refsOf(words.slice(2, at)), context);
  const commands: Word[][] = [
    ['XADD', key, ...options, ...(trimming?.kind === 'options' ? trimming.words : []), ...words.slice(at)],
  ];
  if (recorded !== null) {
    if (missing.has('idmp') || missing.has('xidmprecord')) context.lose(IDMP_LOST);
    else commands.push(['XIDMPRECORD', key, recorded.pid, recorded.iid, words[at] ?? '']);
  }
  if (trimming?.kind === 'command') commands.push(trimming.words);
  return commands;
}

/** XTRIM key MAXLEN|MINID [=|~] n [LIMIT n] [KEEPREF|DELREF|ACKED] */
function lowerXtrim(words: readonly Word[], context: LoweringContext): Word[][] {
  const key = words[1];
  if (key === undefined) return [words.slice()];
  const rest = words.slice(2);
  const at = rest.findIndex((word) => ['maxlen', 'minid'].includes(lowerCase(word)));
  if (at < 0) return [words.slice()];
  const trim = trimAt(rest, at);
  const refs = refsOf(rest);
  const trimming = lowerTrim(key, trim, refs, context);
  switch (trimming.kind) {
    case 'none':
      return [];
    case 'command':
      return [trimming.words];
    case 'options': {
      const known = refs !== '' && !context.missing.has('streamRefs') ? [refs] : [];
      return [['XTRIM', key, ...trimming.words, ...known]];
    }
  }
}

interface Trim {
  readonly by: 'maxlen' | 'minid';
  /** As it came, from MAXLEN or MINID to before `end`. */
  readonly words: readonly Word[];
  readonly limit: Word;
  readonly end: number;
}

function trimAt(words: readonly Word[], at: number): Trim {
  let next = at + 1;
  if (['=', '~'].includes(lowerCase(words[next]))) next++;
  const limit = words[next++] ?? '';
  if (lowerCase(words[next]) === 'limit') next += 2;
  return {
    by: lowerCase(words[at]) === 'minid' ? 'minid' : 'maxlen',
    words: words.slice(at, next),
    limit,
    end: next,
  };
}

type Trimming =
  | { readonly kind: 'none' }
  /** Of XADD or XTRIM. */
  | { readonly kind: 'options'; readonly words: readonly Word[] }
  | { readonly kind: 'command'; readonly words: Word[] };

function lowerTrim(key: Word, trim: Trim, refs: string, context: LoweringContext): Trimming {
  const { missing, lose } = context;
  if (missing.has('streamRefs')) {
    if (refs === 'acked') {
      // rather too many entries than too few
      lose(ACKED_LOST);
      return { kind: 'none' };
    }
    if (refs === 'delref') lose(DELREF_LOST);
  }
  if (trim.by === 'maxlen' || !missing.has('streams62')) return { kind: 'options', words: trim.words };
  const last = idBefore(lowerCase(trim.limit));
  return last === null ? { kind: 'none' } : { kind: 'command', words: trimBelow(key, last) };
}

const LARGEST_PART = 2n ** 64n - 1n;

/** The greatest id below `id` (`ms` or `ms-seq`); null where there is none. */
function idBefore(id: string): string | null {
  const [, ms, sequence] = /^(\d+)(?:-(\d+))?$/.exec(id) ?? [];
  if (ms === undefined) return null;
  const seq = BigInt(sequence ?? 0);
  if (seq > 0n) return `${ms}-${seq - 1n}`;
  return BigInt(ms) > 0n ? `${BigInt(ms) - 1n}-${LARGEST_PART}` : null;
}

function isRefs(option: string): option is 'keepref' | 'delref' | 'acked' {
  return option === 'keepref' || option === 'delref' || option === 'acked';
}

function refsOf(options: readonly Word[]): 'keepref' | 'delref' | 'acked' | '' {
  return options.map(lowerCase).find(isRefs) ?? '';
}

/** XGROUP CREATE key group id [MKSTREAM] [ENTRIESREAD n], SETID key group id [ENTRIESREAD n], CREATECONSUMER key group name */
function lowerXgroup(words: readonly Word[], context: LoweringContext): Word[][] {
  const [, , key, group, consumer] = words;
  const what = lowerCase(words[1]);
  if (what === 'createconsumer' && context.missing.has('streams62')) {
    // who reads what was delivered to him is known from then on, and gets nothing (run on 5.0.10)
    return [['XREADGROUP', 'GROUP', group ?? '', consumer ?? '', 'COUNT', '1', 'STREAMS', key ?? '', '0']];
  }
  const at = what === 'create' || what === 'setid' ? indexOfOption(words, 'entriesread', 5) : -1;
  if (at < 0 || !context.missing.has('streams70')) return [words.slice()];
  context.lose(COUNTERS_LOST);
  return [[...words.slice(0, at), ...words.slice(at + 2)]];
}

/** XSETID key id [ENTRIESADDED n] [MAXDELETEDID id] */
function lowerXsetid(words: readonly Word[], context: LoweringContext): Word[][] {
  if (words.length > 3) context.lose(COUNTERS_LOST);
  return [words.slice(0, 3)];
}

/** XDELEX key [KEEPREF|DELREF|ACKED] IDS n id … */
function lowerXdelex(words: readonly Word[]): Word[][] {
  const ids = indexOfOption(words, 'ids', 2);
  const key = words[1];
  if (key === undefined || ids < 0) return [words.slice()];
  const refs = refsOf(words.slice(2, ids)) || 'keepref';
  if (refs === 'keepref') return [['XDEL', key, ...words.slice(ids + 2)]];
  return [deleteEntries(key, refs, null, words.slice(ids + 2))];
}

/** XACKDEL key group [KEEPREF|DELREF|ACKED] IDS n id …; what the group does not wait for stays. */
function lowerXackdel(words: readonly Word[]): Word[][] {
  const ids = indexOfOption(words, 'ids', 3);
  const [, key, group] = words;
  if (key === undefined || group === undefined || ids < 0) return [words.slice()];
  return [deleteEntries(key, refsOf(words.slice(3, ids)) || 'keepref', group, words.slice(ids + 2))];
}
