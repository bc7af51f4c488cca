/**
 * The one table of options. Commander's options, `--help` and the table in the README are made from it; the
 * values are checked and turned into `RunOptions` here, each message naming the flag and the value.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Option } from 'commander';
import { type Endpoint, type PairSpec, Secret, type TlsSettings } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import type { ListenOptions, RunOptions } from '../core/options.ts';
import { printable } from '../core/text.ts';
import { type PairEntry, pairsOf, parseHostList } from '../fleet/host-list.ts';
import type { RunFile, StoredEndpoint } from '../migrate/run-folder.ts';
import { type CredentialSources, passwordFromEnv, readAuthFile, withCredentials } from './credentials.ts';
import { parseHost, parseListen, parseUri } from './uri.ts';

export type CommandName = 'migrate' | 'check' | 'verify' | 'resume' | 'demo';

interface OptionSpec {
  /** As commander writes it: `--feed <mode>`, `--src <uri...>`, `--json`. */
  readonly flags: string;
  readonly help: string;
  /** The default, in words; commander holds none, so that "not given" can be told from the default. */
  readonly standard?: string;
  /** Environment variable that is read where the flag is not given. */
  readonly env?: string;
  readonly group: string;
  readonly commands: readonly CommandName[];
}

const WITH_PAIRS = ['migrate', 'check', 'verify'] as const;
const WITH_SERVERS = ['migrate', 'check', 'verify', 'resume'] as const;
const WITH_PREFLIGHT = ['migrate', 'check'] as const;
const WITH_CUTOVER = ['migrate', 'resume'] as const;
const WITH_LISTEN = ['migrate', 'check', 'resume'] as const;

const OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--src <uri...>',
    help: 'sources: redis://[user[:password]@]host[:port], rediss:// for TLS',
    group: 'Servers',
    commands: WITH_PAIRS,
  },
  {
    flags: '--dst <uri...>',
    help: 'targets, in the order of the sources',
    group: 'Servers',
    commands: WITH_PAIRS,
  },
  {
    flags: '--hosts <file>',
    help: 'a host list instead: "source target [name]" on each line; - reads it from stdin',
    group: 'Servers',
    commands: WITH_PAIRS,
  },
  {
    flags: '--feed <mode>',
    help: 'auto, attach (the target becomes our replica) or write (we write to it)',
    standard: 'auto',
    group: 'Migration',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--flush-target',
    help: 'a target that holds keys is emptied',
    group: 'Migration',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--allow-nonempty',
    help: 'a target that holds keys is accepted; its other keys stay',
    group: 'Migration',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--allow-loss',
    help: 'leave out what an older target has no place for: expiries of hash fields, functions. Counted and listed',
    group: 'Migration',
    commands: ['migrate', 'check', 'resume'],
  },
  {
    flags: '--skip-unknown',
    help: 'leave out what belongs to types and modules that the target does not have. Counted and listed',
    group: 'Migration',
    commands: ['migrate', 'check', 'resume'],
  },
  {
    flags: '--forward-publish',
    help: 'send PUBLISH and SPUBLISH on to the target',
    group: 'Migration',
    commands: ['migrate'],
  },
  {
    flags: '--spool-memory <MB>',
    help: "the source's stream kept in memory before it goes to disk",
    standard: '8',
    group: 'Migration',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--spool-limit <MB>',
    help: 'spool on disk at which the run ends cleanly',
    standard: 'what the disk holds',
    group: 'Migration',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--keep-snapshot',
    help: 'keep the snapshot on disk until it is loaded: resume then loads it from there. Costs its size on disk',
    group: 'Migration',
    commands: ['migrate'],
  },
  {
    flags: '--run-dir <dir>',
    help: 'state, journal and spool of the run',
    standard: './redis-cutover-run-<date>-<time>',
    group: 'Migration',
    commands: ['migrate'],
  },
  {
    flags: '--cutover <mode>',
    help: 'ask: prompts. auto: as soon as in sync. never: stay in sync until SIGINT or SIGTERM',
    standard: 'ask on a terminal, else never',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--stop-at <phase>',
    help: 'in-sync: a rehearsal; exit 0 as soon as every pair is in sync, targets left unpromoted',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--cutover-timeout <s>',
    help: 'a cutover that drains longer than this is undone, and the pair is in sync again',
    standard: '10',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--no-source-fence',
    help: 'leave the source writable at cutover: writes that come late are lost',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--no-reverse',
    help: 'no way back is kept behind the cutover',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--before-cutover <command>',
    help: 'shell command run before the source is touched; another exit code than 0 calls the cutover off',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--on-cutover <command>',
    help: 'shell command run as soon as the target takes writes; another exit code than 0 undoes the cutover',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--yes',
    help: 'answer the harmless prompts; never those that can lose data',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--src-auth-env <name>',
    help: 'variable that holds the password of the sources',
    group: 'Passwords',
    commands: WITH_SERVERS,
  },
  {
    flags: '--dst-auth-env <name>',
    help: 'variable that holds the password of the targets',
    group: 'Passwords',
    commands: WITH_SERVERS,
  },
  {
    flags: '--auth-file <file>',
    help: 'lines of "host:port [user] password" or "default [user] password"',
    env: 'REDIS_CUTOVER_AUTH_FILE',
    group: 'Passwords',
    commands: WITH_SERVERS,
  },
  {
    flags: '--cacert <file>',
    help: 'CA certificates (PEM) to verify servers with',
    standard: "the system's",
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--cert <file>',
    help: 'client certificate (PEM)',
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--key <file>',
    help: 'private key of the client certificate (PEM)',
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--sni <name>',
    help: 'server name to ask for and to verify',
    standard: 'the host of the URI',
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--insecure',
    help: 'do not verify certificates',
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--listen <host:port>',
    help: 'attach: where we listen for the target; host or :port alone will do',
    standard: 'the address that faces the target, any free port',
    group: 'Replication',
    commands: WITH_LISTEN,
  },
  {
    flags: '--advertise <host>',
    help: 'attach: the address under which the target finds us, where it is another than we listen on',
    group: 'Replication',
    commands: WITH_LISTEN,
  },
  {
    flags: '--psync-command <name>',
    help: 'name of PSYNC on the source, where it was renamed',
    standard: 'PSYNC',
    group: 'Replication',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--sync-command <name>',
    help: 'name of SYNC on the source',
    standard: 'SYNC',
    group: 'Replication',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--replconf-command <name>',
    help: 'name of REPLCONF on the source',
    standard: 'REPLCONF',
    group: 'Replication',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--keys <n>',
    help: 'how many keys the old server holds',
    standard: '200000',
    group: 'Demo',
    commands: ['demo'],
  },
  {
    flags: '--json',
    help: 'NDJSON events on stdout and nothing else there; text for people goes to stderr',
    group: 'Output',
    commands: ['migrate', 'check', 'verify', 'resume', 'demo'],
  },
];

/** Option values as commander hands them over: not yet checked. */
export interface RawOptions {
  readonly src?: string[];
  readonly dst?: string[];
  readonly hosts?: string;
  readonly feed?: string;
  readonly flushTarget?: true;
  readonly allowNonempty?: true;
  readonly allowLoss?: true;
  readonly skipUnknown?: true;
  readonly forwardPublish?: true;
  readonly spoolMemory?: string;
  readonly spoolLimit?: string;
  readonly keepSnapshot?: true;
  readonly runDir?: string;
  readonly cutover?: string;
  readonly stopAt?: string;
  readonly cutoverTimeout?: string;
  /** Commander sets this to true where `--no-source-fence` is not given. */
  readonly sourceFence?: boolean;
  /** As `sourceFence`: true where `--no-reverse` is not given. */
  readonly reverse?: boolean;
  readonly beforeCutover?: string;
  readonly onCutover?: string;
  readonly yes?: true;
  readonly srcAuthEnv?: string;
  readonly dstAuthEnv?: string;
  readonly authFile?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly sni?: string;
  readonly insecure?: true;
  readonly listen?: string;
  readonly advertise?: string;
  readonly psyncCommand?: string;
  readonly syncCommand?: string;
  readonly replconfCommand?: string;
  readonly keys?: string;
  readonly json?: true;
}

