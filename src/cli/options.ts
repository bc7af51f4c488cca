/**
 * The one table of options. Commander's options, `--help` and the table in the README are made from it; the
 * values are checked and turned into `RunOptions` here, each message naming the flag and the value.
 */
import { join, resolve } from 'node:path';
import { Option } from 'commander';
import type { Secret } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import {
  type FleetOptions,
  type HookEvent,
  type Hooks,
  type ListenOptions,
  type PairOptions,
  type RunOptions,
  SOURCE_TUNINGS,
  type SourceTuningName,
  STANDARD_VERIFY,
  type VerifyOptions,
} from '../core/options.ts';
import { printable } from '../core/text.ts';
import { isThrottled, LEAST_MB, MEGABYTE, MOST_KEYS, MOST_MB, type Throttle } from '../core/throttle.ts';
import type { RunFile } from '../migrate/run-folder.ts';
import { parseHost, parseListen } from './uri.ts';

export type CommandName =
  | 'migrate'
  | 'check'
  | 'verify'
  | 'resume'
  | 'status'
  | 'cutover'
  | 'pause'
  | 'throttle'
  | 'demo'
  | 'completion';

/** One of these words, or a path. */
export type ValueKind = readonly string[] | 'file' | 'folder';

export interface OptionSpec {
  /** As commander writes it: `--feed <mode>`, `--src <uri...>`, `--json`. */
  readonly flags: string;
  readonly help: string;
  /** The default, in words; commander holds none, so that "not given" can be told from the default. */
  readonly standard?: string;
  /** Environment variable that is read where the flag is not given. */
  readonly env?: string;
  /** What its value can be, for completion; left out: anything. */
  readonly values?: ValueKind;
  /** A pair of a host list may have its own: the column has the flag's name, and this is what it sets. */
  readonly ofPair?: keyof PairOptions;
  readonly group: string;
  readonly commands: readonly CommandName[];
}

const WITH_PAIRS = ['migrate', 'check', 'verify'] as const;
const WITH_SERVERS = ['migrate', 'check', 'verify', 'resume'] as const;
const WITH_PREFLIGHT = ['migrate', 'check'] as const;
const WITH_CUTOVER = ['migrate', 'resume'] as const;
const WITH_SESSION = ['status', 'cutover', 'pause', 'throttle'] as const;
const WITH_LISTEN = ['migrate', 'check', 'resume'] as const;

const FEEDS = ['auto', 'attach', 'write'] as const;
const CUTOVERS = ['ask', 'auto', 'never'] as const;
const STOPS = ['in-sync'] as const;
const TUNINGS = [...SOURCE_TUNINGS, 'all', 'none'] as const;
const VERIFY_MODES = ['count', 'sample', 'full'] as const;

