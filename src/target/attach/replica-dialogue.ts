/**
 * What one replica says to us, and what it is answered, up to PSYNC; behind it, its acknowledgements. Pure: bytes in,
 * steps out; replica-server.ts has the sockets. The words are those of protocol.md 5.4: inline from replicas up to
 * 4.0, RESP later, several in one write from 6.2 on.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Secret } from '../../core/endpoint.ts';
import { CutoverError } from '../../core/errors.ts';
import { isReplid, parseOffset } from '../../core/position.ts';
import { commandArguments } from '../../resp/arguments.ts';
import { scanCommand } from '../../resp/command-frame.ts';

/** What a replica must give by AUTH; without a name, AUTH takes the password alone (replicas before 6.0). */
export interface ReplicaCredentials {
  readonly username: string | null;
  readonly password: Secret;
}

/** As the replica wrote it: the next byte that it wants; `?` and -1 where it has no history. */
export interface PsyncRequest {
  readonly replid: string;
  readonly offset: number;
}

export type DialogueStep =
  | { readonly kind: 'reply'; readonly line: string }
  /** Gave the password, and went on. Once. */
  | { readonly kind: 'reached' }
  | {
      readonly kind: 'psync';
      readonly request: PsyncRequest;
      /** Takes `$EOF:` payloads (2.8.22, 3.0.4). */
      readonly takesMark: boolean;
      /** Takes a replid behind +CONTINUE (4.0). */
      readonly takesReplid: boolean;
    }
  /** REPLCONF ACK: what it has applied. Behind PSYNC only. */
  | { readonly kind: 'acknowledged'; readonly offset: number }
  /** The connection ends, with these last words; null: without any. The last step. */
  | { readonly kind: 'hang-up'; readonly line: string | null };

/** Far above any handshake: what is longer without being a command does not come from a replica. */
const LONGEST_COMMAND = 64 * 1024;

const OK: DialogueStep = { kind: 'reply', line: '+OK' };

export class ReplicaDialogue {
  readonly #credentials: ReplicaCredentials;
  #unread: Buffer = Buffer.alloc(0);
  #authenticated = false;
  #reached = false;
  #asked = false;
  #over = false;
  readonly #capabilities = new Set<string>();

  constructor(credentials: ReplicaCredentials) {
    this.#credentials = credentials;
  }

  /** What the bytes that came ask for, in order. Nothing more after `hang-up`. */
  take(chunk: Buffer): DialogueStep[] {
    if (this.#over) return [];
    const buf = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    const steps: DialogueStep[] = [];
    let at = 0;
    while (!this.#over) {
      const end = commandEnd(buf, at);
      if (end === 'none') break;
      if (end === 'garbage') steps.push(this.#hangUp('-ERR Protocol error'));
      else {
        steps.push(...this.#command(commandArguments(buf.subarray(at, end))));
        at = end;
      }
    }
    // a copy: the rest must not keep the socket's whole chunk alive
    this.#unread = this.#over ? Buffer.alloc(0) : Buffer.from(buf.subarray(at));
    if (this.#unread.length > LONGEST_COMMAND) steps.push(this.#hangUp('-ERR Protocol error'));
    return steps;
  }

  #command(words: readonly Buffer[]): DialogueStep[] {
    const name = upperCase(words[0]);
    if (name === '') return []; // a bare newline: the keep-alive of a replica that loads
    if (name === 'REPLCONF' && upperCase(words[1]) === 'ACK') return this.#acknowledged(words[2]);
    // Whatever is written behind PSYNC belongs to the history, to the byte: no command is answered any more
    if (this.#asked) return [];
    if (name === 'AUTH') return this.#auth(words.slice(1));
    if (!this.#authenticated) return [reply('-NOAUTH Authentication required.')];
    const first: DialogueStep[] = this.#reached ? [] : [{ kind: 'reached' }];
    this.#reached = true;
    return [...first, this.#request(name, words.slice(1))];
  }

  #request(name: string, args: readonly Buffer[]): DialogueStep {
    switch (name) {
      case 'PING':
        return reply('+PONG');
      case 'REPLCONF':
        // from 4.0 on several options in one command
        for (let i = 0; i + 1 < args.length; i += 2) {
          if (upperCase(args[i]) === 'CAPA') this.#capabilities.add(String(args[i + 1]).toLowerCase());
        }
        return OK;
      case 'PSYNC':
        return this.#psync(args);
      case 'SYNC':
        return reply('-ERR SYNC is not served, only PSYNC');
      default:
        return reply('-ERR unknown command');
    }
  }

  #psync(args: readonly Buffer[]): DialogueStep {
    const replid = String(args[0]);
    const offset = parseOffset(String(args[1]));
    if (args.length !== 2 || offset === null || (replid !== '?' && !isReplid(replid))) {
      return reply('-ERR PSYNC takes a replication id and an offset');
    }
    this.#asked = true;
    return {
      kind: 'psync',
      request: { replid, offset },
      takesMark: this.#capabilities.has('eof'),
      takesReplid: this.#capabilities.has('psync2'),
    };
  }

  #acknowledged(word: Buffer | undefined): DialogueStep[] {
    const offset = this.#asked ? parseOffset(String(word)) : null;
    return offset === null ? [] : [{ kind: 'acknowledged', offset }];
  }

  #auth(args: readonly Buffer[]): DialogueStep[] {
    const { username, password } = this.#credentials;
    const expected = username === null ? [password.reveal()] : [username, password.reveal()];
    let right = args.length === expected.length;
    // every word is compared, whatever came of the one before: the time tells nothing
    for (const [i, word] of expected.entries()) right = sameText(args[i], word) && right;
    if (!right) return [this.#hangUp('-WRONGPASS invalid username-password pair or user is disabled.')];
    this.#authenticated = true;
    return [OK];
  }

  /** Behind PSYNC without a word: it would be read as part of the history. */
  #hangUp(line: string): DialogueStep {
    this.#over = true;
    return { kind: 'hang-up', line: this.#asked ? null : line };
  }
}

function reply(line: string): DialogueStep {
  return { kind: 'reply', line };
}

function upperCase(word: Buffer | undefined): string {
  return word === undefined ? '' : word.toString('latin1').toUpperCase();
}

/** The position behind the command at `at`. */
function commandEnd(buf: Buffer, at: number): number | 'none' | 'garbage' {
  try {
    const end = scanCommand(buf, at, buf.length, 0);
    return end < 0 ? 'none' : end;
  } catch (error) {
    if (error instanceof CutoverError && error.code === 'stream-garbage') return 'garbage';
    throw error;
  }
}

/** Compares digests: takes the same time wherever the texts differ, and whatever their lengths are. */
function sameText(given: Buffer | undefined, expected: string): boolean {
  const digest = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
  return timingSafeEqual(digest(given ?? Buffer.alloc(0)), digest(Buffer.from(expected, 'utf8')));
}
