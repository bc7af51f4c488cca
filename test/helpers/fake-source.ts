/**
 * A scripted master: does to the tool what no real server can be made to do at will (odd replies, bytes cut
 * anywhere, a link that breaks or hangs at a chosen place). Each connection runs its own list of steps.
 */
import { createServer, type Socket } from 'node:net';
import type { Cleanup } from './server.ts';
import { until } from './wait.ts';

type Bytes = string | Buffer;

export type Step =
  /** Waits for the next command, which must be `name` (see `commandName`), and answers it. */
  | { readonly kind: 'expect'; readonly name: string; readonly reply?: Bytes }
  /** Answers commands by name in any order (`REPLCONF` also stands for all its options) until `until` came. */
  | { readonly kind: 'serve'; readonly replies: Readonly<Record<string, Bytes>>; readonly until: string }
  /** Skips commands until one is called `name` and `where` holds; answers nothing. */
  | { readonly kind: 'wait'; readonly name: string; readonly where?: (args: readonly string[]) => boolean }
  /** Sends bytes: in one write, byte by byte, or cut at the given places. */
  | { readonly kind: 'send'; readonly bytes: Bytes; readonly cuts?: 'every-byte' | readonly number[] }
  /** Calls the test back, e.g. to look at the tool's state or to hold the script until it says so. */
  | { readonly kind: 'call'; readonly run: () => void | Promise<void> }
  /** Ends the connection in an orderly way (FIN). */
  | { readonly kind: 'close' }
  /** Breaks the connection (RST). */
  | { readonly kind: 'reset' }
  /** Stops reading and does nothing more: a peer that is gone without a word. */
  | { readonly kind: 'hang' };

export interface ReceivedCommand {
  /** Which connection it came on, counted from 0. */
  readonly connection: number;
  readonly args: readonly Buffer[];
  /** `PING`, `REPLCONF ACK`, `PSYNC`: upper case, with the option for REPLCONF. */
  readonly name: string;
}

export interface FakeSource {
  readonly port: number;
  /** Everything that was received so far, in order; grows. */
  readonly received: readonly ReceivedCommand[];
  /** Connections accepted so far. */
  connections(): number;
  /** Resolves when connection `index` has run all its steps; rejects when the tool did not keep to the script. */
  finished(index?: number): Promise<void>;
  stop(): Promise<void>;
}

/** Answers the handshake of any tool up to PSYNC (protocol.md 1.1); the reply to PSYNC is given by the test. */
export function handshake(psyncReply: Bytes): Step {
  return {
    kind: 'serve',
    replies: { AUTH: '+OK\r\n', PING: '+PONG\r\n', REPLCONF: '+OK\r\n', PSYNC: psyncReply },
    until: 'PSYNC',
  };
}

/**
 * Listens on loopback. The n-th connection runs the n-th script and stays open behind its last step;
 * connections beyond the last script are closed at once. Stopped when the test ends.
 */
