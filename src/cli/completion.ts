/** Scripts that complete our command line in bash, zsh and fish: made from the commands and the table of options. */
import { Option } from 'commander';
import { assertNever } from '../core/errors.ts';
import type { Command } from './commands/command.ts';
import { longName, OPTIONS, type OptionSpec, type ValueKind } from './options.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The script of one shell; it ends with a newline and needs nothing of us when it runs. */
export function completionScript(shell: Shell, commands: readonly Command[]): string {
  switch (shell) {
    case 'bash':
      return bash(commands);
    case 'zsh':
      return zsh(commands);
    case 'fish':
      return fish(commands);
    default:
      return assertNever(shell);
  }
}

/** What follows the flag: nothing, something that nobody can guess, or one of `values`. */
function valuesOf({ flags, values }: OptionSpec): ValueKind | 'anything' | 'nothing' {
  if (!new Option(flags).required) return 'nothing';
  return values ?? 'anything';
}

function flagsOf(command: Command): string[] {
  const own = OPTIONS.filter(({ commands }) => commands.includes(command.name));
  return [...own.map(({ flags }) => `--${longName(flags)}`), '--help'];
}

/** In single quotes of bash and zsh. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// ---- bash, from 3.2 on -----------------------------------------------------------------------------------------

function bash(commands: readonly Command[]): string {
  const flagCases = OPTIONS.filter((spec) => valuesOf(spec) !== 'nothing').map(
    (spec) => `    --${longName(spec.flags)}) ${bashReply(valuesOf(spec))}; return ;;`,
  );
  const commandCases = commands.map((command) => {
    const flags = bashReply(flagsOf(command));
    return command.argValues === undefined
      ? `    ${command.name}) ${flags} ;;`
      : `    ${command.name}) case $cur in -*) ${flags} ;; *) ${bashReply(command.argValues)} ;; esac ;;`;
  });
  const first = bashReply([...commands.map(({ name }) => name), '--help', '--version']);
  return `# Completion of redis-cutover for bash: eval "$(redis-cutover completion bash)"
_redis_cutover_paths() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen "$1" -- "$cur"))
}
_redis_cutover() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command= index
  COMPREPLY=()
  # --feed=at comes as three words
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((index = 1; index < COMP_CWORD; index++)); do
    if [[ \${COMP_WORDS[index]} != -* ]]; then
      command=\${COMP_WORDS[index]}
      break
    fi
  done
  case $prev in
${flagCases.join('\n')}
  esac
  case $command in
    '') ${first} ;;
${commandCases.join('\n')}
  esac
}
complete -F _redis_cutover redis-cutover
`;
}

function bashReply(values: ValueKind | 'anything' | 'nothing'): string {
  if (values === 'file') return '_redis_cutover_paths -f';
  if (values === 'folder') return '_redis_cutover_paths -d';
  if (values === 'anything' || values === 'nothing') return ':';
  return `COMPREPLY=($(compgen -W ${quoted(values.join(' '))} -- "$cur"))`;
}

// ---- zsh -------------------------------------------------------------------------------------------------------

function zsh(commands: readonly Command[]): string {
  const cases = commands.map((command) => {
    const own = OPTIONS.filter((spec) => spec.commands.includes(command.name)).map(zshOption);
    const values =
      command.argValues === undefined ? [] : [quoted(`1:argument:${zshAction(command.argValues)}`)];
    const words = [quoted('(- *)--help[show help]'), ...own, ...values];
    return `        ${command.name})\n          _arguments \\\n            ${words.join(' \\\n            ')}\n          ;;`;
  });
  const names = commands.map(({ name, help }) => `        ${quoted(`${name}:${help}`)}`);
  return `#compdef redis-cutover
# Completion of redis-cutover for zsh: eval "$(redis-cutover completion zsh)", or this as _redis-cutover in $fpath
_redis-cutover() {
  local curcontext=$curcontext context state state_descr line
  typeset -A opt_args
  _arguments -C '(- *)--help[show help]' '(- *)--version[show the version]' '1:command:->command' '*::argument:->argument'
  case $state in
    command)
      local -a commands
      commands=(
${names.join('\n')}
      )
      _describe command commands
      ;;
    argument)
      case $words[1] in
${cases.join('\n')}
      esac
      ;;
  esac
}
if [[ $funcstack[1] == _redis-cutover ]]; then
  _redis-cutover "$@"
else
  compdef _redis-cutover redis-cutover
fi
`;
}

function zshOption(spec: OptionSpec): string {
  const help = `[${spec.help.replace(/[[\]\\]/g, '\\$&')}]`;
  const values = valuesOf(spec);
  const name = `--${longName(spec.flags)}`;
  if (values === 'nothing') return quoted(`${name}${help}`);
  const { variadic } = new Option(spec.flags);
  return quoted(`${variadic ? `*${name}` : `${name}=`}${help}:${longName(spec.flags)}:${zshAction(values)}`);
}

function zshAction(values: ValueKind | 'anything'): string {
  if (values === 'file') return '_files';
  if (values === 'folder') return '_files -/';
  return values === 'anything' ? ' ' : `(${values.join(' ')})`;
}

// ---- fish ------------------------------------------------------------------------------------------------------

function fish(commands: readonly Command[]): string {
  const line = (...words: readonly string[]): string => `complete -c redis-cutover ${words.join(' ')}`;
  const within = (names: readonly string[]): string =>
    `-n ${fishQuoted(`__fish_seen_subcommand_from ${names.join(' ')}`)}`;
  const first = '-n __fish_use_subcommand';
  const lines = [
    '# Completion of redis-cutover for fish: redis-cutover completion fish | source',
    line('-f'),
    line('-l help', "-d 'show help'"),
    line(first, '-l version', "-d 'show the version'"),
    ...commands.map(({ name, help }) => line(first, `-a ${name}`, `-d ${fishQuoted(help)}`)),
    ...commands.flatMap(({ name, argValues }) =>
      argValues === undefined ? [] : [line(within([name]), `-a ${fishValues(argValues)}`)],
    ),
    ...OPTIONS.map((spec) =>
      line(
        within(spec.commands),
        `-l ${longName(spec.flags)}`,
        ...fishArgument(valuesOf(spec)),
        `-d ${fishQuoted(spec.help)}`,
      ),
    ),
  ];
  return `${lines.join('\n')}\n`;
}

function fishArgument(values: ValueKind | 'anything' | 'nothing'): string[] {
  if (values === 'nothing') return [];
  if (values === 'anything') return ['-x'];
  return values === 'file' ? ['-r -F'] : ['-x', `-a ${fishValues(values)}`];
}

function fishValues(values: ValueKind): string {
  if (values === 'folder') return "'(__fish_complete_directories)'";
  return fishQuoted(values === 'file' ? '(__fish_complete_path)' : values.join(' '));
}

function fishQuoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
