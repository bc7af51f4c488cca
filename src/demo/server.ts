/** A throwaway server on loopback for the demo and the tests: own port, own temporary folder, nothing kept. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SourceError, UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { ReplyError, RespConnection } from '../resp/connection.ts';
import { findServer } from './find-server.ts';
import { atLeast } from './release.ts';

export interface ServerOptions {
  /** Path of redis-server or valkey-server; left out: findServer(). */
  readonly binary?: string;
  /** Left out: a free one. */
  readonly port?: number;
  /** Further settings as on the server's command line: `['--maxmemory', '10mb']`. */
  readonly args?: readonly string[];
  /** Folder for the server's files, kept after stop(); left out: a temporary one, removed by stop(). */
  readonly dir?: string;
}

export interface DemoServer {
  readonly port: number;
  /** As printed by `--version`, e.g. `7.0.15`. */
  readonly version: string;
  readonly process: ChildProcess;
  /** `redis://127.0.0.1:port` */
  readonly uri: string;
  /** Working folder, with the log in `server.log`. */
  readonly dir: string;
  /** Ends the process and removes its temporary folder. May be called twice. */
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 30_000;
/** For one question; a server that is merely slow is asked again. */
const ANSWER_TIMEOUT_MS = 2_000;
const FIRST_PORT = 10_240;
const LAST_PORT = 32_767;
/** After SIGTERM; a stopped or hung process is then ended by SIGKILL. */
const STOP_GRACE_MS = 3_000;

/** Servers that run now: ended with this process, however it exits short of a signal. */
const running = new Set<{ readonly process: ChildProcess; removeDir(): void }>();
let exitHookSet = false;

/**
 * Starts a server without persistence and waits until it answers PING. Works for Redis 2.8 to 8 and Valkey.
 * Throws UsageError `no-redis-server`, SourceError `demo-server` with the end of the server's log.
 */
export async function startServer(options: ServerOptions = {}): Promise<DemoServer> {
  const binary = options.binary ?? findServer();
  const version = binaryVersion(binary);
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    try {
      return await startOn(port, binary, version, options);
    } catch (error) {
      // Between freePort() and the server's bind somebody else may have taken the port
      if (options.port !== undefined || attempt === 3) throw error;
    }
  }
}

async function startOn(
  port: number,
  binary: string,
  version: string,
  options: ServerOptions,
): Promise<DemoServer> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'redis-cutover-server-'));
  const removeDir = (): void => {
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
  };
  // A process group of its own: Ctrl-C in the terminal is for the tool, not for its servers
  const child = spawn(binary, serverArguments(port, dir, version, options.args ?? []), {
    stdio: 'ignore',
    detached: true,
    cwd: dir,
  });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const entry = { process: child, removeDir };
  endWithThisProcess(entry);
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
      await ended;
      clearTimeout(killer);
    }
    running.delete(entry);
    removeDir();
  };

  let over = false;
  void ended.then(() => {
    over = true;
  });
  try {
    await untilReady(port, child, dir, () => over);
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, version, process: child, uri: `redis://127.0.0.1:${port}`, dir, stop };
}

function serverArguments(port: number, dir: string, version: string, extra: readonly string[]): string[] {
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', ''];
  args.push('--appendonly', 'no', '--logfile', join(dir, 'server.log'));
  if (atLeast(version, '2.8.18')) args.push('--repl-diskless-sync-delay', '0');
  // Valkey's own numbering starts at 7.2, so one comparison serves both
  if (atLeast(version, '7.0')) args.push('--enable-debug-command', 'yes', '--shutdown-timeout', '0');
  return [...args, ...extra];
}

/** `Redis server v=7.0.15 …`, `Valkey server v=8.1.3 …`. Throws UsageError when the program is something else. */
function binaryVersion(binary: string): string {
  const output = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  const version = /v(?:ersion)?[= ](\d+\.\d+\.\d+)/.exec(output.stdout ?? '')?.[1];
  if (version === undefined) {
    throw new UsageError(`${printable(binary)} is not a Redis or Valkey server that runs here`, {
      code: 'no-redis-server',
      hint: `try it by hand: ${printable(binary)} --version`,
    });
  }
  return version;
}

/**
 * A TCP port that nobody listens on at this moment, below those that systems give to outgoing connections (Linux: from
 * 32768): a server that ends and comes back on its port would now and then find it taken by one of these.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (await canListen(port)) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(error);
    });
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** Until our own process answers PING. */
async function untilReady(
  port: number,
  child: ChildProcess,
  dir: string,
  isOver: () => boolean,
): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!isOver() && Date.now() < deadline) {
    if (await answers(port, child)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const reason = isOver() ? 'ended at once' : `did not answer within ${READY_TIMEOUT_MS / 1000} s`;
  throw new SourceError(`the throwaway server on port ${port} ${reason}: ${logEnd(dir)}`, {
    code: 'demo-server',
    hint: 'start the same redis-server by hand to see why, or set REDIS_SERVER to another one',
    recovery: 'none',
  });
}

async function answers(port: number, child: ChildProcess): Promise<boolean> {
  let connection: RespConnection | null = null;
  try {
    connection = await RespConnection.connect(port);
    // somebody else's port may accept and say nothing: close() rejects the question
    const limit = setTimeout((silent) => silent.close(), ANSWER_TIMEOUT_MS, connection);
    limit.unref();
    const [ping, info] = await connection.pipeline([['PING'], ['INFO', 'server']]);
    // A server with a password is ready, too; it cannot be asked whose it is
    if (ping instanceof ReplyError) return ping.message.startsWith('NOAUTH');
    // Somebody else's server may sit on the port while ours is about to give up
    return String(info).includes(`process_id:${child.pid}\r`);
  } catch {
    return false;
  } finally {
    connection?.close();
  }
}

function logEnd(dir: string): string {
  try {
    return printable(readFileSync(join(dir, 'server.log'), 'utf8').trim().slice(-400), 400);
  } catch {
    return 'it wrote no log';
  }
}

function endWithThisProcess(entry: { readonly process: ChildProcess; removeDir(): void }): void {
  running.add(entry);
  if (exitHookSet) return;
  exitHookSet = true;
  process.once('exit', () => {
    for (const { process: child, removeDir } of running) {
      child.kill('SIGKILL');
      removeDir();
    }
  });
}