export const OPTIONS: readonly OptionSpec[] = [
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
    help: 'a host list instead: CSV, YAML, NDJSON or "source target [name] [wave]" on each line; - reads it from stdin',
    values: 'file',
    group: 'Servers',
    commands: WITH_PAIRS,
  },
  {
    flags: '--feed <mode>',
    help: 'auto, attach (the target becomes our replica) or write (we write to it)',
    standard: 'auto',
    values: FEEDS,
    ofPair: 'feed',
    group: 'Migration',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--flush-target',
    help: 'a target that holds keys is emptied',
    ofPair: 'flushTarget',
    group: 'Migration',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--allow-nonempty',
    help: 'a target that holds keys is accepted; its other keys stay',
    ofPair: 'allowNonempty',
    group: 'Migration',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--allow-loss',
    help: 'leave out what an older target has no place for: expiries of hash fields, functions. Counted and listed',
    ofPair: 'allowLoss',
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
    ofPair: 'forwardPublish',
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
    ofPair: 'keepSnapshot',
    group: 'Migration',
    commands: ['migrate'],
  },
  {
    flags: '--tune-source <names>',
    help: 'set for the run, and put back, what check proposes for the source: output-buffer, backlog, compression, by comma; or all',
    standard: 'none: on a terminal it is asked',
    values: TUNINGS,
    ofPair: 'tuneSource',
    group: 'Migration',
    commands: WITH_LISTEN,
  },
  {
    flags: '--throttle-keys <n>',
    help: 'at most so many keys, then commands, a second go to a target; feed write alone can count them',
    standard: 'as many as it takes',
    ofPair: 'throttle',
    group: 'Migration',
    commands: WITH_LISTEN,
  },
  {
    flags: '--throttle-mb <mb>',
    help: 'at most so many megabytes a second go to a target',
    standard: 'as many as it takes',
    ofPair: 'throttle',
    group: 'Migration',
    commands: WITH_LISTEN,
  },
  {
    flags: '--run-dir <dir>',
    help: 'state, journal, spool and report of the run',
    standard: './redis-cutover-run-<date>-<time>',
    values: 'folder',
    group: 'Migration',
    commands: ['migrate'],
  },
  {
    flags: '--cutover <mode>',
    help: 'ask: prompts. auto: as soon as in sync. never: stay in sync until SIGINT or SIGTERM',
    standard: 'ask on a terminal, else never',
    values: CUTOVERS,
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--stop-at <phase>',
    help: 'in-sync: a rehearsal; exit 0 as soon as every pair is in sync, targets left unpromoted',
    values: STOPS,
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--cutover-timeout <s>',
    help: 'a cutover that drains longer than this is undone, and the pair is in sync again',
    standard: '10',
    ofPair: 'cutoverTimeoutMs',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--no-source-fence',
    help: 'leave the source writable at cutover: writes that come late are lost',
    ofPair: 'sourceFence',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--no-reverse',
    help: 'no way back is kept behind the cutover',
    ofPair: 'reverse',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--on-start <command>',
    help: 'shell command run before anything of a pair is touched; another exit code than 0 fails the pair',
    ofPair: 'hooks',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--on-in-sync <command>',
    help: 'shell command run the first time that a pair is in sync',
    ofPair: 'hooks',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--before-cutover <command>',
    help: 'shell command run before the source is touched; another exit code than 0 calls the cutover off',
    ofPair: 'hooks',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--on-cutover <command>',
    help: 'shell command run as soon as the target takes writes; another exit code than 0 undoes the cutover',
    ofPair: 'hooks',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--on-rollback <command>',
    help: 'shell command run behind a rollback, when the old source takes writes again',
    ofPair: 'hooks',
    group: 'Cutover',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--on-failure <command>',
    help: 'shell command run when a pair that was begun has failed',
    ofPair: 'hooks',
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
    flags: '--max-failures <n>',
    help: 'more failed pairs than this, and no further one is cut over',
    standard: 'any number',
    group: 'Fleet',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--canary <s>',
    help: 'the first pair of a wave is cut over alone, and the others so many seconds later, if it is well',
    standard: 'none',
    group: 'Fleet',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--parallel <n>',
    help: "full copies at the same time; never two from one source's host",
    standard: '4',
    group: 'Fleet',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--workers <n>',
    help: 'worker processes for the pairs; 0: none',
    standard: 'one a core; none for a single pair off a terminal',
    group: 'Fleet',
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
    values: 'file',
    group: 'Passwords',
    commands: WITH_SERVERS,
  },
  {
    flags: '--askpass',
    help: 'ask for the passwords on the terminal, unseen: one for the sources, one for the targets that have no other',
    group: 'Passwords',
    commands: WITH_SERVERS,
  },
  {
    flags: '--cacert <file>',
    help: 'CA certificates (PEM) to verify servers with',
    standard: "the system's",
    values: 'file',
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--cert <file>',
    help: 'client certificate (PEM)',
    values: 'file',
    group: 'TLS (rediss://, both sides)',
    commands: WITH_SERVERS,
  },
  {
    flags: '--key <file>',
    help: 'private key of the client certificate (PEM)',
    values: 'file',
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
    ofPair: 'listen',
    group: 'Replication',
    commands: WITH_LISTEN,
  },
  {
    flags: '--advertise <host>',
    help: 'attach: the address under which the target finds us, where it is another than we listen on',
    ofPair: 'listen',
    group: 'Replication',
    commands: WITH_LISTEN,
  },
  {
    flags: '--psync-command <name>',
    help: 'name of PSYNC on the source, where it was renamed',
    standard: 'PSYNC',
    ofPair: 'commandNames',
    group: 'Replication',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--sync-command <name>',
    help: 'name of SYNC on the source',
    standard: 'SYNC',
    ofPair: 'commandNames',
    group: 'Replication',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--replconf-command <name>',
    help: 'name of REPLCONF on the source',
    standard: 'REPLCONF',
    ofPair: 'commandNames',
    group: 'Replication',
    commands: WITH_PREFLIGHT,
  },
  {
    flags: '--mode <mode>',
    help: 'count (numbers of keys), sample (keys taken at random, from both sides) or full (every key)',
    standard: 'full',
    values: VERIFY_MODES,
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--sample <n>',
    help: 'how many keys a sample takes from each side; means --mode sample',
    standard: '10000',
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--ttl-tolerance <ms>',
    help: 'expiries may differ by this much',
    standard: '1000',
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--rounds <n>',
    help: 'how often a key that differs is looked at again, within about three seconds; 0: for servers at rest',
    standard: '5',
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--max-latency-ms <ms>',
    help: 'where a server answers slower than this, both are read more slowly',
    standard: '50',
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--mismatches <file>',
    help: 'a new file for the keys that differ: NDJSON, never a value',
    values: 'file',
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--repair',
    help: "write the source's values over what differs on the target. Refused while a run feeds the target",
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--repair-extra',
    help: 'the same, and delete the keys that only the target has',
    group: 'Verify',
    commands: ['verify'],
  },
  {
    flags: '--pair <name...>',
    help: 'these pairs of the session alone',
    standard: 'all',
    group: 'Another terminal',
    commands: WITH_SESSION,
  },
  {
    flags: '--wave <name>',
    help: 'the pairs of this wave alone',
    standard: 'all',
    group: 'Another terminal',
    commands: WITH_SESSION,
  },
  {
    flags: '--confirm <words>',
    help: "what would have to be typed on a terminal: the pair's name, wave NAME, or cut over N for N pairs",
    group: 'Another terminal',
    commands: ['cutover'],
  },
  {
    flags: '--off',
    help: 'undo it: what was paused goes on, what was throttled goes as fast as the target takes it',
    group: 'Another terminal',
    commands: ['pause', 'throttle'],
  },
  {
    flags: '--keys <n>',
    help: 'at most so many keys, then commands, a second; feed write alone can count them',
    group: 'Another terminal',
    commands: ['throttle'],
  },
  {
    flags: '--mb <mb>',
    help: 'at most so many megabytes a second',
    group: 'Another terminal',
    commands: ['throttle'],
  },
  {
    flags: '--keys <n>',
    help: 'how many keys the old server holds',
    standard: '200000',
    group: 'Demo',
    commands: ['demo'],
  },
  {
    flags: '--log <file>',
    help: 'all events as NDJSON into this file as well, whatever the screen shows; what it holds stays',
    values: 'file',
    group: 'Output',
    commands: ['migrate', 'check', 'verify', 'resume', 'demo'],
  },
  {
    flags: '--report <file>',
    help: 'a new file that tells what was found: HTML, or JSON where its name ends in .json. Runs have theirs in the run folder',
    values: 'file',
    group: 'Output',
    commands: ['check', 'verify'],
  },
  {
    flags: '--metrics <port>',
    help: 'figures for Prometheus at http://127.0.0.1:<port>/metrics, for this machine alone; 0: any free port',
    group: 'Output',
    commands: WITH_CUTOVER,
  },
  {
    flags: '--no-input',
    help: 'never ask, also on a terminal: what would need an answer fails, or is as without a terminal',
    group: 'Output',
    commands: ['migrate', 'check', 'verify', 'resume', 'cutover', 'demo'],
  },
  {
    flags: '--json',
    help: 'NDJSON events on stdout and nothing else there; text for people goes to stderr',
    group: 'Output',
    commands: ['migrate', 'check', 'verify', 'resume', 'status', 'cutover', 'pause', 'throttle', 'demo'],
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
  readonly tuneSource?: string;
  readonly maxFailures?: string;
  readonly canary?: string;
  readonly parallel?: string;
  readonly workers?: string;
  readonly throttleKeys?: string;
  readonly throttleMb?: string;
  readonly runDir?: string;
  readonly cutover?: string;
  readonly stopAt?: string;
  readonly cutoverTimeout?: string;
  /** Commander sets this to true where `--no-source-fence` is not given. */
  readonly sourceFence?: boolean;
  /** As `sourceFence`: true where `--no-reverse` is not given. */
  readonly reverse?: boolean;
  readonly onStart?: string;
  readonly onInSync?: string;
  readonly beforeCutover?: string;
  readonly onCutover?: string;
  readonly onRollback?: string;
  readonly onFailure?: string;
  readonly yes?: true;
  readonly srcAuthEnv?: string;
  readonly dstAuthEnv?: string;
  readonly authFile?: string;
  readonly askpass?: true;
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
  readonly mode?: string;
  readonly sample?: string;
  readonly ttlTolerance?: string;
  readonly rounds?: string;
  readonly maxLatencyMs?: string;
  readonly mismatches?: string;
  readonly repair?: true;
  readonly repairExtra?: true;
  readonly pair?: string[];
  readonly wave?: string;
  readonly confirm?: string;
  readonly off?: true;
  readonly mb?: string;
  readonly keys?: string;
  readonly log?: string;
  readonly report?: string;
  readonly metrics?: string;
  /** As `sourceFence`: true where `--no-input` is not given. */
  readonly input?: boolean;
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
    ...(raw.throttleKeys === undefined && raw.throttleMb === undefined ? {} : { throttle: now.throttle }),
    ...(raw.allowLoss === true ? { allowLoss: true } : {}),
    ...(raw.skipUnknown === true ? { skipUnknown: true } : {}),
    ...(raw.tuneSource === undefined ? {} : { tuneSource: now.tuneSource }),
    ...(raw.sourceFence === false ? { sourceFence: false } : {}),
    ...(raw.reverse === false ? { reverse: false } : {}),
    hooks: { ...hooks, ...now.hooks },
    listen: {
      ...(raw.listen === undefined ? listen : now.listen),
      advertise: now.listen.advertise ?? listen.advertise,
    },
    cutover: now.cutover,
    stopAtInSync: now.stopAtInSync,
    assumeYes: now.assumeYes,
    fleet: now.fleet,
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
  /** Asks a person for a password without showing it; empty: none. null where stdin is no terminal. */
  readonly askPassword: ((question: string) => Promise<Secret>) | null;
  readonly warn: (message: string) => void;
}

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
  const feed = choice('--feed', raw.feed, FEEDS) ?? 'auto';
  const cutover = choice('--cutover', raw.cutover, CUTOVERS);
  if (cutover === 'ask' && raw.input === false) {
    throw new UsageError('--cutover ask and --no-input cannot be given together', {
      code: 'bad-value',
      hint: 'use --cutover auto or --cutover never where nobody is to be asked',
    });
  }
  if (cutover === 'ask' && !around.terminal) {
    throw new UsageError('--cutover ask needs a terminal on stdin and stdout', {
      code: 'no-terminal',
      hint: 'use --cutover auto or --cutover never where nobody can answer',
    });
  }
  return {
    feed,
    cutover: cutover ?? (around.terminal && !raw.json && raw.input !== false ? 'ask' : 'never'),
    stopAtInSync: choice('--stop-at', raw.stopAt, STOPS) !== undefined,
    cutoverTimeoutMs: (number('--cutover-timeout', raw.cutoverTimeout, 0.1, 3600) ?? 10) * 1000,
    sourceFence: raw.sourceFence ?? true,
    reverse: raw.reverse ?? true,
    hooks: resolveHooks(raw),
    listen: listenOptions(raw),
    flushTarget: raw.flushTarget ?? false,
    allowNonempty: raw.allowNonempty ?? false,
    allowLoss: raw.allowLoss ?? false,
    skipUnknown: raw.skipUnknown ?? false,
    assumeYes: raw.yes ?? false,
    fleet: fleetOptions(raw),
    resumes: null,
    runDir: raw.runDir === undefined ? defaultRunDir(around) : resolve(around.cwd, raw.runDir),
    commandNames: {
      psync: commandName('--psync-command', raw.psyncCommand) ?? 'PSYNC',
      sync: commandName('--sync-command', raw.syncCommand) ?? 'SYNC',
      replconf: commandName('--replconf-command', raw.replconfCommand) ?? 'REPLCONF',
    },
    throttle: throttleOf(['--throttle-keys', raw.throttleKeys], ['--throttle-mb', raw.throttleMb]),
    forwardPublish: raw.forwardPublish ?? false,
    keepSnapshot: raw.keepSnapshot ?? false,
    tuneSource: tunings('--tune-source', raw.tuneSource),
    spoolMemoryBytes: Math.round(number('--spool-memory', raw.spoolMemory, 1, 1e6) ?? 8) * MEGABYTE,
    spoolLimitBytes: Math.round(number('--spool-limit', raw.spoolLimit, 1, 1e9) ?? Infinity) * MEGABYTE,
  };
}

