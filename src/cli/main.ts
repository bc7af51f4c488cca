/**
 * The command line: builds the commander program from the commands and the table of options, runs one command,
 * and turns whatever goes wrong into one message, one hint and an exit code. Read options.ts next.
 */
import { Command as CommanderCommand, CommanderError } from 'commander';
import { crashText, EXIT, type ExitCode, toCutoverError, UsageError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import { printable } from '../core/text.ts';
import { HostListError } from '../fleet/pair-entries.ts';
import { giveWay } from '../migrate/give-way.ts';
import { jsonRenderer } from '../ui/json.ts';
import { checkCommand } from './commands/check.ts';
import type { Command } from './commands/command.ts';
import { completionCommand } from './commands/completion.ts';
import { cutoverCommand } from './commands/cutover.ts';
import { demoCommand } from './commands/demo.ts';
import { migrateCommand } from './commands/migrate.ts';
import { pauseCommand } from './commands/pause.ts';
import { resumeCommand } from './commands/resume.ts';
import { statusCommand } from './commands/status.ts';
import { throttleCommand } from './commands/throttle.ts';
import { verifyCommand } from './commands/verify.ts';
import { hideArguments } from './credentials.ts';
import { optionsFor, type RawOptions } from './options.ts';
import { ownVersion } from './version.ts';

/** In the order in which they are shown. */
export const COMMANDS: readonly Command[] = [
  migrateCommand,
  checkCommand,
  verifyCommand,
  resumeCommand,
  statusCommand,
  cutoverCommand,
  pauseCommand,
  throttleCommand,
  demoCommand,
  completionCommand(() => COMMANDS),
];

/**
 * Runs the program and returns its exit code (design.md, "The command line"). Never throws.
 *
 * @param argv the arguments alone, without node and the script
 */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const json = argv.includes('--json');
  hideArguments(argv);
  giveWay.enable();
  for (const stream of [process.stdout, process.stderr]) {
    stream.off('error', ignoreOutputError).on('error', ignoreOutputError);
  }
  try {
    return await runProgram(argv, json);
  } catch (error) {
    return report(error, json);
  }
}

/**
 * Tells of an error that nobody has caught, which ends the program; what it leaves behind is for `resume`.
 *
 * @param argv as for main()
 */
export function crashed(error: unknown, argv: readonly string[]): ExitCode {
  process.stderr.write(`${crashText(error)}\n`);
  return report(error, argv.includes('--json'), EXIT.attention);
}

async function runProgram(argv: readonly string[], json: boolean): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.done;
  const program = new CommanderCommand('redis-cutover')
    .description('Moves live Redis and Valkey servers: snapshot, live stream, and a safe cutover.')
    .version(ownVersion())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => (json ? process.stderr : process.stdout).write(text),
      // shown by report(), once and without what might be a password
      writeErr: () => {},
    });
  for (const command of COMMANDS) {
    const sub = program.command(command.name).description(command.help);
    if (command.args !== undefined) sub.arguments(command.args);
    for (const option of optionsFor(command.name)) sub.addOption(option);
    sub.addHelpText('after', examplesText(command.examples));
    sub.action(async () => {
      exitCode = await command.run(sub.opts<RawOptions>(), sub.args);
    });
  }
  program.addHelpText('after', examplesText(COMMANDS.flatMap(({ examples }) => examples.slice(0, 1))));
  try {
    if (argv.length === 0) throw new UsageError('no command is given', { code: 'usage', hint: USAGE_HINT });
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw usageErrorOf(error);
    if (json) jsonRenderer(process.stdout).event(summaryOf(EXIT.done));
  }
  return exitCode;
}

function examplesText(examples: readonly string[]): string {
  const title = examples.length === 1 ? 'Example' : 'Examples';
  return `\n${title}:\n${examples.map((line) => `  ${line}`).join('\n')}`;
}

const USAGE_HINT = 'run redis-cutover --help, or redis-cutover migrate --help';

/** Commander repeats what was typed; a value glued to a flag, or one that looks like a URI, may be a password. */
function usageErrorOf(error: CommanderError): UsageError {
  const message = error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/'(--[^'=]+)=.*'/s, "'$1'")
    .replace(/'(-[^-]).*'/s, "'$1'")
    .replace(/unknown command '.*'/s, 'unknown command');
  const [, flag = ''] = /unknown option '(-[^']*)'/.exec(message) ?? [];
  return new UsageError(message, { code: 'usage', hint: REDIS_CLI_FLAGS[flag] ?? USAGE_HINT, cause: error });
}

const URI_HINT = 'servers are given by URI: --src redis://user@old-1:6379 --dst redis://new-1:6379';
const PASSWORD_HINT =
  'arguments can be seen by others (ps): use --askpass, --auth-file, --src-auth-env and --dst-auth-env, or REDISCLI_AUTH';

/** What to type in place of flags of redis-cli that name one server, or show a password. -h is our help. */
const REDIS_CLI_FLAGS: Readonly<Record<string, string>> = {
  '-a': PASSWORD_HINT,
  '--pass': PASSWORD_HINT,
  '-u': URI_HINT,
  '-p': URI_HINT,
  '--user': URI_HINT,
  '--tls': 'write rediss:// for a server that speaks TLS',
  '-n': 'all databases are moved, each under its number',
};

/** Shows an error to people, and to machines too with `--json`. */
function report(error: unknown, json: boolean, exitCode = toCutoverError(error).exitCode): ExitCode {
  const known = toCutoverError(error);
  const lines = known instanceof HostListError ? known.faults : [known.message];
  for (const line of lines) process.stderr.write(`error: ${printable(line, 500)}\n`);
  process.stderr.write(`hint: ${printable(known.hint, 500)}\n`);
  if (json) {
    const { code, recovery } = known;
    const hint = printable(known.hint, 500);
    const renderer = jsonRenderer(process.stdout);
    for (const line of lines) {
      renderer.event({ event: 'error', code, message: printable(line, 2000), hint, recovery });
    }
    renderer.event(summaryOf(exitCode));
  }
  return exitCode;
}

function summaryOf(exitCode: ExitCode): MigrationEvent {
  const outcome = Object.entries(EXIT).find(([, code]) => code === exitCode)?.[0] ?? 'failed';
  return { event: 'summary', outcome, exitCode, pairs: [] };
}

/** A reader that went away (`| head`, a closed terminal) must not end a migration. */
function ignoreOutputError(): void {}
