/**
 * Server URIs: text from a flag or a host list in, an `Endpoint` out. Every message masks whatever could be a
 * password, malformed text included. Credentials that the URI does not hold are added by credentials.ts. Besides, the
 * addresses of our own (`--listen`, `--advertise`).
 */
import { isIP, isIPv6 } from 'node:net';
import { type Endpoint, Secret, type TlsSettings } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';

const DEFAULT_PORT = 6379;

/** Schemes of redis-cli and of valkey-cli; true: TLS. */
const SCHEMES: ReadonlyMap<string, boolean> = new Map([
  ['redis', false],
  ['rediss', true],
  ['valkey', false],
  ['valkeys', true],
]);

const VERIFIED_TLS: TlsSettings = { ca: null, cert: null, key: null, sni: null, insecure: false };

const FORM = 'write redis://[user[:password]@]host[:port], or rediss://… for TLS';

/**
 * `redis://[user[:password]@]host[:port]`; without a scheme it is taken as `redis://`. User and password are
 * percent-decoded; the last `@` ends them, so that a raw `@` or `/` in a password does no harm; they need the scheme. IPv6 addresses
 * stand in brackets.
 *
 * @param flag what to call the place in a message: `--src`, or `hosts.txt:3: source`
 * @throws UsageError `bad-uri`, naming `flag` and the text with its password masked
 */
export function parseUri(text: string, flag: string): Endpoint {
  const fail = (why: string, hint: string): UsageError =>
    new UsageError(`${flag} ${maskUri(text)}: ${why}`, { code: 'bad-uri', hint });

  const { scheme, written, rest } = splitScheme(text);
  const tls = SCHEMES.get(scheme);
  if (tls === undefined) throw fail('the scheme must be redis:// or rediss://', FORM);

  const at = rest.lastIndexOf('@');
  if (at !== -1 && written === '') throw fail('credentials need a whole URI', FORM);
  const userInfo = at === -1 ? '' : rest.slice(0, at);
  const place = rest.slice(at + 1);
  const { authority, tail } = splitTail(place);
  if (/^\/\d+$/.test(tail) && Number(tail.slice(1)) !== 0) {
    throw fail('a single database cannot be moved', `leave out ${tail}: all databases are moved`);
  }
  if (!/^(\/0*)?$/.test(tail)) {
    throw fail('nothing may follow host and port', 'settings are given by flags: see --help');
  }

  const { host, port } = splitAuthority(authority, fail);
  const colon = userInfo.indexOf(':');
  let username: string;
  let password: string | null;
  try {
    username = decodeURIComponent(colon === -1 ? userInfo : userInfo.slice(0, colon));
    password = colon === -1 ? null : decodeURIComponent(userInfo.slice(colon + 1));
  } catch {
    throw fail('user or password holds a % that is no escape', 'write a % in a password as %25');
  }
  return {
    host,
    port,
    username: username === '' ? null : username,
    // `user:@host` is a user without a password (ACL nopass); `:@host` says nothing at all
    password: password === null || (password === '' && username === '') ? null : new Secret(password),
    tls: tls ? VERIFIED_TLS : null,
  };
}

/**
 * `--listen`: `HOST:PORT`, `HOST`, `:PORT`; an IPv6 address stands in brackets.
 *
 * @returns `host` null where none is given; `port` 0 where it is left out or 0: any free one
 * @throws UsageError `bad-value`
 */
export function parseListen(text: string): { host: string | null; port: number } {
  const [, hostText, portText] = /^(\[[^\]]*\]|[^:[\]]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const port = Number(portText ?? 0);
  if (text === '' || hostText === undefined || port > 65535) {
    throw new UsageError(`--listen "${printable(text, 80)}" is no address to listen on`, {
      code: 'bad-value',
      hint: 'write HOST:PORT, HOST or :PORT; an IPv6 address in brackets, [::1]:7000',
    });
  }
  return { host: hostText === '' ? null : parseHost(hostText, '--listen'), port };
}

/**
 * A host name or an IP address without a port; an IPv6 address may stand in brackets.
 *
 * @throws UsageError `bad-value`, naming `flag`
 */
export function parseHost(text: string, flag: string): string {
  const lower = text.toLowerCase();
  const host = /^\[(.*)\]$/.exec(lower)?.[1] ?? lower;
  // brackets are for IPv6 addresses alone
  if (!isIPv6(host) && !(host === lower && isHostName(host))) {
    throw new UsageError(`${flag} "${printable(text, 80)}" is no host name and no IP address`, {
      code: 'bad-value',
      hint: `${flag} takes a host without a scheme, a user or a path`,
    });
  }
  return host;
}

/** The text of a URI for a message: no user, no password, and nothing that could be one by mistake. */
export function maskUri(text: string): string {
  const { written, rest } = splitScheme(text);
  return printable(written + maskRest(rest), 120);
}

function maskRest(rest: string): string {
  const at = rest.lastIndexOf('@');
  if (at !== -1) return `***${rest.slice(at)}`;
  if (isIPv6(rest) || /^\[[^\]]*\](:\d{0,5})?(\/\d*)?$/.test(rest)) return rest;
  // without an @ this may be "user:password" whose host was forgotten: show digits behind the colon only
  const colon = rest.indexOf(':');
  if (colon === -1) return rest;
  return colon > 0 && /^\d{0,5}(\/\d*)?$/.test(rest.slice(colon + 1)) ? rest : `${rest.slice(0, colon)}:***`;
}

/** `written`: the scheme as in the text with its `://`, empty where there was none. */
function splitScheme(text: string): { scheme: string; written: string; rest: string } {
  const match = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text);
  if (match === null) return { scheme: 'redis', written: '', rest: text };
  return {
    scheme: (match[1] ?? '').toLowerCase(),
    written: match[0],
    rest: text.slice(match[0].length),
  };
}

function splitTail(place: string): { authority: string; tail: string } {
  const end = place.search(/[/?#]/);
  return end === -1
    ? { authority: place, tail: '' }
    : { authority: place.slice(0, end), tail: place.slice(end) };
}

type Fail = (why: string, hint: string) => UsageError;

function splitAuthority(authority: string, fail: Fail): { host: string; port: number } {
  if (isIPv6(authority)) throw fail('an IPv6 address needs brackets', 'write [::1]:6379');
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(authority);
  if (match === null) throw fail('host and port cannot be told apart', FORM);
  const [, inBrackets, plain, portText] = match;
  if (inBrackets !== undefined && !isIPv6(inBrackets)) {
    throw fail('there is no IPv6 address in the brackets', 'write [::1]:6379');
  }
  const host = (inBrackets ?? plain ?? '').toLowerCase();
  if (host === '') throw fail('the host is missing', FORM);
  if (inBrackets === undefined && !isHostName(host)) {
    throw fail('this is no host name and no IP address', FORM);
  }
  return { host, port: parsePort(portText, fail) };
}

/** An IPv4 address or a DNS name. A bare number is none: resolvers would take 6379 for 0.0.24.235. */
function isHostName(host: string): boolean {
  if (/^[\d.]+$/.test(host)) return isIP(host) === 4;
  return host.length <= 253 && /^[a-z0-9_][a-z0-9._-]*$/.test(host);
}

function parsePort(text: string | undefined, fail: Fail): number {
  if (text === undefined) return DEFAULT_PORT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw fail('the port must be a number from 1 to 65535', FORM);
  return port;
}