type Given = readonly [flag: string, value: string | undefined];

function throttleOf([keysFlag, keys]: Given, [mbFlag, mb]: Given): Throttle {
  const keysPerSecond = number(keysFlag, keys, 1, MOST_KEYS);
  const megabytes = number(mbFlag, mb, LEAST_MB, MOST_MB);
  return {
    keysPerSecond: keysPerSecond === undefined ? null : Math.round(keysPerSecond),
    bytesPerSecond: megabytes === undefined ? null : Math.round(megabytes * MEGABYTE),
  };
}

/**
 * The limits of `throttle`; `--off`: none.
 *
 * @throws UsageError naming the flag; `bad-value` where neither a limit nor `--off` is given, or both are
 */
export function resolveThrottle(raw: RawOptions): Throttle {
  const throttle = throttleOf(['--keys', raw.keys], ['--mb', raw.mb]);
  if (isThrottled(throttle) !== (raw.off === true)) return throttle;
  throw new UsageError(raw.off ? '--off and a limit cannot be given together' : 'no limit is given', {
    code: 'bad-value',
    hint: '--keys N, --mb N, or both; --off lifts the limits',
  });
}

function fleetOptions(raw: RawOptions): FleetOptions {
  const whole = (flag: string, value: string | undefined, least: number, most: number): number | null => {
    const given = number(flag, value, least, most);
    return given === undefined ? null : Math.round(given);
  };
  return {
    parallelCopies: whole('--parallel', raw.parallel, 1, 500) ?? 4,
    workers: whole('--workers', raw.workers, 0, 256),
    maxFailures: whole('--max-failures', raw.maxFailures, 0, 1e6),
    canaryMs: raw.canary === undefined ? null : (number('--canary', raw.canary, 0, 86_400) ?? 0) * 1000,
  };
}

