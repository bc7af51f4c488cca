/**
 * The manual page `redis-cutover.1`, made from the commands, the table of options and the columns of a host list.
 * `npm run man` writes it to man/, and a test proves that what lies there is up to date.
 */
import { EXIT } from '../core/errors.ts';
import { LIST_COLUMNS } from '../fleet/host-list.ts';
import type { Command } from './commands/command.ts';
import { longName, OPTIONS, type OptionSpec, PAIR_COLUMNS } from './options.ts';

const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'Done.',
  failed: 'Failed; the source is as it was.',
  usage: 'The command line, a URI or the host list is wrong; nothing was connected.',
  preflight: 'Refused by the preflight.',
  auth: 'Authentication or TLS failed.',
  different: 'The two sides differ, or may.',
  cancelled: 'Cancelled, or rolled back.',
  attention: 'Needs attention: something of ours was left in place, or a part of a fleet failed.',
  interrupted: 'Interrupted.',
};

const ENVIRONMENT: readonly (readonly [name: string, meaning: string])[] = [
  ['REDISCLI_AUTH', 'Password of the servers that have no other.'],
  ['NO_COLOR', 'No colours, where it is set.'],
  ['TERM', 'dumb: plain lines instead of a table.'],
];

/** The page in the man(7) macros; the same for the same tables and version, since it bears no date. */
export function manPage(commands: readonly Command[], version: string): string {
  return `${[
    `.\\" Made by "npm run man": do not edit.`,
    `.TH REDIS\\-CUTOVER 1 "" "redis\\-cutover ${roff(version)}"`,
    '.SH NAME',
    'redis\\-cutover \\- move live Redis and Valkey servers: snapshot, live stream, and a safe cutover',
    '.SH SYNOPSIS',
    ...commands.flatMap(({ name, args }, index) => [
      ...(index === 0 ? [] : ['.br']),
      `\\fBredis\\-cutover ${name}\\fR ${args === undefined ? '' : `\\fI${roff(args)}\\fR `}[\\fIoptions\\fR]`,
    ]),
    '.SH DESCRIPTION',
    roff(
      'Poses as a replica of the source, brings its snapshot and then its live stream into the target, holds there ' +
        'until nothing is behind, and leads through the cutover. A pair is one source and its target; a run has one ' +
        'pair or many. On a terminal the keys that act now stand below the table; ? explains them.',
    ),
    '.SH COMMANDS',
    ...commands.flatMap(({ name, help }) => term(bold(name), help)),
    '.SH OPTIONS',
    ...OPTIONS.flatMap((spec, index) => [
      ...(spec.group === OPTIONS[index - 1]?.group ? [] : [`.SS ${roff(spec.group)}`]),
      ...term(bold(spec.flags), describe(spec)),
    ]),
    '.SH HOST LIST',
    roff(
      'CSV with a header, a YAML list, NDJSON, or plain lines "source target [name] [wave]". The format is known by ' +
        'the extension of the file (.csv, .yaml, .yml, .ndjson, .jsonl), else by the first line. # begins a comment. ' +
        'The whole list is checked before the first connection. Columns:',
    ),
    ...LIST_COLUMNS.flatMap(({ name, help }) => term(bold(name), help)),
    ...term(
      PAIR_COLUMNS.map(bold).join(', '),
      'for this pair alone, as the option of that name; flags are yes or no',
    ),
    '.SH EXIT STATUS',
    ...Object.entries(EXIT).flatMap(([name, code]) =>
      term(bold(String(code)), EXIT_MEANINGS[name as keyof typeof EXIT]),
    ),
    '.SH ENVIRONMENT',
    ...[
      ...OPTIONS.flatMap(({ env, flags }): (readonly [string, string])[] =>
        env === undefined ? [] : [[env, `As --${longName(flags)}.`]],
      ),
      ...ENVIRONMENT,
    ].flatMap(([name, meaning]) => term(bold(name), meaning)),
    '.SH EXAMPLES',
    '.nf',
    ...commands.flatMap(({ examples }) => examples).map(roff),
    '.fi',
  ].join('\n')}\n`;
}

function describe({ help, standard, env, commands }: OptionSpec): string {
  return [
    `${help}.`,
    ...(standard === undefined ? [] : [`Default: ${standard}.`]),
    ...(env === undefined ? [] : [`Also from ${env}.`]),
    `(${commands.join(', ')})`,
  ].join(' ');
}

function term(head: string, text: string): string[] {
  return ['.TP', head, roff(text)];
}

function bold(text: string): string {
  return `\\fB${roff(text)}\\fR`;
}

const ROFF: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
};

/** Text as it is, to be copied from the page: formatters make other characters of these, and a macro of a first dot. */
function roff(text: string): string {
  return text.replaceAll(/[\\'`^~-]/g, (char) => ROFF[char] ?? char).replace(/^\./, '\\&.');
}