export async function fakeSource(t: Cleanup, ...scripts: readonly (readonly Step[])[]): Promise<FakeSource> {
  const received: ReceivedCommand[] = [];
  const links: Link[] = [];
  const server = createServer({ noDelay: true }, (socket) => {
    const index = links.length;
    const script = scripts[index];
    const link = new Link(socket, index, received);
    links.push(link);
    if (script === undefined) socket.destroy();
    else link.start(script);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const stop = async (): Promise<void> => {
    for (const link of links) link.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  t.after(stop);
  return {
    port: address !== null && typeof address === 'object' ? address.port : 0,
    received,
    connections: () => links.length,
    finished: async (index = 0) => {
      const link = await until(() => links[index], { what: `connection ${index} of the fake source` });
      await link.done;
    },
    stop,
  };
}

/** One accepted connection and its script. */
class Link {
  readonly #socket: Socket;
  readonly #index: number;
  readonly #all: ReceivedCommand[];
  readonly #inbox: ReceivedCommand[] = [];
  #buffer = Buffer.alloc(0);
  #wake: () => void = () => {};
  #ended = false;
  done: Promise<void> = Promise.resolve();

  constructor(socket: Socket, index: number, all: ReceivedCommand[]) {
    this.#socket = socket;
    this.#index = index;
    this.#all = all;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  start(script: readonly Step[]): void {
    this.done = this.#run(script);
    // Reported by finished(); a test that does not ask sees a closed connection
    this.done.catch(() => this.#socket.destroy());
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async #run(script: readonly Step[]): Promise<void> {
    for (const step of script) await this.#step(step);
  }

  async #step(step: Step): Promise<void> {
    switch (step.kind) {
      case 'expect': {
        const command = await this.#next(step.name);
        if (command.name !== step.name) throw new Error(`expected ${step.name}, got ${command.name}`);
        if (step.reply !== undefined) this.#socket.write(step.reply);
        return;
      }
      case 'serve': {
        for (let name = ''; name !== step.until; ) {
          const command = await this.#next(step.until);
          name = command.name;
          const reply = step.replies[name] ?? step.replies[name.split(' ')[0] ?? ''];
          if (reply === undefined) throw new Error(`no reply in the script for ${name}`);
          this.#socket.write(reply);
        }
        return;
      }
      case 'wait': {
        for (;;) {
          const command = await this.#next(step.name);
          const words = command.args.map(String);
          if (command.name === step.name && (step.where?.(words) ?? true)) return;
        }
      }
      case 'send':
        return this.#send(Buffer.from(step.bytes as string), step.cuts ?? []);
      case 'call':
        return step.run();
      case 'close':
        this.#socket.end();
        return;
      case 'reset':
        this.#socket.resetAndDestroy();
        return;
      case 'hang':
        this.#socket.pause();
        return;
      default:
        throw new Error(`unknown step ${JSON.stringify(step satisfies never)}`);
    }
  }

  async #send(bytes: Buffer, cuts: 'every-byte' | readonly number[]): Promise<void> {
    const places = cuts === 'every-byte' ? Array.from(bytes.keys()).slice(1) : cuts;
    let from = 0;
    for (const to of [...places, bytes.length]) {
      await new Promise<void>((resolve) => this.#socket.write(bytes.subarray(from, to), () => resolve()));
      // Lets the other side read this piece before the next one comes; a kernel may still join some
      if (to < bytes.length) await new Promise((resolve) => setTimeout(resolve, 1));
      from = to;
    }
  }

  /** The next command; ACKs, which come at any time and are never answered, only for those who wait for one. */
  async #next(wanted: string): Promise<ReceivedCommand> {
    for (;;) {
      const command = this.#inbox.shift();
      if (command !== undefined) {
        if (command.name === 'REPLCONF ACK' && wanted !== 'REPLCONF ACK') continue;
        return command;
      }
      if (this.#ended) throw new Error(`the tool closed the connection; expected ${wanted}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #take(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (let parsed = parseCommand(this.#buffer); parsed !== null; parsed = parseCommand(this.#buffer)) {
      this.#buffer = this.#buffer.subarray(parsed.bytes);
      if (parsed.args.length === 0) continue;
      const command = { connection: this.#index, args: parsed.args, name: commandName(parsed.args) };
      this.#all.push(command);
      this.#inbox.push(command);
    }
    this.#wake();
  }
}

/** Upper case; REPLCONF with its option: that is what tells one from the other. */
function commandName(args: readonly Buffer[]): string {
  const [name = '', option] = args.map((word) => String(word).toUpperCase());
  return name === 'REPLCONF' && option !== undefined ? `${name} ${option}` : name;
}

/** One command from the front, RESP array or inline line; null: not complete yet. */
function parseCommand(buffer: Buffer): { readonly args: Buffer[]; readonly bytes: number } | null {
  let at = 0;
  const line = (): string | null => {
    const end = buffer.indexOf('\n', at);
    if (end < 0) return null;
    const text = buffer.subarray(at, end).toString().trimEnd();
    at = end + 1;
    return text;
  };
  const head = line();
  if (head === null) return null;
  if (!head.startsWith('*')) {
    const words = head.split(' ').filter((word) => word !== '');
    return { args: words.map((word) => Buffer.from(word)), bytes: at };
  }
  const args: Buffer[] = [];
  for (let left = Number(head.slice(1)); left > 0; left -= 1) {
    const size = line();
    if (size === null) return null;
    const length = Number(size.slice(1));
    if (at + length + 2 > buffer.length) return null;
    args.push(Buffer.from(buffer.subarray(at, at + length)));
    at += length + 2;
  }
  return { args, bytes: at };
}