/** Options that a pair of a host list may have of its own: the names of their columns. */
export const PAIR_COLUMNS: readonly string[] = OPTIONS.filter(({ ofPair }) => ofPair !== undefined).map(
  ({ flags }) => longName(flags),
);

/** `--run-dir <dir>` is `run-dir`. */
export function longName(flags: string): string {
  return new Option(flags).long?.slice(2) ?? flags;
}

/**
 * What the columns of a host list ask of one pair, checked as the command line checks it.
 *
 * @param settings texts by the names of columns; flags are `yes` or `no`
 * @param raw what the command line says for all pairs
 * @throws UsageError naming the flag
 */
export function resolvePairOptions(
  settings: ReadonlyMap<string, string>,
  raw: RawOptions,
  around: Surroundings,
): PairOptions {
  const merged: Record<string, unknown> = { ...raw };
  const set = new Set<keyof PairOptions>();
  for (const { flags, ofPair } of OPTIONS) {
    const text = settings.get(longName(flags));
    if (ofPair === undefined || text === undefined) continue;
    const option = new Option(flags);
    merged[option.attributeName()] = option.required ? text : yesOrNo(flags, text) !== option.negate;
    set.add(ofPair);
  }
  const resolved = resolveRunOptions(merged as RawOptions, around);
  return Object.fromEntries([...set].map((key) => [key, resolved[key]]));
}

