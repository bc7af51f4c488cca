/**
 * How the write feed comes to its target: connections for bulk data as the run's own user, and a look at the
 * checkpoint. A new connection first ends the one before it: what an old socket still holds could otherwise be
 * executed behind our back, after the checkpoint was read. And it must lead to the server whose checkpoint that is:
 * behind one address the target may have failed over to a replica of its own.
 */
import type { Socket } from 'node:net';
import { dial } from '../client/dial.ts';
import { ReplyError } from '../client/reply-error.ts';
import { ServerInfo } from '../client/server-info.ts';
import type { ServerSession } from '../client/session.ts';
import { addressOf, type Endpoint } from '../core/endpoint.ts';
import { CutoverError, EXIT, TargetError } from '../core/errors.ts';
import { printable, withoutEchoes } from '../core/text.ts';
import { encodeCommand } from '../resp/encode.ts';
import {
  CHECKPOINT_KEY,
  type Checkpoint,
  checkpointFields,
  parseCheckpoint,
} from '../target/write/checkpoint.ts';
import type { WriteTally } from '../target/write/write-tally.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** For each line of the greeting; a target that is merely slow is dialled again. */
const GREETING_TIMEOUT_MS = 30_000;

/** As whom to write to the target. */
export interface TargetAccess {
  /** The target with the credentials to write as. */
  readonly endpoint: Endpoint;
  /** An ordinary connection with the same credentials. */
  readonly session: ServerSession;
  /** Makes these credentials valid again on a target that forgot them; false where that cannot be done. */
  regain(): Promise<boolean>;
}

/** Import mode, see expiry.ts. */
export interface ImportMode {
  /** True where our connections must say that they import. */
  readonly importing: boolean;
  ensure(): Promise<void>;
}

/** The writer's new connection, and what the target holds now that nobody else writes. */
export interface Entrance {
  readonly socket: Socket;
  readonly checkpoint: Checkpoint | null;
  /** Whether it is still the process that the copy began with. */
  readonly sameProcess: boolean;
}

export class TargetDoor {
  readonly #access: TargetAccess;
  readonly #clientName: string;
  readonly #tally: WriteTally;
  readonly #importMode: ImportMode | null;
  /** Process of the target when the copy began: a restart in the middle of it may have lost keys. */
  #runId: string | null = null;

  /**
   * @param tally where what is written beside the stream is counted
   * @param importMode null: the target is not kept from letting keys expire
   */
  constructor(access: TargetAccess, run: string, tally: WriteTally, importMode: ImportMode | null = null) {
    this.#access = access;
    this.#tally = tally;
    this.#importMode = importMode;
    this.#clientName = `redis-cutover-writer-${run}`;
  }

