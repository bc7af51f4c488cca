/**
 * Opens one connection, plain or TLS, and says in the operator's words why it could not. Every connection of the
 * program starts here: the replication link (source/link.ts), the writer of the target and the ServerSession.
 */
import { connect, isIP, type OnReadOpts, type Socket, type TcpNetConnectOpts } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { addressOf, type Endpoint, type TlsSettings } from '../core/endpoint.ts';
import { type CutoverError, type ErrorDetails, EXIT, SourceError, TargetError } from '../core/errors.ts';
import { printable } from '../core/text.ts';

/** Which side of a pair a connection belongs to: decides the error class and the first word of its code. */
export type Role = 'source' | 'target';

export interface DialOptions {
  /** For name lookup, TCP and TLS together. */
  readonly connectTimeoutMs: number;
  readonly signal?: AbortSignal;
  /** Reads into one re-used buffer (node:net). Plain TCP only: with TLS it is ignored, listen for `data`. */
  readonly onread?: OnReadOpts;
}

const KEEP_ALIVE_MS = 15_000;
/** How long a TLS handshake may be silent before we look whether the port speaks plain Redis. */
const PROBE_AFTER_MS = 1_000;
const PROBE_TIMEOUT_MS = 1_000;

/** A failure of one side, in that side's class; `problem` becomes the code `source-<problem>` or `target-<problem>`. */
export function sideError(
  role: Role,
  problem: string,
  message: string,
  details: Omit<ErrorDetails, 'code'>,
): SourceError | TargetError {
  const all = { recovery: 'reconnect', ...details, code: `${role}-${problem}` } as const;
  return role === 'source' ? new SourceError(message, all) : new TargetError(message, all);
}

/**
 * A connected socket with TCP_NODELAY and keep-alive on; with TLS the certificate has been verified unless the
 * endpoint says insecure. The caller listens for `error` from then on.
 *
 * Throws SourceError or TargetError: `-host`, `-refused`, `-timeout`, `-unreachable` (exit 1, recovery reconnect),
 * `-tls-untrusted`, `-tls-name`, `-tls-expired`, `-tls-plain`, `-tls` (exit 4, recovery operator); the signal's
 * reason after an abort.
 */
export async function dial(
  endpoint: Endpoint,
  role: Role,
  options: DialOptions,
): Promise<Socket | TLSSocket> {
  options.signal?.throwIfAborted();
  const socket = openSocket(endpoint, role, options);
  try {
    await connected(socket, endpoint, role, options);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return socket;
}

/** True where the first bytes of an answer are a TLS alert: a plain connection reached a TLS port. */
export function looksLikeTls(firstBytes: Uint8Array): boolean {
  return firstBytes[0] === 0x15 && (firstBytes.length < 2 || firstBytes[1] === 0x03);
}

/**
 * Whether the port of a plain endpoint answers a TLS greeting. Asked when a first connection ended without a word:
 * a Redis TLS port resets a plain client, it sends no alert (seen on 7.0.15). Never rejects.
 */
export function speaksTls(endpoint: Endpoint): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = tlsConnect({ host: endpoint.host, port: endpoint.port, rejectUnauthorized: false });
    const finish = (answer: boolean): void => {
      probe.destroy();
      resolve(answer);
    };
    probe.setTimeout(PROBE_TIMEOUT_MS, () => finish(false));
    probe.once('secureConnect', () => finish(true));
    // A server that wants TLS, but not as we offer it, says so by an alert.
    probe.on('error', (error) => finish(/alert/.test(error.message)));
    probe.once('close', () => finish(false));
  });
}

/** What to tell the operator when looksLikeTls() or speaksTls() says yes. Exit 4. */
export function plainToTlsError(endpoint: Endpoint, role: Role): CutoverError {
  return sideError(role, 'tls-required', `${shownAddress(endpoint)} speaks TLS, but was dialled without it`, {
    hint: `write rediss:// instead of redis:// for the ${role}`,
    recovery: 'operator',
    exitCode: EXIT.auth,
  });
}

/** Any error of a socket (connect, TLS, read) as one of ours. Also for errors after the connection was up. */
export function socketError(endpoint: Endpoint, role: Role, error: Error): CutoverError {
  const address = shownAddress(endpoint);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_FAIL':
    case 'EAI_NODATA':
      return sideError(role, 'host', `the name ${printable(endpoint.host)} of the ${role} is unknown`, {
        hint: `check the spelling and the name service: getent hosts ${printable(endpoint.host)}`,
      });
    case 'ECONNREFUSED':
      return sideError(role, 'refused', `nothing listens on ${address} (${role})`, {
        hint: `is the server up, is the port right, does it bind that address? redis-cli ${cliArguments(endpoint)} ping`,
      });
    case 'ETIMEDOUT':
      return timeoutError(endpoint, role);
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return tlsError(role, 'tls-name', `the certificate of ${address} (${role}) is for another name`, {
        hint: 'give the name in the certificate with --sni NAME, or dial the server by that name',
      });
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID':
      return tlsError(
        role,
        'tls-expired',
        `the certificate of ${address} (${role}) is not valid at this time`,
        {
          hint: 'renew the certificate, or correct the clock of this machine (date -u)',
        },
      );
  }
  if (isUntrusted(code)) {
    return tlsError(
      role,
      'tls-untrusted',
      `the certificate of ${address} (${role}) is not trusted (${code})`,
      {
        hint: 'give the certificate of its authority with --cacert FILE',
      },
    );
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return tlsToPlainError(endpoint, role);
  }
  if (
    code === 'EPROTO' ||
    code.startsWith('ERR_SSL') ||
    code.startsWith('ERR_TLS') ||
    code.startsWith('ERR_OSSL')
  ) {
    return tlsError(role, 'tls', `TLS with ${address} (${role}) failed: ${printable(code)}`, {
      hint: 'check --cert and --key (does the server ask for a client certificate?) and the TLS versions that it allows',
    });
  }
  return sideError(
    role,
    'unreachable',
    `${address} (${role}) cannot be reached: ${printable(code || error.message)}`,
    {
      hint: `check the route, the firewall and the server: redis-cli ${cliArguments(endpoint)} ping`,
    },
  );
}