/** The options of one command, in groups. */
export function optionsFor(command: CommandName): Option[] {
  return OPTIONS.filter((spec) => spec.commands.includes(command)).map((spec) => {
    const standard = spec.standard === undefined ? '' : ` (default: ${spec.standard})`;
    const option = new Option(spec.flags, spec.help + standard).helpGroup(`${spec.group}:`);
    return spec.env === undefined ? option : option.env(spec.env);
  });
}

/** The README's table of options, in Markdown. */
export function renderOptionsTable(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
  const lines = ['| option | meaning | default | commands |', '|-|-|-|-|'];
  let group = '';
  for (const spec of OPTIONS) {
    if (spec.group !== group) {
      group = spec.group;
      lines.push(`| **${group}** | | | |`);
    }
    const env = spec.env === undefined ? '' : `; also from \`${spec.env}\``;
    lines.push(
      `| \`${spec.flags}\` | ${cell(spec.help)}${env} | ${cell(spec.standard ?? '')} | ${spec.commands.join(', ')} |`,
    );
  }
  return lines.join('\n');
}

/** The options of an earlier run; what the command line of `resume` says anew counts. */
export function resolveFormerOptions(
  run: RunFile,
  dir: string,
  raw: RawOptions,
  around: Surroundings,
): RunOptions {
  const now = resolveRunOptions(raw, around);
  const { hooks, listen, ...former } = { ...now, ...run.options };
  return {
    ...former,
    spoolLimitBytes: run.options.spoolLimitBytes ?? Number.POSITIVE_INFINITY,
    ...(raw.cutoverTimeout === undefined ? {} : { cutoverTimeoutMs: now.cutoverTimeoutMs }),
    ...(raw.spoolMemory === undefined ? {} : { spoolMemoryBytes: now.spoolMemoryBytes }),
    ...(raw.spoolLimit === undefined ? {} : { spoolLimitBytes: now.spoolLimitBytes }),
    ...(raw.allowLoss === true ? { allowLoss: true } : {}),
    ...(raw.skipUnknown === true ? { skipUnknown: true } : {}),
    ...(raw.sourceFence === false ? { sourceFence: false } : {}),
    ...(raw.reverse === false ? { reverse: false } : {}),
    hooks: {
      before: now.hooks.before ?? hooks.before,
      onCutover: now.hooks.onCutover ?? hooks.onCutover,
    },
    listen: {
      ...(raw.listen === undefined ? listen : now.listen),
      advertise: now.listen.advertise ?? listen.advertise,
    },
    cutover: now.cutover,
    stopAtInSync: now.stopAtInSync,
    assumeYes: now.assumeYes,
    // what was to be flushed or kept was decided when the run began
    flushTarget: false,
    runDir: dir,
    resumes: run.runId,
  };
}

/** What the options are read against; a test passes its own. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly now: Date;
  /** True where a person sees the output and can press keys. */
  readonly terminal: boolean;
  /** The whole of stdin, for `--hosts -`. */
  readonly readStdin: () => Promise<string>;
  readonly warn: (message: string) => void;
}

