/** Commands that differ in their key only: all but the key is encoded once, since they are asked for every key of a server. */
import type { CommandBuffer } from '../../resp/command-buffer.ts';

/** A command whose only changing word is the key behind its name. */
export interface KeyCommand {
  readonly name: string;
  readonly head: Buffer;
  readonly tail: Buffer;
}

/** @param rest what follows the key */
export function keyCommand(name: string, ...rest: readonly string[]): KeyCommand {
  const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`;
  return {
    name,
    head: Buffer.from(`*${2 + rest.length}\r\n${bulk(name)}`, 'latin1'),
    tail: Buffer.from(rest.map(bulk).join(''), 'latin1'),
  };
}

export function writeKeyCommand(out: CommandBuffer, { head, tail }: KeyCommand, key: Buffer): void {
  out.raw(head, 0, head.length);
  out.bulk(key, 0, key.length);
  out.raw(tail, 0, tail.length);
}

/** @param name of a command of keys alone */
export function writeManyKeys(out: CommandBuffer, name: string, keys: readonly Buffer[]): void {
  out.begin(1 + keys.length);
  const bytes = Buffer.from(name, 'latin1');
  out.bulk(bytes, 0, bytes.length);
  for (const key of keys) out.bulk(key, 0, key.length);
}
