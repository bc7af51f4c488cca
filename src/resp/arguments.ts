/** The home of redis-parser: the words of one complete command, for the few commands that must be looked into. */
import Parser from 'redis-parser';
import { InvariantError } from '../core/errors.ts';

/** @param command bytes of exactly one command, in array or inline form (framed before, so never partial) */
export function commandArguments(command: Buffer): Buffer[] {
  if (command[0] !== 0x2a) {
    return command
      .toString('latin1')
      .trimEnd()
      .split(/ +/)
      .map((word) => Buffer.from(word, 'latin1'));
  }
  let found: Buffer[] | null = null;
  const parser = new Parser({
    returnBuffers: true,
    returnReply: (reply: unknown) => {
      found = reply as Buffer[];
    },
    returnError: (error) => {
      throw error;
    },
  });
  parser.execute(command);
  if (found === null) throw new InvariantError('a framed command was not complete');
  return found;
}
