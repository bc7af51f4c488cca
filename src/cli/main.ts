/**
 * The command line: builds the commander program from the commands and the table of options, runs one command,
 * and turns whatever goes wrong into one message, one hint and an exit code. Read options.ts next.
 */
import { readFileSync } from 'node:fs';
import { Command as CommanderCommand, CommanderError } from 'commander';
import { EXIT, type ExitCode, toCutoverError, UsageError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import { printable } from '../core/text.ts';
import { HostListError } from '../fleet/host-list.ts';
import { jsonRenderer } from '../ui/json.ts';
import { checkCommand } from './commands/check.ts';
import type { Command } from './commands/command.ts';
import { demoCommand } from './commands/demo.ts';
import { migrateCommand } from './commands/migrate.ts';
import { resumeCommand } from './commands/resume.ts';
import { verifyCommand } from './commands/verify.ts';
import { hideArguments } from './credentials.ts';
import { optionsFor, type RawOptions } from './options.ts';

const COMMANDS: readonly Command[] = [
  migrateCommand,
  checkCommand,
  verifyCommand,
  resumeCommand,
  demoCommand,
];

/**
 * Runs the program and returns its exit code (design.md, "The command line"). Never throws.
 *
 * @param argv the arguments alone, without node and the script
 */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const json = argv.includes('--json');
  hideArguments(argv);
  for (const stream of [process.stdout, process.stderr]) {
    stream.off('error', ignoreOutputError).on('error', ignoreOutputError);
  }
  try {
    return await runProgram(argv, json);
  } catch (error) {
    return report(error, json);
  }
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
    const title = command.examples.length === 1 ? 'Example' : 'Examples';
    sub.addHelpText('after', `\n${title}:\n${command.examples.map((line) => `  ${line}`).join('\n')}`);
    sub.action(async () => {
      exitCode = await command.run(sub.opts<RawOptions>(), sub.args);
    });
  }
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

const USAGE_HINT = 'run redis-cutover --help, or redis-cutover migrate --help';

/** Commander repeats what was typed; a value glued to a flag, or one that looks like a URI, may be a password. */
function usageErrorOf(error: CommanderError): UsageError {
  const message = error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/'(--[^'=]+)=.*'/s, "'$1'")
    .replace(/'(-[^-]).*'/s, "'$1'")
    .replace(/unknown command '.*'/s, 'unknown command');
  return new UsageError(message, { code: 'usage', hint: USAGE_HINT, cause: error });
}

/** Shows an error to people, and to machines too with `--json`. */
function report(error: unknown, json: boolean): ExitCode {
  const known = toCutoverError(error);
  const lines = known instanceof HostListError ? known.faults : [known.message];
  for (const line of lines) process.stderr.write(`error: ${printable(line, 500)}\n`);
  process.stderr.write(`hint: ${printable(known.hint, 500)}\n`);
  if (json) {
    const { code, recovery } = known;
    const message = printable(known.message, 2000);
    const renderer = jsonRenderer(process.stdout);
    renderer.event({ event: 'error', code, message, hint: printable(known.hint, 500), recovery });
    renderer.event(summaryOf(known.exitCode));
  }
  return known.exitCode;
}

function summaryOf(exitCode: ExitCode): MigrationEvent {
  const outcome = Object.entries(EXIT).find(([, code]) => code === exitCode)?.[0] ?? 'failed';
  return { event: 'summary', outcome, exitCode, pairs: [] };
}

/** A reader that went away (`| head`, a closed terminal) must not end a migration. */
function ignoreOutputError(): void {}

function ownVersion(): string {
  // the same distance from src/cli and from dist/cli
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed === 'object' && parsed !== null && 'version' in parsed) return String(parsed.version);
  return 'unknown';
}
