/**
 * The socket of a run folder, by which a second terminal asks a running session: a Unix socket that only its owner can
 * open, requests and answers as lines of JSON (control-messages.ts). Where it is stands in `control.json`: the path of a
 * Unix socket has room for about 100 bytes, and a run folder may lie deeper than that.
 */
import { chmodSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { assertNever, CheckpointError, toCutoverError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { badRequest, type ControlAnswer, type ControlTarget, parseRequest } from './control-messages.ts';
import { sendError } from './worker-messages.ts';

/** In the run folder: `{"socket": "<absolute path>"}`. */
export const CONTROL_FILE = 'control.json';
const SOCKET = 'control.sock';
/** Linux has room for 107 bytes and a zero, macOS for 103. */
const LONGEST_PATH = 103;
/** 500 names of pairs fit. */
const LONGEST_LINE = 256 * 1024;
const MAX_CLIENTS = 8;
/** A client that neither asks nor takes its answer is let go of. */
const IDLE_MS = 30_000;
/** Answers of what was called off by the session's end. */
const LAST_ANSWERS_MS = 1_000;
const FILE_MODE = 0o600;

export class ControlServer {
  readonly #server: Server;
  readonly #target: ControlTarget;
  /** Files and folders to take away at the end. */
  readonly #litter: readonly string[];
  /** Each client's connection, until its last answer is out. */
  readonly #clients = new Map<Socket, Promise<void>>();
  readonly #busy = new Set<Socket>();

  private constructor(server: Server, target: ControlTarget, litter: readonly string[]) {
    this.#server = server;
    this.#target = target;
    this.#litter = litter;
    server.maxConnections = MAX_CLIENTS;
    server.on('error', () => undefined).on('connection', (socket) => this.#welcome(socket));
    // it must not keep a session from its end
    server.unref();
  }

  /**
   * Listens in the folder of a run whose lock is ours: a socket that lies there is of a session that has died.
   *
   * @param dir absolute path
   * @throws CheckpointError `control-socket`: the run can go on without
   */
  static async open(dir: string, target: ControlTarget): Promise<ControlServer> {
    const own = join(dir, SOCKET);
    const litter = [join(dir, CONTROL_FILE)];
    const server = createServer({ allowHalfOpen: true });
    try {
      let path = own;
      if (Buffer.byteLength(own) > LONGEST_PATH) {
        // mkdtemp makes it 0700, with a name that nobody can guess
        path = join(await mkdtemp(join(tmpdir(), 'redis-cutover-')), SOCKET);
        litter.push(dirname(path));
      }
      await rm(path, { force: true });
      await listen(server, path);
      await writeFile(join(dir, CONTROL_FILE), `${JSON.stringify({ socket: path })}\n`, { mode: FILE_MODE });
      return new ControlServer(server, target, litter);
    } catch (cause) {
      server.close();
      await removeAll(litter);
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CheckpointError(`the control socket cannot be made: ${printable(reason)}`, {
        code: 'control-socket',
        hint: 'the run goes on without redis-cutover status and cutover from another terminal',
        cause,
      });
    }
  }

  /** Takes no more requests; what is under way gets its answer if that comes soon. Behind the end of the pairs. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    const busy = [...this.#clients].filter(([socket]) => this.#busy.has(socket));
    for (const socket of this.#clients.keys()) if (!this.#busy.has(socket)) socket.destroy();
    let timer: NodeJS.Timeout | undefined;
    const longEnough = new Promise((resolve) => {
      timer = setTimeout(resolve, LAST_ANSWERS_MS);
    });
    await Promise.race([Promise.all(busy.map(([, served]) => served)), longEnough]);
    clearTimeout(timer);
    for (const socket of this.#clients.keys()) socket.destroy();
    await closed;
    await removeAll(this.#litter);
  }

  #welcome(socket: Socket): void {
    socket.setEncoding('utf8').setTimeout(IDLE_MS, () => socket.destroy());
    // a client that goes away harms nobody
    const served = this.#serve(socket)
      .catch(() => undefined)
      .finally(() => {
        this.#clients.delete(socket);
        socket.end();
      });
    this.#clients.set(socket, served);
  }

  /** Line after line; while one is worked on nothing more is read. */
  async #serve(socket: Socket): Promise<void> {
    let text = '';
    for await (const chunk of socket as AsyncIterable<string>) {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0 && end <= LONGEST_LINE; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        await this.#answer(socket, line);
        // at the end of the session: the last answer is out
        if (!this.#server.listening) return;
      }
      if (text.length > LONGEST_LINE) {
        await send(socket, refusal(badRequest('the line is too long')));
        return;
      }
    }
  }

  async #answer(socket: Socket, line: string): Promise<void> {
    this.#busy.add(socket);
    // a cutover takes as long as it takes
    socket.setTimeout(0);
    try {
      const answer = await this.#work(line).catch(refusal);
      socket.setTimeout(IDLE_MS);
      await send(socket, answer);
    } finally {
      this.#busy.delete(socket);
    }
  }

  async #work(line: string): Promise<ControlAnswer> {
    const request = parseRequest(line);
    switch (request.kind) {
      case 'status':
        return { kind: 'status', ...this.#target.status() };
      case 'cutover':
        return {
          kind: 'cutover',
          results: await this.#target.cutOver(request.choice, request.confirm),
        };
      case 'pause':
        return { kind: 'pause', results: await this.#target.pause(request.choice, request.on) };
      case 'throttle':
        return { kind: 'throttle', results: await this.#target.throttle(request.choice, request.limits) };
      default:
        return assertNever(request);
    }
  }
}

function refusal(error: unknown): ControlAnswer {
  return { kind: 'refused', error: sendError(toCutoverError(error)) };
}

/** Resolves when it has gone out. */
function send(socket: Socket, answer: ControlAnswer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(`${JSON.stringify(answer)}\n`, (error) => (error ? reject(error) : resolve()));
  });
}

async function listen(server: Server, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject).once('listening', resolve);
  });
  // the folder may be older than the run, and open to others: there must be no moment in which they can connect
  const umask = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(umask);
  }
  await listening;
  chmodSync(path, FILE_MODE);
}

async function removeAll(paths: readonly string[]): Promise<void> {
  for (const path of paths) await rm(path, { force: true, recursive: true }).catch(() => undefined);
}
