/** `--askpass`: one line from a person, of which the terminal shows nothing. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { EXIT, UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import type { KeyInput } from './operator.ts';
import { guardTerminal } from './terminal-guard.ts';

/**
 * Asks `question` on `out` and reads a line from the terminal `stdin`, without an echo. readline edits the line in raw
 * mode; what it would draw is thrown away.
 *
 * @throws UsageError `cancelled` (exit code 130) on Ctrl-C, Ctrl-D and the end of the terminal
 */
export async function askPassword(stdin: KeyInput, out: Writable, question: string): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const readline = createInterface({ input: stdin, output: nowhere, terminal: true, historySize: 0 });
  // close() puts the terminal back; a signal ends the process without it
  const release = guardTerminal({
    restore: () => stdin.setRawMode(false),
    reapply: () => stdin.setRawMode(true),
  });
  try {
    out.write(`${printable(question)}: `);
    return await new Promise((resolve, reject) => {
      const cancel = (): void =>
        reject(
          new UsageError('no password was given', {
            code: 'cancelled',
            hint: 'start again, or give passwords by --src-auth-env, --dst-auth-env or --auth-file',
            exitCode: EXIT.interrupted,
          }),
        );
      readline.on('line', resolve).on('SIGINT', cancel).on('close', cancel);
      // stopping here would leave the question half asked
      readline.on('SIGTSTP', () => {});
    });
  } finally {
    release();
    readline.close();
    out.write('\n');
  }
}