/**
 * The pairs of a run, with their passwords and TLS settings.
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
export function resolveFormerPairs(run: RunFile, raw: RawOptions, around: Surroundings): PairSpec[] {
  const endpointOf = ({ host, port, username, tls }: StoredEndpoint): Endpoint => ({
    host,
    port,
    username,
    password: null,
    tls: tls === null ? null : { ca: null, cert: null, key: null, ...tls },
  });
  const pairs = run.pairs.map(({ name, source, target }) => ({
    name,
    source: endpointOf(source),
    target: endpointOf(target),
  }));
  return completePairs(pairs, raw, around);
}

function completePairs(pairs: readonly PairSpec[], raw: RawOptions, around: Surroundings): PairSpec[] {
  const { src, dst } = credentialSources(raw, around);
  const tls = readTls(raw);
  const complete = (endpoint: Endpoint, sources: CredentialSources): Endpoint => ({
    ...withCredentials(endpoint, sources),
    tls: endpoint.tls === null ? null : tls,
  });
  const usesTls = pairs.some((pair) => pair.source.tls !== null || pair.target.tls !== null);
  const tlsFlag = TLS_FLAGS.find((name) => raw[name] !== undefined);
  if (tlsFlag !== undefined && !usesTls) {
    throw new UsageError(`--${tlsFlag} has no effect: no server is given as rediss://`, {
      code: 'tls-unused',
      hint: 'write rediss:// for the servers that speak TLS',
    });
  }
  if (pairs.length > 1 && raw.listen !== undefined && parseListen(raw.listen).port !== 0) {
    throw new UsageError(
      `--listen ${printable(raw.listen, 80)}: ${pairs.length} pairs cannot share one port, each needs its own`,
      { code: 'listen-shared', hint: 'leave the port out: each pair takes a free one' },
    );
  }
  return pairs.map((pair) => ({
    name: pair.name,
    source: complete(pair.source, src),
    target: complete(pair.target, dst),
  }));
}

const TLS_FLAGS = ['cacert', 'cert', 'key', 'sni', 'insecure'] as const;

async function readPairs(raw: RawOptions, around: Surroundings): Promise<PairSpec[]> {
  const { src = [], dst = [], hosts } = raw;
  if (hosts !== undefined && (src.length > 0 || dst.length > 0)) {
    throw new UsageError('--hosts and --src/--dst cannot be given together', {
      code: 'two-lists',
      hint: 'put all pairs into the host list, or all on the command line',
    });
  }
  if (hosts !== undefined) {
    const text = hosts === '-' ? await around.readStdin() : readFileOf('--hosts', hosts).toString('utf8');
    return parseHostList(text, hosts === '-' ? 'stdin' : hosts, parseUri);
  }
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
  const entries = src.map((uri, index): PairEntry => {
    const target = dst[index] ?? '';
    return {
      where: `pair ${index + 1}`,
      name: null,
      source: parseUri(uri, '--src'),
      target: parseUri(target, '--dst'),
    };
  });
  return pairsOf(entries);
}

function credentialSources(
  raw: RawOptions,
  around: Surroundings,
): { src: CredentialSources; dst: CredentialSources } {
  const file = raw.authFile === undefined ? null : readAuthFile(raw.authFile);
  if (file !== null && file.warning !== null) around.warn(file.warning);
  const fromFile = file === null ? [] : file.entries;
  const redisCliAuth = around.env['REDISCLI_AUTH'] ?? '';
  const fallback = redisCliAuth === '' ? null : new Secret(redisCliAuth);
  const side = (flag: string, name: string | undefined): CredentialSources => ({
    fromEnv: name === undefined ? null : passwordFromEnv(name, flag, around.env),
    fromFile,
    fallback,
  });
  return { src: side('--src-auth-env', raw.srcAuthEnv), dst: side('--dst-auth-env', raw.dstAuthEnv) };
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

const MEGABYTE = 1024 * 1024;

/**
 * Everything else that a run was asked to do.
 *
 * @throws UsageError naming the flag and the value
 */
