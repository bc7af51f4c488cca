/**
 * How the write feed comes to its target: connections for bulk data as the run's own user, and a look at the
 * checkpoint. A new connection first ends the one before it: what an old socket still holds could otherwise be
 * executed behind our back, after the checkpoint was read.
 */
import type { Socket } from 'node:net';
import { dial } from '../client/dial.ts';
import type { ServerSession } from '../client/session.ts';
import { addressOf, type Endpoint } from '../core/endpoint.ts';
import { EXIT, TargetError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { encodeCommand } from '../resp/encode.ts';
import {
  CHECKPOINT_KEY,
  type Checkpoint,
  checkpointFields,
  parseCheckpoint,
} from '../target/write/checkpoint.ts';

const CONNECT_TIMEOUT_MS = 10_000;

export class TargetDoor {
  readonly #endpoint: Endpoint;
  readonly #session: ServerSession;
  readonly #clientName: string;
  /** Process of the target when the copy began: a restart in the middle of it may have lost keys. */
  #runId: string | null = null;

  /**
   * @param endpoint the target with the credentials to write as
   * @param session an ordinary connection with the same credentials
   */
  constructor(endpoint: Endpoint, session: ServerSession, run: string) {
    this.#endpoint = endpoint;
    this.#session = session;
    this.#clientName = `redis-cutover-writer-${run}`;
  }

  /** @throws TargetError; recovery `reconnect` where trying again may help */
  async dial(signal: AbortSignal): Promise<Socket> {
    await this.#endPredecessors();
    const socket = await dial(this.#endpoint, 'target', { connectTimeoutMs: CONNECT_TIMEOUT_MS, signal });
    try {
      const { username, password } = this.#endpoint;
      if (password !== null) {
        const words = username === null ? ['AUTH', password.reveal()] : ['AUTH', username, password.reveal()];
        const line = await ask(socket, words);
        if (line.startsWith('-') && !/no password is set|without any password/i.test(line)) {
          throw new TargetError(
            `the target ${addressOf(this.#endpoint)} refuses the credentials: ${printable(line.slice(1))}`,
            {
              code: 'target-auth',
              hint: 'check user and password of the target; was the user of the run removed?',
              exitCode: EXIT.auth,
            },
          );
        }
      }
      await ask(socket, ['CLIENT', 'SETNAME', this.#clientName]);
      // answered by an error before 7.0 and 7.2; without them nothing is lost
      await ask(socket, ['CLIENT', 'NO-EVICT', 'ON']);
      await ask(socket, ['CLIENT', 'NO-TOUCH', 'ON']);
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** The checkpoint on the target, and whether it is still the process that the copy began with. */
  async look(): Promise<{ checkpoint: Checkpoint | null; sameProcess: boolean }> {
    const checkpoint = parseCheckpoint(await this.#session.call('HGETALL', CHECKPOINT_KEY));
    const { runId } = await this.#session.info('server');
    return { checkpoint, sameProcess: runId !== null && runId === this.#runId };
  }

  /** Notes that a copy begins: until it is complete the target must be loaded again. */
  async beginCopy(run: string): Promise<void> {
    this.#runId = (await this.#session.info('server')).runId;
    const checkpoint: Checkpoint = { replid: '0'.repeat(40), offset: 0, db: 0, run, phase: 'snapshot' };
    await this.#session.call('DEL', CHECKPOINT_KEY);
    await this.#session.call('HMSET', CHECKPOINT_KEY, ...checkpointFields(checkpoint));
  }

  async removeCheckpoint(): Promise<void> {
    await this.#session.call('DEL', CHECKPOINT_KEY);
  }

  async #endPredecessors(): Promise<void> {
    const list = await this.#session.call('CLIENT', 'LIST');
    for (const line of String(list).split('\n')) {
      if (!line.includes(` name=${this.#clientName} `)) continue;
      const address = / addr=(\S+)/.exec(line)?.[1];
      // gone meanwhile: "No such client", just as well
      if (address !== undefined) await this.#session.call('CLIENT', 'KILL', address).catch(() => undefined);
    }
  }
}

/** One request and the line that answers it, before the connection goes to its writer. */
function ask(socket: Socket, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const finish = (act: () => void): void => {
      socket.off('data', data).off('close', closed).off('error', failed);
      act();
    };
    const data = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n');
      if (end >= 0) finish(() => resolve(text.slice(0, end)));
    };
    const failed = (): void => finish(() => reject(lostWhileGreeting()));
    const closed = failed;
    socket.on('data', data).on('close', closed).on('error', failed);
    socket.write(encodeCommand(words));
  });
}

function lostWhileGreeting(): TargetError {
  return new TargetError('the target closed the connection during the greeting', {
    code: 'target-lost',
    hint: 'is the target up? it is tried again by itself',
    recovery: 'reconnect',
  });
}
