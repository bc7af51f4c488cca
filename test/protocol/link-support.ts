/** For the link's tests: a sink that records, a link that ends with its test, and the answers of a master. */
import { execFileSync } from 'node:child_process';
import { type Endpoint, Secret } from '../../src/core/endpoint.ts';
import { type CutoverError, toCutoverError } from '../../src/core/errors.ts';
import type { ReplicationPosition } from '../../src/core/position.ts';
import type { Framing } from '../../src/source/handshake.ts';
import { type LinkSettings, type LinkSink, SourceLink } from '../../src/source/link.ts';
import type { Step } from '../helpers/fake-source.ts';
import type { Cleanup } from '../helpers/server.ts';

export const REPLID = '8d1f'.repeat(10);
/** As of a diskless payload: 40 bytes. */
export const MARK = '5e1f0a77'.repeat(5);

/** What the link told its sink: calls by name, bytes joined. */
export class RecordingSink implements LinkSink {
  /** `full <replid>:<offset>`, `full ?` behind SYNC, `continued <replid>`, `interrupted <code>`, in order. */
  readonly calls: string[] = [];
  readonly interruptions: CutoverError[] = [];
  framing: Framing | null = null;
  /** Set by the test: where to go on. */
  resume: ReplicationPosition | null = null;
  /** Set by the test: what is acknowledged. */
  applied = 0;
  /** Set by the test: stands for a target that takes its time, or refuses. */
  prepare: () => Promise<void> = async () => {};
  /** Set by the test: called whenever bytes came. */
  looked: () => void = () => {};
  /** How much space a plain socket is offered at once. */
  spaceBytes = 64 * 1024;
  /** Length of `bytes`. */
  length = 0;
  #space = Buffer.alloc(0);
  #chunks: Buffer[] = [];

  /** Everything behind the announcement of the last payload, or behind the CONTINUE that came first. */
  get bytes(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  reserve(): Buffer {
    this.#space = Buffer.allocUnsafeSlow(this.spaceBytes);
    return this.#space;
  }

  commit(length: number): void {
    this.append(this.#space.subarray(0, length));
  }

  append(chunk: Buffer): void {
    this.#chunks.push(Buffer.from(chunk));
    this.length += chunk.length;
    this.looked();
  }

  async resumePosition(): Promise<ReplicationPosition | null> {
    return this.resume;
  }

  async fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    this.calls.push(position === null ? 'full ?' : `full ${position.replid}:${position.offset}`);
    this.framing = framing;
    this.#chunks = [];
    this.length = 0;
    await this.prepare();
  }

  continued(replid: string | null): void {
    this.calls.push(`continued ${replid}`);
  }

  appliedOffset(): number {
    return this.applied;
  }

  interrupted(error: CutoverError): void {
    this.calls.push(`interrupted ${error.code}`);
    this.interruptions.push(error);
  }
}

export interface TestLink<Sink extends LinkSink> {
  readonly link: SourceLink;
  readonly sink: Sink;
  /** Resolves when run() has ended: with what it threw, or null after an abort. */
  readonly ended: Promise<CutoverError | null>;
  stop(): Promise<CutoverError | null>;
}

export interface TestLinkOptions extends Partial<LinkSettings> {
  readonly username?: string;
  readonly password?: string;
  readonly tls?: Endpoint['tls'];
  readonly host?: string;
}

/** A link that follows loopback's `port` until the test ends; into a new RecordingSink where none is given. */
export function runLink(t: Cleanup, port: number, options?: TestLinkOptions): TestLink<RecordingSink>;
export function runLink<Sink extends LinkSink>(
  t: Cleanup,
  port: number,
  options: TestLinkOptions & { readonly sink: Sink },
): TestLink<Sink>;
export function runLink(
  t: Cleanup,
  port: number,
  options: TestLinkOptions & { readonly sink?: LinkSink } = {},
): TestLink<LinkSink> {
  const { sink = new RecordingSink(), username, password, tls, host, ...settings } = options;
  const abort = new AbortController();
  const link = new SourceLink(
    {
      endpoint: {
        host: host ?? '127.0.0.1',
        port,
        username: username ?? null,
        password: password === undefined ? null : new Secret(password),
        tls: tls ?? null,
      },
      names: { psync: 'PSYNC', sync: 'SYNC', replconf: 'REPLCONF' },
      announceVersion: null,
      connectTimeoutMs: 3_000,
      silenceMs: 60_000,
      ...settings,
    },
    sink,
  );
  const ended = link.run(abort.signal).then(() => null, toCutoverError);
  const stop = (): Promise<CutoverError | null> => {
    abort.abort();
    return ended;
  };
  t.after(async () => {
    await stop();
  });
  return { link, sink, ended, stop };
}

/** Sends bytes as they are; a string counts as latin1, so that every byte can be written. */
export function send(bytes: string | Buffer, cuts?: 'every-byte' | readonly number[]): Step {
  const raw = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
  return { kind: 'send', bytes: raw, ...(cuts === undefined ? {} : { cuts }) };
}

/** Answers everything up to PSYNC, and PSYNC with nothing: what comes then is the test's own. */
export const UP_TO_PSYNC: Step = {
  kind: 'serve',
  replies: { AUTH: '+OK\r\n', PING: '+PONG\r\n', REPLCONF: '+OK\r\n', PSYNC: '' },
  until: 'PSYNC',
};

/** A reply to PSYNC with a payload of known length behind it. */
export function fullResync(payload: string, offset = 100): string {
  return `+FULLRESYNC ${REPLID} ${offset}\r\n$${payload.length}\r\n${payload}`;
}

/** Into `dir`: `ca`, an authority; of it `server` and `client` for the name localhost, and `old`, whose day is over. */
export function makeCertificates(dir: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = ['-keyout', 'ca.key', '-out', 'ca.crt', '-days', '2', '-subj', '/CN=test authority'];
  openssl('req', '-x509', ...newKey, ...authority);
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
  for (const own of ['server', 'client']) {
    const files = ['-keyout', `${own}.key`, '-out', `${own}.crt`, '-days', '2'];
    openssl('req', '-x509', ...newKey, ...files, ...signed, ...name);
  }
  openssl('req', '-new', ...newKey, '-keyout', 'old.key', '-out', 'old.csr', ...name);
  openssl(
    'x509',
    '-req',
    '-in',
    'old.csr',
    '-copy_extensions',
    'copy',
    ...signed,
    '-days',
    '-1',
    '-out',
    'old.crt',
  );
}
