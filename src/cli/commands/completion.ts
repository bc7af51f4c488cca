/** `redis-cutover completion bash|zsh|fish`: prints the script that completes our command line. */
import { EXIT, UsageError } from '../../core/errors.ts';
import { completionScript, SHELLS } from '../completion.ts';
import type { Command } from './command.ts';

/** @param commands all commands, this one included: known when it runs */
export function completionCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'completion',
    help: 'print a script that completes this command line in bash, zsh or fish',
    args: '<shell>',
    argValues: SHELLS,
    examples: [
      'eval "$(redis-cutover completion bash)"        # in ~/.bashrc; zsh: the same in ~/.zshrc',
      'redis-cutover completion fish > ~/.config/fish/completions/redis-cutover.fish',
    ],
    async run(_raw, [given]) {
      const shell = SHELLS.find((name) => name === given);
      if (shell === undefined) {
        throw new UsageError('there is no completion for that shell', {
          code: 'bad-value',
          hint: `redis-cutover completion takes ${SHELLS.join(', ')}`,
        });
      }
      process.stdout.write(completionScript(shell, commands()));
      return EXIT.done;
    },
  };
}