/**
 * The options of a pair when its run is gone on with: what the command line of `resume` says anew counts for all pairs,
 * and what was to be flushed was decided when the run began.
 */
export function formerPairOptions(former: PairOptions, raw: RawOptions): PairOptions {
  const anew = OPTIONS.filter(({ flags }) => {
    const option = new Option(flags);
    const value = (raw as Record<string, unknown>)[option.attributeName()];
    return value !== undefined && value !== option.negate;
  }).map(({ ofPair }) => ofPair);
  const kept = Object.entries(former).filter(
    ([key]) => key !== 'flushTarget' && !anew.some((ofPair) => ofPair === key),
  );
  const { hooks, listen } = former;
  const elsewhere = raw.listen === undefined && raw.advertise !== undefined;
  return {
    ...Object.fromEntries(kept),
    // one that is given anew takes no other away
    ...(hooks === undefined ? {} : { hooks: { ...hooks, ...resolveHooks(raw) } }),
    ...(listen === undefined || !elsewhere
      ? {}
      : { listen: { ...listen, advertise: parseHost(raw.advertise, '--advertise') } }),
  };
}

function yesOrNo(flags: string, text: string): boolean {
  if (/^(yes|true|1)$/i.test(text)) return true;
  if (/^(no|false|0)$/i.test(text)) return false;
  throw new UsageError(`${flags} "${printable(text, 80)}" must be yes or no`, {
    code: 'bad-value',
    hint: 'write yes or no, or leave the field empty: then the command line counts',
  });
}

