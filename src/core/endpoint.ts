/** Where a server is and how to speak to it. Built from a URI by cli/uri.ts; holds no open connection. */
import type { PairOptions } from './options.ts';

/** A password: cannot be printed, logged or serialised by accident; `reveal` is called where it goes on the wire. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '***';
  }
  toJSON(): string {
    return '***';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***';
  }
}

/** TLS settings of one endpoint; file contents, not paths. */
export interface TlsSettings {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
  /** Name to ask for and to verify; null: the endpoint's host. */
  readonly sni: string | null;
  /** True only after `--insecure`: the certificate is not verified. */
  readonly insecure: boolean;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly username: string | null;
  readonly password: Secret | null;
  /** null: plain TCP. */
  readonly tls: TlsSettings | null;
}

/** `host:port`, IPv6 in brackets: for people and for keys of maps, without credentials. */
export function addressOf(endpoint: Pick<Endpoint, 'host' | 'port'>): string {
  return endpoint.host.includes(':')
    ? `[${endpoint.host}]:${endpoint.port}`
    : `${endpoint.host}:${endpoint.port}`;
}

/** One source and its target. */
export interface PairSpec {
  /** Name shown to people and typed by them before a dangerous step; unique in a run. */
  readonly name: string;
  readonly source: Endpoint;
  readonly target: Endpoint;
  /** The wave of the host list that it is cut over with; a word without blanks, typed by people. */
  readonly wave?: string;
  /** What it is to do otherwise than the rest of the run. */
  readonly options?: PairOptions;
  /** Where the host list says its passwords are: `env:NAME`, `file:PATH`. No secrets: resume needs them again. */
  readonly auth?: AuthReferences;
  /** What the host list says of TLS for its servers, otherwise than the command line. Paths: resume reads them again. */
  readonly tls?: TlsReferences;
}

export interface AuthReferences {
  readonly source?: string;
  readonly target?: string;
}

/** Files (PEM), and the server name to verify, by the names of the flags and columns. */
export interface TlsReferences {
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly sni?: string;
}
