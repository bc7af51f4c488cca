/**
 * The pairs of a run, complete: read from the command line, a host list or the folder of an earlier run, each with its
 * own options, its passwords and the TLS settings. Of a host list all faults are reported at once.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  type AuthReferences,
  addressOf,
  type Endpoint,
  type PairSpec,
  Secret,
  type TlsReferences,
  type TlsSettings,
} from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import type { PairOptions } from '../core/options.ts';
import { printable } from '../core/text.ts';
import { type HostList, HostListError, meetings, type PairEntry } from '../fleet/pair-entries.ts';
import type { RunFile, StoredEndpoint } from '../migrate/run-folder.ts';
import {
  type CredentialSources,
  hasPassword,
  hideVariable,
  openFileWarning,
  passwordFromEnv,
  passwordFromReference,
  readAuthFile,
  withCredentials,
} from './credentials.ts';
import {
  formerPairOptions,
  PAIR_COLUMNS,
  type RawOptions,
  resolvePairOptions,
  resolveRunOptions,
  type Surroundings,
} from './options.ts';
import { parseListen, parseUri } from './uri.ts';

/**
 * The pairs of a run, with their own options, passwords and TLS settings.
 *
 * @throws UsageError where servers, credentials or TLS files cannot be used; HostListError with all its faults
 */
export async function resolvePairs(raw: RawOptions, around: Surroundings): Promise<PairSpec[]> {
  return completePairs(await readPairs(raw, around), raw, around);
}

/**
 * The pairs of an earlier run: its folder knows the servers, the command line brings passwords and TLS files anew.
 *
 * @throws UsageError where credentials or TLS files cannot be used
 */
export async function resolveFormerPairs(
  run: RunFile,
  raw: RawOptions,
  around: Surroundings,
): Promise<PairSpec[]> {
  const endpointOf = ({ host, port, username, tls }: StoredEndpoint): Endpoint => ({
    host,
    port,
    username,
    password: null,
    tls: tls === null ? null : { ca: null, cert: null, key: null, ...tls },
  });
  const entries = run.pairs.map(
    ({ source, target, options, tls, ...rest }): PairEntry => ({
      ...rest,
      ...(tls === undefined ? {} : { tls: formerTls(tls, raw) }),
      where: `pair ${printable(rest.name)}`,
      source: endpointOf(source),
      target: endpointOf(target),
      settings: new Map(),
      ...(options === undefined ? {} : { options: formerPairOptions(options, raw) }),
    }),
  );
  return completePairs({ entries, faults: [] }, raw, around);
}

/** What the command line of `resume` says anew counts for all pairs. */
function formerTls(tls: TlsReferences, raw: RawOptions): TlsReferences {
  const kept = Object.entries(tls).filter(([name]) => raw[name as keyof TlsReferences] === undefined);
  return Object.fromEntries(kept);
}

// ---- where the pairs are written -------------------------------------------------------------------------------

async function readPairs(raw: RawOptions, around: Surroundings): Promise<HostList> {
  const { src = [], dst = [], hosts } = raw;
  if (hosts !== undefined && (src.length > 0 || dst.length > 0)) {
    throw new UsageError('--hosts and --src/--dst cannot be given together', {
      code: 'two-lists',
      hint: 'put all pairs into the host list, or all on the command line',
    });
  }
  if (hosts !== undefined) return readHostList(hosts, around);
  if (src.length === 0 || dst.length === 0) {
    throw new UsageError(`${src.length === 0 ? '--src' : '--dst'} is missing`, {
      code: 'no-servers',
      hint: 'give --src URI --dst URI, or --hosts FILE with one pair a line',
    });
  }
  if (src.length !== dst.length) {
    throw new UsageError(
      `--src names ${src.length} and --dst ${dst.length} servers: each source needs its target`,
      {
        code: 'unequal-lists',
        hint: 'sources and targets are paired in order: give as many targets as sources',
      },
    );
  }
  const entries = src.map(
    (uri, index): PairEntry => ({
      where: `pair ${index + 1}`,
      name: null,
      source: parseUri(uri, '--src'),
      target: parseUri(dst[index] ?? '', '--dst'),
      settings: new Map(),
    }),
  );
  return { entries, faults: [] };
}

async function readHostList(path: string, around: Surroundings): Promise<HostList> {
  const { parseHostList } = await import('../fleet/host-list.ts');
  const text = path === '-' ? await around.readStdin() : readFileOf('--hosts', path).toString('utf8');
  const list = parseHostList(text, path === '-' ? 'stdin' : path, PAIR_COLUMNS, parseUri);
  const holdsPassword = list.entries.some(
    ({ source, target }) => source.password !== null || target.password !== null,
  );
  const warning = path === '-' || !holdsPassword ? null : openFileWarning(path);
  if (warning !== null) around.warn(`there are passwords in it, and ${warning}`);
  const entries = list.entries.map(
    (entry): PairEntry => ({
      ...entry,
      ...(entry.auth === undefined ? {} : { auth: withWholePaths(entry.auth, around.cwd) }),
      ...(entry.tls === undefined ? {} : { tls: withWholeTlsPaths(entry.tls, around.cwd) }),
    }),
  );
  return { ...list, entries };
}

