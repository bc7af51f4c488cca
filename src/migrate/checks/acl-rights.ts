/** What a user may run by the rules of ACL GETUSER: for Redis 6, which has no ACL DRYRUN yet. Pure. */

/**
 * True where `rules`, as ACL GETUSER of 6.0 and 6.2 shows them (`+@all -@dangerous +config|get`), allow the command.
 * Later rules win over earlier ones. Keys are not looked at.
 * @param words the command and its arguments @param categories its own, with their @ (the seventh part of COMMAND INFO)
 */
export function isAllowed(rules: string, words: readonly string[], categories: readonly string[]): boolean {
  const [command, subcommand] = words.map((word) => word.toLowerCase());
  let allowed = false;
  for (const rule of rules.toLowerCase().split(' ')) {
    const name = rule.slice(1);
    const applies =
      name === '@all' || name === command || name === `${command}|${subcommand}` || categories.includes(name);
    if (applies) allowed = rule.startsWith('+');
  }
  return allowed;
}