function openSocket(endpoint: Endpoint, role: Role, options: DialOptions): Socket | TLSSocket {
  const { host, port, tls } = endpoint;
  if (tls === null) {
    // node:net takes `onread` here (documented), @types/node has it on another type of options only.
    const tcp: TcpNetConnectOpts & { onread?: OnReadOpts } = { host, port };
    if (options.onread !== undefined) tcp.onread = options.onread;
    return connect(tcp);
  }
  try {
    return tlsConnect({
      host,
      port,
      rejectUnauthorized: !tls.insecure,
      ...tlsNames(host, tls),
      ...tlsFiles(tls),
    });
  } catch (error) {
    // A key or certificate that OpenSSL cannot read throws at once.
    throw error instanceof Error ? socketError(endpoint, role, error) : error;
  }
}

/** An address is no server name (RFC 6066): without --sni it is left out and node verifies the address itself. */
function tlsNames(host: string, tls: TlsSettings): { servername?: string } {
  if (tls.sni !== null) return { servername: tls.sni };
  return isIP(host) === 0 ? { servername: host } : {};
}

function tlsFiles(tls: TlsSettings): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  return {
    ...(tls.ca === null ? {} : { ca: tls.ca }),
    ...(tls.cert === null ? {} : { cert: tls.cert }),
    ...(tls.key === null ? {} : { key: tls.key }),
  };
}

function connected(
  socket: Socket | TLSSocket,
  endpoint: Endpoint,
  role: Role,
  options: DialOptions,
): Promise<void> {
  const { connectTimeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    const timers = [setTimeout(() => finish(timeoutError(endpoint, role)), connectTimeoutMs)];
    const onError = (error: Error): void => finish(socketError(endpoint, role, error));
    const onClose = (): void => finish(socketError(endpoint, role, new Error('closed by the server')));
    const onAbort = (): void => finish(signal?.reason);
    const onReady = (): void => finish();

    function finish(failure?: unknown): void {
      for (const timer of timers) clearTimeout(timer);
      socket.off('close', onClose);
      socket.off('connect', onTcp);
      signal?.removeEventListener('abort', onAbort);
      if (failure === undefined) {
        socket.off('error', onError);
        resolve();
      } else {
        // onError stays: a second error of the dying socket must not become an uncaught one.
        reject(failure);
      }
    }

    // A plain Redis says nothing to a TLS greeting (it reads it as an unfinished inline command), so silence
    // alone proves nothing. A second connection that gets an answer to a plain PING does.
    function onTcp(): void {
      if (endpoint.tls === null) {
        finish();
        return;
      }
      const wait = Math.min(PROBE_AFTER_MS, connectTimeoutMs / 2);
      timers.push(
        setTimeout(() => probePlain(endpoint, () => finish(tlsToPlainError(endpoint, role))), wait),
      );
    }

    socket.on('error', onError);
    socket.once('close', onClose);
    socket.once('connect', onTcp);
    if (endpoint.tls !== null) socket.once('secureConnect', onReady);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Calls `onPlain` when the port answers a plain PING as a Redis server does; carries no credentials. */
function probePlain(endpoint: Endpoint, onPlain: () => void): void {
  const probe = connect({ host: endpoint.host, port: endpoint.port });
  probe.setTimeout(PROBE_TIMEOUT_MS, () => probe.destroy());
  probe.on('error', () => probe.destroy());
  probe.once('connect', () => probe.write('PING\r\n'));
  probe.once('data', (answer) => {
    probe.destroy();
    if (answer[0] === 0x2b || answer[0] === 0x2d) onPlain();
  });
}

function timeoutError(endpoint: Endpoint, role: Role): CutoverError {
  return sideError(role, 'timeout', `${shownAddress(endpoint)} (${role}) did not answer in time`, {
    hint: `a firewall that drops, a wrong address, or a stalled server: redis-cli ${cliArguments(endpoint)} ping`,
  });
}

function tlsToPlainError(endpoint: Endpoint, role: Role): CutoverError {
  return tlsError(role, 'tls-plain', `${shownAddress(endpoint)} (${role}) does not speak TLS`, {
    hint: `write redis:// instead of rediss:// for the ${role}, or give the server's TLS port`,
  });
}

function tlsError(role: Role, problem: string, message: string, details: { hint: string }): CutoverError {
  return sideError(role, problem, message, { ...details, recovery: 'operator', exitCode: EXIT.auth });
}

/** The X509 verdicts of OpenSSL that mean "nobody we trust signed this". */
function isUntrusted(code: string): boolean {
  return (
    code.includes('SELF_SIGNED') ||
    code.startsWith('UNABLE_TO_') ||
    /^(CERT_UNTRUSTED|CERT_REJECTED|CERT_REVOKED|CERT_SIGNATURE_FAILURE|CERT_CHAIN_TOO_LONG|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED)$/.test(
      code,
    )
  );
}

function shownAddress(endpoint: Endpoint): string {
  return printable(addressOf(endpoint));
}

function cliArguments(endpoint: Endpoint): string {
  return `-h ${printable(endpoint.host)} -p ${endpoint.port}${endpoint.tls === null ? '' : ' --tls'}`;
}