function withWholeTlsPaths(tls: TlsReferences, cwd: string): TlsReferences {
  const whole = Object.entries(tls).map(([name, value]) => [
    name,
    name === 'sni' ? value : resolve(cwd, value),
  ]);
  return Object.fromEntries(whole);
}

/** resume may be run in another folder. */
function withWholePaths(auth: AuthReferences, cwd: string): AuthReferences {
  const whole = (reference: string): string =>
    reference.startsWith('file:') ? `file:${resolve(cwd, reference.slice('file:'.length))}` : reference;
  return Object.fromEntries(Object.entries(auth).map(([side, reference]) => [side, whole(reference)]));
}

// ---- what is added to them -------------------------------------------------------------------------------------

async function completePairs(
  { entries, faults: found }: HostList,
  raw: RawOptions,
  around: Surroundings,
): Promise<PairSpec[]> {
  const faults = new Set(found);
  /** The result of `work`; undefined where it fails in a host list, of which all faults are told. */
  const attempt: Attempt = (where, work) => {
    try {
      return work();
    } catch (error) {
      if (raw.hosts === undefined || !(error instanceof UsageError)) throw error;
      faults.add(`${where}: ${error.message} (${error.hint})`);
      return undefined;
    }
  };
  const sources = credentialSources(raw, around);
  const common = readTls(raw);
  if (faults.size === 0) refuseUnusedTls(entries, raw);
  // what is wrong with the command line is not the list's fault
  if (entries.some(({ settings }) => settings.size > 0)) resolveRunOptions(raw, around);

  const passwordOf = referenceReader(around);
  const known = entries.map((entry): PairEntry => {
    const options = ownOptions(entry, raw, around, attempt);
    const endpointOf = (side: Side): Endpoint => {
      const reference = entry.auth?.[side];
      const endpoint = entry[side];
      if (reference === undefined || endpoint.password !== null) return endpoint;
      const password = attempt(entry.where, () => passwordOf(reference));
      return password === undefined ? endpoint : { ...endpoint, password };
    };
    const sides = { source: endpointOf('source'), target: endpointOf('target') };
    return { ...entry, ...sides, ...(options === undefined ? {} : { options }) };
  });
  for (const fault of [...meetings(entries), ...sharedPorts(known, raw)]) faults.add(fault);
  // nobody is asked for the passwords of a list that has to be mended first
  if (faults.size > 0 && raw.askpass) throw new HostListError([...faults]);
  const asked = {
    source: await withAskedPassword('source', known, sources.source, raw, around),
    target: await withAskedPassword('target', known, sources.target, raw, around),
  };

  const pairs = known.map(({ where, settings: _, ...pair }): PairSpec => {
    const own = pair.tls;
    const tls = own === undefined ? common : attempt(where, () => readTls({ ...raw, ...own }));
    const complete = (side: Side): Endpoint => {
      const endpoint = attempt(where, () => withCredentials(pair[side], asked[side])) ?? pair[side];
      return { ...endpoint, tls: endpoint.tls === null ? null : (tls ?? common) };
    };
    const name = pair.name ?? addressOf(pair.source);
    return { ...pair, name, source: complete('source'), target: complete('target') };
  });
  if (faults.size > 0) throw new HostListError([...faults]);
  return pairs;
}

type Side = 'source' | 'target';
type Attempt = <T>(where: string, work: () => T) => T | undefined;

/** The options that a pair has of its own. Each field is tried alone, so that all faults are found. */
function ownOptions(
  { where, settings, options }: PairEntry,
  raw: RawOptions,
  around: Surroundings,
  attempt: Attempt,
): PairOptions | undefined {
  if (settings.size === 0) return options;
  const alone = [...settings].map(([column, { text, where: place }]) =>
    attempt(place, () => resolvePairOptions(new Map([[column, text]]), raw, around)),
  );
  if (alone.includes(undefined)) return options;
  const all = new Map([...settings].map(([column, { text }]) => [column, text]));
  return attempt(where, () => resolvePairOptions(all, raw, around));
}

/**
 * Pairs that would listen on one port, as faults.
 *
 * @throws UsageError `listen-shared` where the command line gives one port to several pairs
 */