  /**
   * The socket comes last and is handed over in the same breath: nothing of it can be missed.
   * @throws TargetError, ReplyError; recovery `reconnect` where trying again may help
   */
  async enter(signal: AbortSignal): Promise<Entrance> {
    await this.endWriters();
    await this.#importMode?.ensure();
    const { session } = this.#access;
    const checkpoint = parseCheckpoint(await session.call('HGETALL', CHECKPOINT_KEY));
    const { runId } = await session.info('server');
    const socket = await this.#dial(signal, runId).catch((error: unknown) => {
      // it may be the session that leads to a server which has left this address
      session.redial();
      throw error;
    });
    return { socket, checkpoint, sameProcess: runId !== null && runId === this.#runId };
  }

  /** @param runId of the server that is meant; null: it does not say */
  async #dial(signal: AbortSignal, runId: string | null): Promise<Socket> {
    const { endpoint, session } = this.#access;
    const socket = await dial(endpoint, 'target', { connectTimeoutMs: CONNECT_TIMEOUT_MS, signal });
    try {
      const { username, password } = endpoint;
      if (password !== null) {
        const words = username === null ? ['AUTH', password.reveal()] : ['AUTH', username, password.reveal()];
        const line = await ask(socket, words);
        if (line.startsWith('-') && !/no password is set|without any password/i.test(line)) {
          throw new TargetError(
            `the target ${addressOf(endpoint)} refuses the credentials: ${printable(withoutEchoes(line.slice(1)))}`,
            {
              code: 'target-auth',
              hint: 'check user and password of the target; was the user of the run removed?',
              exitCode: EXIT.auth,
              // the next attempt finds out whether the user can be made again, see endWriters()
              recovery: 'reconnect',
            },
          );
        }
      }
      await ask(socket, ['CLIENT', 'SETNAME', this.#clientName]);
      // answered by an error before 7.0 and 7.2; without them nothing is lost
      await ask(socket, ['CLIENT', 'NO-EVICT', 'ON']);
      await ask(socket, ['CLIENT', 'NO-TOUCH', 'ON']);
      if (this.#importMode?.importing) {
        const line = await ask(socket, ['CLIENT', 'IMPORT-SOURCE', 'ON']);
        if (line.startsWith('-')) throw noImport(line);
      }
      const { runId: found } = ServerInfo.parse(await ask(socket, ['INFO', 'server']));
      if (found !== runId) throw movedMeanwhile(session.where);
      return socket;
    } catch (error) {
      // a dying socket may fail once more, with nobody left who listens
      socket.on('error', () => undefined).destroy();
      throw error;
    }
  }

  /** Notes that a copy begins: until it is complete the target must be loaded again. */
  async beginCopy(run: string): Promise<void> {
    const { session } = this.#access;
    this.#runId = (await session.info('server')).runId;
    await this.writeCheckpoint({ replid: '0'.repeat(40), offset: 0, db: 0, run, phase: 'snapshot' });
  }

  /** For a place that the target has come to by other means than our batches. */
  async writeCheckpoint(checkpoint: Checkpoint): Promise<void> {
    const { session } = this.#access;
    await this.#tally.around(1, () => session.call('DEL', CHECKPOINT_KEY));
    await this.#tally.around(1, () => session.call('HMSET', CHECKPOINT_KEY, ...checkpointFields(checkpoint)));
  }

  /** The checkpoint that an earlier process of this run has left behind a complete snapshot; null: none. */
  async checkpointOf(run: string): Promise<Checkpoint | null> {
    const checkpoint = parseCheckpoint(await this.#access.session.call('HGETALL', CHECKPOINT_KEY));
    return checkpoint?.run === run && checkpoint.phase === 'stream' ? checkpoint : null;
  }

  async removeCheckpoint(): Promise<void> {
    await this.#access.session.call('DEL', CHECKPOINT_KEY);
  }

  /** Ends connections of ours that still write, on the target's side too: what they hold is not executed any more. */
  async endWriters(): Promise<void> {
    const { session } = this.#access;
    const list = await session.call('CLIENT', 'LIST').catch(async (error: unknown) => {
      const forgotten = error instanceof CutoverError && error.code === 'target-auth';
      if (!forgotten || !(await this.#access.regain())) throw error;
      return session.call('CLIENT', 'LIST');
    });
    for (const line of String(list).split('\n')) {
      if (!line.includes(` name=${this.#clientName} `)) continue;
      const address = / addr=(\S+)/.exec(line)?.[1];
      if (address === undefined) continue;
      await session.call('CLIENT', 'KILL', address).catch((error: unknown) => {
        // gone meanwhile is just as well
        if (!(error instanceof ReplyError && /no such client/i.test(error.reply))) throw error;
      });
    }
  }
}

/** One request and what answers it, a line or one text, before the connection goes to its writer. */
function ask(socket: Socket, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const finish = (act: () => void): void => {
      clearTimeout(timer);
      socket.off('data', data).off('close', failed).off('error', failed);
      act();
    };
    const data = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      const reply = wholeReply(text);
      if (reply !== null) finish(() => resolve(reply));
    };
    const failed = (): void => finish(() => reject(lostWhileGreeting()));
    const timer = setTimeout(failed, GREETING_TIMEOUT_MS);
    socket.on('data', data).on('close', failed).on('error', failed);
    socket.write(encodeCommand(words));
  });
}

/** Without it what is expired would be gone for our commands. */
function noImport(line: string): TargetError {
  return new TargetError(
    `the target does not take us for an importer: ${printable(withoutEchoes(line.slice(1)))}`,
    {
      code: 'target-import-mode',
      hint: 'somebody else may have changed import-mode on it; it is set and tried again by itself',
      recovery: 'reconnect',
    },
  );
}

/** A line, or the content of a bulk reply; null: it is not complete. */
function wholeReply(text: string): string | null {
  const end = text.indexOf('\r\n');
  if (end < 0) return null;
  if (!text.startsWith('$')) return text.slice(0, end);
  const [from, length] = [end + 2, Number(text.slice(1, end))];
  return text.length < from + length + 2 ? null : text.slice(from, from + length);
}

function movedMeanwhile(where: string): TargetError {
  return new TargetError(`the ${where} is another server than a moment ago`, {
    code: 'target-moved',
    hint: 'did it fail over to a replica of its own? it is tried again by itself',
    recovery: 'reconnect',
  });
}

function lostWhileGreeting(): TargetError {
  return new TargetError('the target closed the connection during the greeting', {
    code: 'target-lost',
    hint: 'is the target up? it is tried again by itself',
    recovery: 'reconnect',
  });
}
