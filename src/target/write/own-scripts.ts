/**
 * Scripts in the place of commands that an older target does not know (lowering.ts). Each is sent as EVAL within the
 * batch, and does what the command does. As far as it can, it executes the same number of commands that write whatever
 * it finds, so that they can be counted (write-tally.ts): hence PERSIST where there is no expiry.
 */
import type { Word } from './words.ts';

/**
 * From 3.2 to 4.0 a script that has asked for the time to live, or a dump, may write only so. Before there is no such
 * rule for these commands (run on 2.8.17), from 5.0 on it is the rule.
 */
const BY_EFFECTS = 'if redis.replicate_commands then redis.replicate_commands() end ';

/** SET key value KEEPTTL. */
const SET_KEEPTTL = `${BY_EFFECTS}local left = redis.call('PTTL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
if left >= 0 then redis.call('PEXPIRE', KEYS[1], math.max(left, 1)) else redis.call('PERSIST', KEYS[1]) end`;

/** LMOVE; ARGV: the command that takes, the one that puts. */
const MOVE_ELEMENT = `local value = redis.call(ARGV[1], KEYS[1])
if value then redis.call(ARGV[2], KEYS[2], value) end`;

/** COPY … REPLACE; ARGV: the other database, or nothing. The caller's database stays selected (run on 2.8.17). */
const COPY_KEY = `${BY_EFFECTS}local value = redis.call('DUMP', KEYS[1])
if not value then return end
local left = redis.call('PTTL', KEYS[1])
if ARGV[1] ~= '' then redis.call('SELECT', ARGV[1]) end
redis.call('DEL', KEYS[2])
redis.call('RESTORE', KEYS[2], left < 0 and 0 or math.max(left, 1), value)`;

/** ZADD with any options; ARGV: these in lower case, then score member …. A member may come twice. */
const ZADD_IF = `local is, adds, now = {}, {}, {}
for word in string.gmatch(ARGV[1], '%a+') do is[word] = true end
for i = 2, #ARGV, 2 do
  local score, member = ARGV[i], ARGV[i + 1]
  local old = now[member] or tonumber(redis.call('ZSCORE', KEYS[1], member))
  local new = tonumber(score)
  if is.incr and old then
    new = old + new
    score = string.format('%.17g', new)
  end
  local wanted
  if old then wanted = not is.nx and not (is.gt and new <= old) and not (is.lt and new >= old)
  else wanted = not is.xx end
  if wanted then
    now[member] = new
    adds[#adds + 1] = score
    adds[#adds + 1] = member
  end
end
for i = 1, #adds, 1000 do redis.call('ZADD', KEYS[1], unpack(adds, i, math.min(i + 999, #adds))) end`;
const ZADD_PAIRS_AT_ONCE = 500;

/** HSETEX … KEEPTTL, where the target knows expiries of fields (Redis 7.4); ARGV: field value …. */
const HSET_KEEPTTL = `for i = 1, #ARGV, 2 do
  local at = redis.call('HPEXPIRETIME', KEYS[1], 'FIELDS', 1, ARGV[i])
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  if type(at) == 'table' and at[1] > 0 then
    redis.call('HPEXPIREAT', KEYS[1], string.format('%.0f', at[1]), 'FIELDS', 1, ARGV[i])
  else redis.call('HPERSIST', KEYS[1], 'FIELDS', 1, ARGV[i]) end
end`;

/** XTRIM … MINID; ARGV: the last id that goes. */
const TRIM_BELOW = `local below = #redis.call('XRANGE', KEYS[1], '-', ARGV[1])
redis.call('XTRIM', KEYS[1], 'MAXLEN', redis.call('XLEN', KEYS[1]) - below)`;

/**
 * XDELEX and XACKDEL; ARGV: keepref, delref or acked, the group of XACKDEL or nothing, ids. An entry is acknowledged
 * by a group that has read it and waits for no acknowledgement.
 */
const DELETE_ENTRIES = `local function order(id)
  local ms, seq = string.match(id, '^(%d+)-?(%d*)$')
  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end
local key, mode, group, groups = KEYS[1], ARGV[1], ARGV[2], {}
if redis.call('EXISTS', key) == 0 then return end
for _, facts in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local each = {}
  for i = 1, #facts, 2 do each[facts[i]] = facts[i + 1] end
  groups[#groups + 1] = each
end
for i = 3, #ARGV do
  local id = ARGV[i]
  local goes = group == '' or redis.call('XACK', key, group, id) == 1
  if goes and mode ~= 'keepref' then
    for _, each in ipairs(groups) do
      if mode == 'delref' then redis.call('XACK', key, each.name, id)
      elseif order(each['last-delivered-id']) < order(id)
        or #redis.call('XPENDING', key, each.name, id, id, 1) > 0 then goes = false end
    end
  end
  if goes then redis.call('XDEL', key, id) end
end`;

/** How many commands that write each executes, by its ARGV; null: that depends on what it finds. */
const WRITES: ReadonlyMap<Word, (args: readonly Word[]) => number | null> = new Map<
  Word,
  (args: readonly Word[]) => number | null
>([
  [SET_KEEPTTL, () => 2],
  [MOVE_ELEMENT, () => 2],
  [COPY_KEY, () => 2],
  [ZADD_IF, (args) => (args.length - 1 <= 2 * ZADD_PAIRS_AT_ONCE ? 1 : null)],
  [HSET_KEEPTTL, (args) => args.length],
  [TRIM_BELOW, () => 1],
  [DELETE_ENTRIES, () => null],
]);

/** How many commands that write this EVAL executes; null: nobody knows, as of each that is not ours. */
export function writesOfScript(words: readonly Word[]): number | null {
  // the source's words are Buffers: its scripts are found in no map
  const script = words[1];
  return (script === undefined ? undefined : WRITES.get(script)?.(words.slice(3 + Number(words[2])))) ?? null;
}

export function setKeepttl(key: Word, value: Word): Word[] {
  return ['EVAL', SET_KEEPTTL, '1', key, value];
}

/** @param takes LPOP or RPOP @param puts LPUSH or RPUSH */
export function moveElement(from: Word, to: Word, takes: string, puts: string): Word[] {
  return ['EVAL', MOVE_ELEMENT, '2', from, to, takes, puts];
}

/** @param db null: the same */
export function copyKey(from: Word, to: Word, db: Word | null): Word[] {
  return ['EVAL', COPY_KEY, '2', from, to, db ?? ''];
}

/** @param options in lower case @param pairs score member … */
export function zaddIf(key: Word, options: readonly string[], pairs: readonly Word[]): Word[] {
  return ['EVAL', ZADD_IF, '1', key, options.join(' '), ...pairs];
}

/** @param pairs field value … */
export function hsetKeepttl(key: Word, pairs: readonly Word[]): Word[] {
  return ['EVAL', HSET_KEEPTTL, '1', key, ...pairs];
}

/** @param last the last id that goes */
export function trimBelow(key: Word, last: string): Word[] {
  return ['EVAL', TRIM_BELOW, '1', key, last];
}

/** @param group of XACKDEL; null: XDELEX */
export function deleteEntries(
  key: Word,
  mode: 'keepref' | 'delref' | 'acked',
  group: Word | null,
  ids: readonly Word[],
): Word[] {
  return ['EVAL', DELETE_ENTRIES, '1', key, mode, group ?? '', ...ids];
}
