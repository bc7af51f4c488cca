/** A target's socket without a network: takes commands, and answers them when asked to. */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import Parser from 'redis-parser';

/** Give it to a TargetConnection by asSocket(). */
export class FakeSocket extends EventEmitter {
  readonly writableLength = 0;
  /** Every command that is complete, in order. */
  readonly received: string[][] = [];
  #unanswered = '';
  /** Commands queued behind MULTI; -1: none is open. */
  #queued = -1;
  readonly #parser = new Parser({
    returnBuffers: true,
    returnError: (error) => {
      throw error;
    },
    returnReply: (reply: unknown) => {
      const words = (reply as Buffer[]).map((word) => word.toString('latin1'));
      this.received.push(words);
      this.#unanswered += this.#answerTo(words[0]!.toUpperCase());
    },
  });

  asSocket(): Socket {
    return this as unknown as Socket;
  }

  write(block: Buffer, done: () => void): void {
    // the block's memory is used again
    this.#parser.execute(Buffer.from(block));
    done();
  }

  destroy(): void {
    this.removeAllListeners();
  }

  /** Sends the answers that are due; what they cause is answered, too. */
  answer(): void {
    while (this.#unanswered !== '') {
      const bytes = Buffer.from(this.#unanswered);
      this.#unanswered = '';
      this.emit('data', bytes);
    }
  }

  #answerTo(name: string): string {
    if (name === 'MULTI') {
      this.#queued = 0;
      return '+OK\r\n';
    }
    if (name === 'EXEC') {
      const count = this.#queued;
      this.#queued = -1;
      return `*${count}\r\n${'+OK\r\n'.repeat(count)}`;
    }
    if (this.#queued < 0) return '+OK\r\n';
    this.#queued++;
    return '+QUEUED\r\n';
  }
}
