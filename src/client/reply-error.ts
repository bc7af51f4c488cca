/**
 * An error reply of a server, without the arguments of the command that caused it (they can be passwords, keys
 * or values). Made by session.ts only.
 */
import { CutoverError, EXIT } from '../core/errors.ts';
import { printable, withoutEchoes } from '../core/text.ts';

export class ReplyError extends CutoverError {
  /** First word of the reply: `NOPERM`, `LOADING`, `ERR`, … */
  readonly prefix: string;
  /** Upper-case name of the command, without arguments. */
  readonly command: string;
  /** The reply with echoed arguments taken out and made printable. */
  readonly reply: string;

  /** `where` is the server as people know it, e.g. `target 10.0.0.1:6379`. */
  constructor(command: string, where: string, rawReply: string) {
    const reply = printable(withoutEchoes(rawReply));
    const prefix = /^[A-Z][A-Z0-9_]*(?= |$)/.exec(reply)?.[0] ?? 'ERR';
    super(
      `${command} refused by the ${where}: ${reply}`,
      { code: `reply-${prefix.toLowerCase()}`, hint: hintFor(prefix, command) },
      { recovery: TRANSIENT.has(prefix) ? 'reconnect' : 'operator', exitCode: EXIT.failed },
    );
    this.prefix = prefix;
    this.command = command;
    this.reply = reply;
  }
}

/** Replies that pass by themselves (protocol.md 1.3, 2.3). */
const TRANSIENT = new Set(['LOADING', 'BUSY', 'MASTERDOWN', 'NOMASTERLINK', 'TRYAGAIN', 'CLUSTERDOWN']);

function hintFor(prefix: string, command: string): string {
  switch (prefix) {
    case 'NOPERM':
      return `let the user run it: ACL SETUSER <user> +${command.toLowerCase()}`;
    case 'NOAUTH':
      return 'give credentials: redis://user:password@host:port, REDISCLI_AUTH, or --auth-file';
    case 'LOADING':
      return 'the server is reading its dataset from disk: wait until INFO persistence says loading:0';
    case 'BUSY':
      return 'a script is running on the server: wait, or SCRIPT KILL';
    case 'READONLY':
      return 'the server is a replica: give its master';
    case 'OOM':
      return 'the server has no memory left: raise maxmemory';
    case 'MISCONF':
      return 'the server cannot write its dump: free its disk, or CONFIG SET stop-writes-on-bgsave-error no';
    default:
      return `run ${command} by hand with redis-cli to see why the server refuses it`;
  }
}