function sharedPorts(entries: readonly PairEntry[], raw: RawOptions): string[] {
  const common = raw.listen === undefined ? null : parseListen(raw.listen);
  const sharing = entries.filter(({ options }) => options?.listen === undefined);
  if (raw.listen !== undefined && common?.port !== 0 && sharing.length > 1) {
    throw new UsageError(
      `--listen ${printable(raw.listen, 80)}: ${sharing.length} pairs cannot share one port, each needs its own`,
      { code: 'listen-shared', hint: 'leave the port out: each pair takes a free one' },
    );
  }
  const places = new Map<string, string>();
  return entries.flatMap(({ where, options }) => {
    const listen = options?.listen ?? common;
    if (listen === null || listen.port === 0) return [];
    const address = `${listen.host ?? ''}:${listen.port}`;
    const earlier = places.get(address);
    if (earlier !== undefined) return [`${where}: listen ${address} is used already at ${earlier}`];
    places.set(address, where);
    return [];
  });
}

/** Reads `env:NAME` and `file:PATH`, each once: many pairs may share one. */
function referenceReader(around: Surroundings): (reference: string) => Secret {
  const known = new Map<string, Secret>();
  return (reference) => {
    const before = known.get(reference);
    if (before !== undefined) return before;
    const { password, warning } = passwordFromReference(reference, around.env);
    if (warning !== null) around.warn(warning);
    known.set(reference, password);
    return password;
  };
}

/**
 * With `--askpass`, the password that a person types in place of REDISCLI_AUTH. Nobody is asked where every server of
 * the side has one already.
 *
 * @throws UsageError `no-terminal` where nobody can be asked
 */
async function withAskedPassword(
  side: Side,
  entries: readonly PairEntry[],
  sources: CredentialSources,
  raw: RawOptions,
  around: Surroundings,
): Promise<CredentialSources> {
  if (!raw.askpass) return sources;
  if (around.askPassword === null || raw.input === false) {
    throw new UsageError('--askpass needs a terminal to ask on', {
      code: 'no-terminal',
      hint: 'where nobody can be asked, give passwords by --src-auth-env, --dst-auth-env or --auth-file',
    });
  }
  const lacking = entries.some((entry) => !hasPassword(entry[side], sources));
  if (!lacking) return { ...sources, fallback: null };
  const typed = await around.askPassword(`Password of the ${side}s (empty: none)`);
  return { ...sources, fallback: typed.reveal() === '' ? null : typed };
}

function credentialSources(
  raw: RawOptions,
  around: Surroundings,
): { source: CredentialSources; target: CredentialSources } {
  const file = raw.authFile === undefined ? null : readAuthFile(raw.authFile);
  if (file !== null && file.warning !== null) around.warn(file.warning);
  const fromFile = file === null ? [] : file.entries;
  const redisCliAuth = around.env['REDISCLI_AUTH'] ?? '';
  const fallback = redisCliAuth === '' ? null : new Secret(redisCliAuth);
  hideVariable('REDISCLI_AUTH');
  const side = (flag: string, name: string | undefined): CredentialSources => ({
    fromEnv: name === undefined ? null : passwordFromEnv(name, flag, around.env),
    fromFile,
    fallback,
  });
  return {
    source: side('--src-auth-env', raw.srcAuthEnv),
    target: side('--dst-auth-env', raw.dstAuthEnv),
  };
}

const TLS_FLAGS = ['cacert', 'cert', 'key', 'sni', 'insecure'] as const;

function refuseUnusedTls(entries: readonly PairEntry[], raw: RawOptions): void {
  const usesTls = entries.some(({ source, target }) => source.tls !== null || target.tls !== null);
  const flag = TLS_FLAGS.find((name) => raw[name] !== undefined);
  if (flag === undefined || usesTls) return;
  throw new UsageError(`--${flag} has no effect: no server is given as rediss://`, {
    code: 'tls-unused',
    hint: 'write rediss:// for the servers that speak TLS',
  });
}

function readTls(raw: RawOptions): TlsSettings {
  if ((raw.cert === undefined) !== (raw.key === undefined)) {
    throw new UsageError('--cert and --key belong together', {
      code: 'tls-files',
      hint: 'give both, or neither where the server asks for no client certificate',
    });
  }
  const file = (flag: string, path: string | undefined): Buffer | null =>
    path === undefined ? null : readFileOf(flag, path);
  return {
    ca: file('--cacert', raw.cacert),
    cert: file('--cert', raw.cert),
    key: file('--key', raw.key),
    sni: raw.sni ?? null,
    insecure: raw.insecure ?? false,
  };
}

function readFileOf(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new UsageError(`${flag} ${printable(path)} cannot be read`, {
      code: 'unreadable-file',
      hint: 'check the path and its permissions',
      cause,
    });
  }
}
