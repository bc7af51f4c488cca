/** What main.ts needs to know of a command; each file beside this one holds one. */
import type { ExitCode } from '../../core/errors.ts';
import type { CommandName, RawOptions, ValueKind } from '../options.ts';

export interface Command {
  readonly name: CommandName;
  readonly help: string;
  /** Lines to type, shown below the options by `--help`. */
  readonly examples: readonly string[];
  /** Positional arguments as commander writes them; left out where there are none. */
  readonly args?: string;
  /** What the first of them can be, for completion. */
  readonly argValues?: ValueKind;
  /**
   * Does the work. It returns after its renderer has shown the `summary` event, or throws before that: then
   * main.ts shows the error and the summary.
   */
  run(raw: RawOptions, args: readonly string[]): Promise<ExitCode>;
}