export function resolveRunOptions(raw: RawOptions, around: Surroundings): RunOptions {
  if (raw.flushTarget && raw.allowNonempty) {
    throw new UsageError('--flush-target and --allow-nonempty cannot be given together', {
      code: 'bad-value',
      hint: '--flush-target empties the target, --allow-nonempty keeps what it holds: choose one',
    });
  }
  const feed = choice('--feed', raw.feed, ['auto', 'attach', 'write']) ?? 'auto';
  const cutover = choice('--cutover', raw.cutover, ['ask', 'auto', 'never']);
  if (cutover === 'ask' && !around.terminal) {
    throw new UsageError('--cutover ask needs a terminal on stdin and stdout', {
      code: 'no-terminal',
      hint: 'use --cutover auto or --cutover never where nobody can answer',
    });
  }
  return {
    feed,
    cutover: cutover ?? (around.terminal && !raw.json ? 'ask' : 'never'),
    stopAtInSync: choice('--stop-at', raw.stopAt, ['in-sync']) !== undefined,
    cutoverTimeoutMs: (number('--cutover-timeout', raw.cutoverTimeout, 0.1, 3600) ?? 10) * 1000,
    sourceFence: raw.sourceFence ?? true,
    reverse: raw.reverse ?? true,
    hooks: {
      before: shellCommand('--before-cutover', raw.beforeCutover) ?? null,
      onCutover: shellCommand('--on-cutover', raw.onCutover) ?? null,
    },
    listen: listenOptions(raw),
    flushTarget: raw.flushTarget ?? false,
    allowNonempty: raw.allowNonempty ?? false,
    allowLoss: raw.allowLoss ?? false,
    skipUnknown: raw.skipUnknown ?? false,
    assumeYes: raw.yes ?? false,
    resumes: null,
    runDir: raw.runDir === undefined ? defaultRunDir(around) : resolve(around.cwd, raw.runDir),
    commandNames: {
      psync: commandName('--psync-command', raw.psyncCommand) ?? 'PSYNC',
      sync: commandName('--sync-command', raw.syncCommand) ?? 'SYNC',
      replconf: commandName('--replconf-command', raw.replconfCommand) ?? 'REPLCONF',
    },
    forwardPublish: raw.forwardPublish ?? false,
    keepSnapshot: raw.keepSnapshot ?? false,
    spoolMemoryBytes: Math.round(number('--spool-memory', raw.spoolMemory, 1, 1e6) ?? 8) * MEGABYTE,
    spoolLimitBytes: Math.round(number('--spool-limit', raw.spoolLimit, 1, 1e9) ?? Infinity) * MEGABYTE,
  };
}

/** `--keys` of the demo. Below a thousand there are not all types. Throws UsageError. */
export function resolveDemoKeys(raw: RawOptions): number {
  return Math.round(number('--keys', raw.keys, 1_000, 10_000_000) ?? 200_000);
}

/** For what is planned and this version does not do: refused, never accepted and ignored. `instead`: what can be done. */
export function notBuiltYet(what: string, instead: string): UsageError {
  return new UsageError(`${what} is planned and not built yet`, { code: 'not-built-yet', hint: instead });
}

function badValue(flag: string, value: string, wanted: string): UsageError {
  return new UsageError(`${flag} "${printable(value, 80)}" is no ${wanted}`, {
    code: 'bad-value',
    hint: `${flag} takes a ${wanted}`,
  });
}

function choice<T extends string>(
  flag: string,
  value: string | undefined,
  allowed: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new UsageError(`${flag} "${printable(value, 80)}" is unknown`, {
      code: 'bad-value',
      hint: `${flag} takes ${allowed.join(', ')}`,
    });
  }
  return found;
}

function number(flag: string, value: string | undefined, least: number, most: number): number | undefined {
  if (value === undefined) return undefined;
  const parsed = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
  if (!(parsed >= least && parsed <= most)) throw badValue(flag, value, `number from ${least} to ${most}`);
  return parsed;
}

/** A command name goes on the wire as it is: no blanks, nothing invisible. */
function commandName(flag: string, value: string | undefined): string | undefined {
  if (value !== undefined && !/^[!-~]{1,64}$/.test(value)) throw badValue(flag, value, 'command name');
  return value;
}

function listenOptions(raw: RawOptions): ListenOptions {
  const { host, port } = raw.listen === undefined ? { host: null, port: 0 } : parseListen(raw.listen);
  const advertise = raw.advertise === undefined ? null : parseHost(raw.advertise, '--advertise');
  if (advertise === null && (host === '0.0.0.0' || host === '::')) {
    throw new UsageError(`--listen ${host} means every address: the target must be told one`, {
      code: 'listen-any',
      hint: 'give --advertise HOST as well, or leave --listen out',
    });
  }
  return { host, port, advertise };
}

/** An empty one is a variable that was not set: rather no cutover than one without its hook. */
function shellCommand(flag: string, value: string | undefined): string | undefined {
  if (value !== undefined && value.trim() === '') throw badValue(flag, value, 'shell command');
  return value;
}

/** `redis-cutover-run-<YYYYMMDD>-<HHMMSS>` in local time. */
function defaultRunDir(around: Surroundings): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const { now } = around;
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  return join(around.cwd, `redis-cutover-run-${date}-${time}`);
}