/**
 * How `verify` compares.
 *
 * @throws UsageError naming the flag and the value
 */
export function resolveVerifyOptions(raw: RawOptions): VerifyOptions {
  const standardMode = raw.sample === undefined ? STANDARD_VERIFY.mode : 'sample';
  const mode = choice('--mode', raw.mode, VERIFY_MODES) ?? standardMode;
  const repair = raw.repairExtra ? 'all' : raw.repair ? 'differing' : 'none';
  if (raw.sample !== undefined && mode !== 'sample') {
    throw new UsageError(`--sample has no effect with --mode ${mode}`, {
      code: 'bad-value',
      hint: 'leave one of them out',
    });
  }
  if (mode === 'count' && repair !== 'none') {
    throw new UsageError('--repair has no effect with --mode count: it finds no keys', {
      code: 'bad-value',
      hint: 'use --mode full',
    });
  }
  const standard = STANDARD_VERIFY;
  return {
    mode,
    sampleKeys: Math.round(number('--sample', raw.sample, 1, 1e9) ?? standard.sampleKeys),
    ttlToleranceMs: number('--ttl-tolerance', raw.ttlTolerance, 0, 1e9) ?? standard.ttlToleranceMs,
    rounds: Math.round(number('--rounds', raw.rounds, 0, 20) ?? standard.rounds),
    lastRoundMs: standard.lastRoundMs,
    repair,
    maxLatencyMs: number('--max-latency-ms', raw.maxLatencyMs, 1, 60_000) ?? standard.maxLatencyMs,
  };
}

/** `--metrics`: a port, 0 for any free one; null: no metrics. Throws UsageError. */
export function resolveMetricsPort(raw: RawOptions): number | null {
  const port = number('--metrics', raw.metrics, 0, 65_535);
  if (raw.metrics !== undefined && !Number.isInteger(port)) {
    throw badValue('--metrics', raw.metrics, 'port');
  }
  return port ?? null;
}

/** `--keys` of the demo. Below a thousand there are not all types. Throws UsageError. */
export function resolveDemoKeys(raw: RawOptions): number {
  return Math.round(number('--keys', raw.keys, 1_000, 10_000_000) ?? 200_000);
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

/** Several words, or `all`, or `none`. */
function tunings(flag: string, value: string | undefined): readonly SourceTuningName[] {
  if (value === undefined || value === 'none') return [];
  if (value === 'all') return SOURCE_TUNINGS;
  const named = value.split(',').map((word) => choice(flag, word.trim(), SOURCE_TUNINGS));
  return SOURCE_TUNINGS.filter((name) => named.includes(name));
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
function resolveHooks(raw: RawOptions): Hooks {
  const given: readonly (readonly [HookEvent, flag: string, command: string | undefined])[] = [
    ['start', '--on-start', raw.onStart],
    ['in-sync', '--on-in-sync', raw.onInSync],
    ['before', '--before-cutover', raw.beforeCutover],
    ['cutover', '--on-cutover', raw.onCutover],
    ['rollback', '--on-rollback', raw.onRollback],
    ['failure', '--on-failure', raw.onFailure],
  ];
  const hooks: { [event in HookEvent]?: string } = {};
  for (const [event, flag, command] of given) {
    if (command?.trim() === '') throw badValue(flag, command, 'shell command');
    if (command !== undefined) hooks[event] = command;
  }
  return hooks;
}

/** `redis-cutover-run-<YYYYMMDD>-<HHMMSS>` in local time. */
function defaultRunDir(around: Surroundings): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const { now } = around;
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  return join(around.cwd, `redis-cutover-run-${date}-${time}`);
}
