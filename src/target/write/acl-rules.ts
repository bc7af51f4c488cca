/**
 * The lines of ACL LIST taken apart, and the plan of a fence made from them. Pure: fence.ts talks to servers.
 *
 * Names, patterns and rules may hold any byte but space and NUL, so lines are strings with one character per byte
 * (latin1), to be sent back the same way.
 */

/** One user of ACL LIST. */
export interface AclUser {
  readonly name: string;
  /** The root permissions, flags and password hashes, word by word, in the server's order. */
  readonly rules: readonly string[];
  /** The words of each selector (>= 7.0), without its parentheses. */
  readonly selectors: readonly (readonly string[])[];
}

/**
 * What takes write commands from one user, and what gives back exactly what the user had. Neither touches passwords,
 * keys, channels or flags, so neither holds a secret. (`ACL SETUSER … reset` would not do: it leaves a
 * `sanitize-payload` that was not there before; seen on 7.0.15.)
 */
export interface UserFence {
  readonly user: string;
  /** Arguments of ACL SETUSER after the name. */
  readonly fenceRules: readonly string[];
  /** Arguments of ACL SETUSER after the name. */
  readonly restoreRules: readonly string[];
}

/** `user <name> <word> …`; null for a line of another form. */
export function parseAclLine(line: string): AclUser | null {
  const [head, name, ...words] = line.split(' ');
  if (head !== 'user' || name === undefined || name === '') return null;
  const firstSelector = words.findIndex((word) => word.startsWith('('));
  if (firstSelector === -1) return { name, rules: words, selectors: [] };
  // Selectors stand last. A pattern in one may end with a parenthesis, but no word in one can begin with it: so
  // the next opening one, or the end of the line, is what ends a selector.
  const selectors: string[][] = [];
  for (const word of words.slice(firstSelector)) {
    if (word.startsWith('(')) selectors.push([word.slice(1)]);
    else selectors.at(-1)?.push(word);
  }
  return {
    name,
    rules: words.slice(0, firstSelector),
    selectors: selectors.map((inner) =>
      inner.map((word, index) => (index === inner.length - 1 ? word.slice(0, -1) : word)),
    ),
  };
}

/**
 * A fence for every user but `exceptUser` (null: for all). Users without write permission are in it too: rights
 * that somebody gives them meanwhile are then noticed when the fence is lifted.
 */
export function planFence(aclListLines: readonly string[], exceptUser: string | null): UserFence[] {
  const plan: UserFence[] = [];
  for (const line of aclListLines) {
    const user = parseAclLine(line);
    if (user === null || user.name === exceptUser) continue;
    const withSelectors = (rules: string[], extra: string[]): string[] =>
      // A selector cannot be changed, only thrown away with all others and written anew (Redis 7.0).
      user.selectors.length === 0
        ? rules
        : [...rules, 'clearselectors', ...user.selectors.map((words) => selectorRule([...words, ...extra]))];
    plan.push({
      user: user.name,
      fenceRules: withSelectors(['-@write'], ['-@write']),
      restoreRules: withSelectors(['-@all', ...user.rules.filter((word) => /^[+-]/.test(word))], []),
    });
  }
  return plan;
}

/** Arguments of ACL SETUSER that make a new user with the rights of `user`, for a try. */
export function copyRules(user: AclUser): string[] {
  return [...user.rules, ...user.selectors.map(selectorRule)];
}

/** A selector as one argument. The server splits it as it splits a line of redis-cli: quotes have a meaning there. */
function selectorRule(words: readonly string[]): string {
  const quoted = words.map((word) =>
    /["']/.test(word) ? `"${word.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"` : word,
  );
  return `(${quoted.join(' ')})`;
}
