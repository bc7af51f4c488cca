/** The table of options: values, defaults, conflicts; and the README shows this table. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  optionsFor,
  type RawOptions,
  renderOptionsTable,
  resolveFormerOptions,
  resolvePairOptions,
  resolveRunOptions,
  resolveVerifyOptions,
  type Surroundings,
} from '../../../src/cli/options.ts';
import { resolvePairs } from '../../../src/cli/pairs.ts';
import { UsageError } from '../../../src/core/errors.ts';
import type { RunFile } from '../../../src/migrate/run-folder.ts';

const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-options-'));
after(() => rmSync(folder, { recursive: true }));

function around(changes: Partial<Surroundings> = {}): Surroundings {
  return {
    env: {},
    cwd: '/home/op',
    now: new Date(2026, 0, 9, 3, 4, 5),
    terminal: false,
    readStdin: async () => '',
    askPassword: null,
    warn: () => assert.fail('no warning expected'),
    ...changes,
  };
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

test('defaults', () => {
  assert.deepEqual(resolveRunOptions({}, around()), {
    feed: 'auto',
    cutover: 'never',
    stopAtInSync: false,
    cutoverTimeoutMs: 10_000,
    sourceFence: true,
    reverse: true,
    hooks: {},
    listen: { host: null, port: 0, advertise: null },
    flushTarget: false,
    allowNonempty: false,
    allowLoss: false,
    skipUnknown: false,
    assumeYes: false,
    fleet: { parallelCopies: 4, workers: null, maxFailures: null, canaryMs: null },
    runDir: '/home/op/redis-cutover-run-20260109-030405',
    commandNames: { psync: 'PSYNC', sync: 'SYNC', replconf: 'REPLCONF' },
    throttle: { keysPerSecond: null, bytesPerSecond: null },
    forwardPublish: false,
    keepSnapshot: false,
    tuneSource: [],
    spoolMemoryBytes: 8 * 1024 * 1024,
    resumes: null,
    spoolLimitBytes: Number.POSITIVE_INFINITY,
  });
});

test('limits: for a run, a pair, and anew behind a resume', () => {
  const raw = { throttleKeys: '500', throttleMb: '2' };
  const both = { keysPerSecond: 500, bytesPerSecond: 2 * 1024 * 1024 };
  assert.deepEqual(resolveRunOptions(raw, around()).throttle, both);
  const ofPair = resolvePairOptions(new Map([['throttle-mb', '0.5']]), raw, around());
  assert.deepEqual(ofPair, { throttle: { keysPerSecond: 500, bytesPerSecond: 512 * 1024 } });
  const run = { runId: 'r', options: resolveRunOptions(raw, around()), pairs: [] } as unknown as RunFile;
  assert.deepEqual(resolveFormerOptions(run, '/run', {}, around()).throttle, both);
  const anew = resolveFormerOptions(run, '/run', { throttleMb: '1' }, around()).throttle;
  assert.deepEqual(anew, { keysPerSecond: null, bytesPerSecond: 1024 * 1024 });
  for (const bad of [{ throttleKeys: '0' }, { throttleMb: '0.001' }, { throttleMb: '-1' }]) {
    assert.throws(() => resolveRunOptions(bad, around()), { code: 'bad-value' });
  }
});

test('verify: a full comparison, or what is asked for', () => {
  const standard = resolveVerifyOptions({});
  assert.deepEqual(standard, {
    mode: 'full',
    sampleKeys: 10_000,
    ttlToleranceMs: 1000,
    rounds: 5,
    lastRoundMs: 1600,
    repair: 'none',
    maxLatencyMs: 50,
  });
  assert.deepEqual(
    resolveVerifyOptions({ sample: '50', ttlTolerance: '0', rounds: '0', maxLatencyMs: '5', repair: true }),
    {
      ...standard,
      mode: 'sample',
      sampleKeys: 50,
      ttlToleranceMs: 0,
      rounds: 0,
      maxLatencyMs: 5,
      repair: 'differing',
    },
  );
  assert.equal(resolveVerifyOptions({ repairExtra: true }).repair, 'all');
});

test('cutover asks on a terminal only, and with --json only when told to', () => {
  const terminal = around({ terminal: true });
  assert.equal(resolveRunOptions({}, terminal).cutover, 'ask');
  assert.equal(resolveRunOptions({ json: true }, terminal).cutover, 'never');
  assert.equal(resolveRunOptions({ json: true, cutover: 'ask' }, terminal).cutover, 'ask');
  assert.equal(resolveRunOptions({ cutover: 'auto' }, around()).cutover, 'auto');
  assert.throws(
    () => resolveRunOptions({ cutover: 'ask' }, around()),
    (error) => error instanceof UsageError && error.code === 'no-terminal',
  );
});

test('given values', () => {
  const options = resolveRunOptions(
    {
      feed: 'attach',
      stopAt: 'in-sync',
      cutoverTimeout: '2.5',
      sourceFence: false,
      reverse: false,
      beforeCutover: './ready.sh "$REDIS_CUTOVER_PAIR"',
      onCutover: 'dns.sh',
      onStart: 'start.sh',
      onInSync: 'in-sync.sh',
      onRollback: 'rollback.sh',
      onFailure: 'failure.sh',
      listen: '[::1]:7000',
      advertise: 'Here.example.com',
      flushTarget: true,
      runDir: 'run',
      psyncCommand: 'aws_psync',
      spoolMemory: '1',
      spoolLimit: '2',
    },
    around(),
  );
  assert.equal(options.feed, 'attach');
  assert.equal(options.reverse, false);
  assert.deepEqual(options.hooks, {
    start: 'start.sh',
    'in-sync': 'in-sync.sh',
    before: './ready.sh "$REDIS_CUTOVER_PAIR"',
    cutover: 'dns.sh',
    rollback: 'rollback.sh',
    failure: 'failure.sh',
  });
  assert.deepEqual(options.listen, { host: '::1', port: 7000, advertise: 'here.example.com' });
  assert.equal(options.stopAtInSync, true);
  assert.equal(options.cutoverTimeoutMs, 2500);
  assert.equal(options.sourceFence, false);
  assert.equal(options.flushTarget, true);
  assert.equal(options.runDir, '/home/op/run');
  assert.equal(options.commandNames.psync, 'aws_psync');
  assert.equal(options.spoolMemoryBytes, 1_048_576);
  assert.equal(options.spoolLimitBytes, 2_097_152);
});

test('resume: the options of the run, with those that are given anew', () => {
  const former = resolveRunOptions(
    {
      cutoverTimeout: '3',
      spoolMemory: '2',
      flushTarget: true,
      keepSnapshot: true,
      psyncCommand: 'aws_psync',
      cutover: 'never',
    },
    around(),
  );
  const run = {
    runId: 'f00',
    startedAt: '2026-01-09T03:04:05.000Z',
    pairs: [],
    options: { ...former, spoolLimitBytes: null },
  };
  const resumed = resolveFormerOptions(
    run,
    '/run',
    { cutover: 'auto', cutoverTimeout: '30', allowLoss: true },
    around(),
  );
  assert.equal(resumed.keepSnapshot, true);
  assert.deepEqual(resumed, {
    ...former,
    cutover: 'auto',
    cutoverTimeoutMs: 30_000,
    allowLoss: true,
    flushTarget: false,
    runDir: '/run',
    resumes: 'f00',
  });
  const given = { spoolMemory: '4', spoolLimit: '5', sourceFence: false };
  const changed = resolveFormerOptions(run, '/run', given, around());
  assert.deepEqual(
    [changed.spoolMemoryBytes, changed.spoolLimitBytes, changed.sourceFence],
    [4_194_304, 5_242_880, false],
  );
});

test('settings of the source: by name, all, or none; of a pair, and anew with resume', () => {
  const named = (tuneSource: string) => resolveRunOptions({ tuneSource }, around()).tuneSource;
  assert.deepEqual(named('compression, output-buffer'), ['output-buffer', 'compression']);
  assert.deepEqual(named('all'), ['output-buffer', 'backlog', 'compression']);
  assert.deepEqual(named('none'), []);
  assert.throws(() => named('maxmemory'), { code: 'bad-value', message: /--tune-source "maxmemory"/ });
  assert.throws(() => named(''), { code: 'bad-value' });
  const ofPair = resolvePairOptions(new Map([['tune-source', 'none']]), { tuneSource: 'all' }, around());
  assert.deepEqual(ofPair, { tuneSource: [] });
  const former = resolveRunOptions({ tuneSource: 'all' }, around());
  const run = { runId: 'f', startedAt: '', pairs: [], options: { ...former, spoolLimitBytes: null } };
  assert.deepEqual(resolveFormerOptions(run, '/run', {}, around()).tuneSource, former.tuneSource);
  assert.deepEqual(resolveFormerOptions(run, '/run', { tuneSource: 'none' }, around()).tuneSource, []);
});

test('resume: hooks, listen and the way back of the run, unless they are given anew', () => {
  const former = resolveRunOptions({ onCutover: 'dns.sh', listen: 'h:7000', advertise: 'there' }, around());
  const run = {
    runId: 'f00',
    startedAt: '2026-01-09T03:04:05.000Z',
    pairs: [],
    options: { ...former, spoolLimitBytes: null },
  };
  const resumed = (raw: RawOptions) => resolveFormerOptions(run, '/run', raw, around());
  assert.deepEqual(resumed({}), { ...former, runDir: '/run', resumes: 'f00' });
  const changed = resumed({ beforeCutover: 'ready.sh', listen: ':0', reverse: false });
  assert.deepEqual(changed.hooks, { before: 'ready.sh', cutover: 'dns.sh' });
  assert.deepEqual(changed.listen, { host: null, port: 0, advertise: 'there' });
  assert.equal(changed.reverse, false);
  assert.equal(resumed({ advertise: 'elsewhere' }).listen.advertise, 'elsewhere');
});

test('--listen: host and port, one of them, or a free port', () => {
  const cases: [string, string | null, number][] = [
    ['10.0.0.1:7000', '10.0.0.1', 7000],
    ['host', 'host', 0],
    ['host:0', 'host', 0],
    [':7000', null, 7000],
    ['[::1]', '::1', 0],
    ['[fe80::1]:7000', 'fe80::1', 7000],
  ];
  for (const [listen, host, port] of cases) {
    assert.deepEqual(resolveRunOptions({ listen }, around()).listen, { host, port, advertise: null }, listen);
  }
  const any = resolveRunOptions({ listen: '0.0.0.0', advertise: '[::1]' }, around());
  assert.deepEqual(any.listen, { host: '0.0.0.0', port: 0, advertise: '::1' });
});

test('several pairs cannot share one port to listen on', async () => {
  const pairs = { src: ['a', 'b'], dst: ['x', 'y'] };
  await assert.rejects(
    resolvePairs({ ...pairs, listen: 'h:7000' }, around()),
    (error) => error instanceof UsageError && error.code === 'listen-shared' && error.hint !== '',
  );
  assert.equal((await resolvePairs({ ...pairs, listen: 'h:0' }, around())).length, 2);
  assert.equal((await resolvePairs({ src: ['a'], dst: ['x'], listen: 'h:7000' }, around())).length, 1);
});

test('a bad value is named together with its flag', () => {
  const cases: [RawOptions, RegExp][] = [
    [{ feed: 'both' }, /--feed "both"/],
    [{ cutover: 'yes' }, /--cutover "yes"/],
    [{ stopAt: 'snapshot' }, /--stop-at "snapshot"/],
    [{ cutoverTimeout: '0' }, /--cutover-timeout "0" is no number/],
    [{ cutoverTimeout: '1e3' }, /--cutover-timeout "1e3"/],
    [{ cutoverTimeout: '-1' }, /--cutover-timeout "-1"/],
    [{ spoolMemory: 'NaN' }, /--spool-memory "NaN"/],
    [{ spoolLimit: '' }, /--spool-limit ""/],
    [{ psyncCommand: 'a b' }, /--psync-command "a b"/],
    [{ replconfCommand: 'x\r\nFLUSHALL' }, /--replconf-command "x\\r\\nFLUSHALL"/],
    [{ flushTarget: true, allowNonempty: true }, /--flush-target and --allow-nonempty/],
    [{ listen: '' }, /--listen "" is no address/],
    [{ listen: 'h:70000' }, /--listen "h:70000" is no address/],
    [{ listen: '::1:7000' }, /--listen "::1:7000" is no address/],
    [{ listen: '[h]:7000' }, /--listen "\[h\]" is no host name/],
    [{ listen: 'a b' }, /--listen "a b" is no host name/],
    [{ listen: '0.0.0.0:7000' }, /--listen 0\.0\.0\.0 means every address/],
    [{ advertise: 'h:1' }, /--advertise "h:1" is no host name/],
    [{ advertise: 'redis://h' }, /--advertise "redis:\/\/h" is no host name/],
    [{ advertise: '[1.2.3.4]' }, /--advertise "\[1\.2\.3\.4\]" is no host name/],
    [{ beforeCutover: ' ' }, /--before-cutover " " is no shell command/],
    [{ onCutover: '' }, /--on-cutover "" is no shell command/],
    [{ onFailure: ' ' }, /--on-failure " " is no shell command/],
  ];
  for (const [raw, message] of cases) {
    assert.throws(
      () => resolveRunOptions(raw, around()),
      (error) => error instanceof UsageError && message.test(error.message) && error.hint !== '',
      String(message),
    );
  }
});

test('pairs from --src and --dst, in order, with the passwords of their side', async () => {
  const pairs = await resolvePairs(
    { src: ['a', 'b:1'], dst: ['redis://:own@x', 'y'], srcAuthEnv: 'S', dstAuthEnv: 'D' },
    around({ env: { S: 'source-secret', D: 'target-secret' } }),
  );
  assert.deepEqual(
    pairs.map((pair) => [
      pair.name,
      pair.source.host,
      pair.source.password?.reveal(),
      pair.target.host,
      pair.target.password?.reveal(),
    ]),
    [
      ['a:6379', 'a', 'source-secret', 'x', 'own'],
      ['b:1', 'b', 'source-secret', 'y', 'target-secret'],
    ],
  );
});

test('pairs from a host list, a file or stdin', async () => {
  const hosts = file('hosts', 'a x one\n');
  assert.equal((await resolvePairs({ hosts }, around()))[0]?.name, 'one');
  const stdin = around({ readStdin: async () => 'a x two\n' });
  assert.equal((await resolvePairs({ hosts: '-' }, stdin))[0]?.name, 'two');
});

test('TLS settings go to the rediss:// servers only', async () => {
  const raw = { src: ['rediss://a'], dst: ['x'], cacert: file('ca', 'CA'), sni: 'name' };
  const [pair] = await resolvePairs(raw, around());
  assert.equal(pair?.source.tls?.ca?.toString(), 'CA');
  assert.equal(pair?.source.tls?.sni, 'name');
  assert.equal(pair?.source.tls?.insecure, false);
  assert.equal(pair?.target.tls, null);
});

test('servers, passwords and TLS files that cannot be used', async () => {
  const pair = { src: ['a'], dst: ['x'] };
  const cases: [RawOptions, string][] = [
    [{}, 'no-servers'],
    [{ src: ['a'] }, 'no-servers'],
    [{ src: ['a', 'b'], dst: ['x'] }, 'unequal-lists'],
    [{ ...pair, hosts: 'f' }, 'two-lists'],
    [{ hosts: join(folder, 'none') }, 'unreadable-file'],
    [{ src: ['a', 'b'], dst: ['x', 'x'] }, 'host-list'],
    [{ src: ['a'], dst: ['A:6379'] }, 'host-list'],
    [{ ...pair, srcAuthEnv: 'UNSET' }, 'auth-env'],
    [{ ...pair, authFile: join(folder, 'none') }, 'auth-file'],
    [{ ...pair, insecure: true }, 'tls-unused'],
    [{ src: ['rediss://a'], dst: ['x'], cert: file('cert', '') }, 'tls-files'],
    [{ src: ['rediss://a'], dst: ['x'], cacert: join(folder, 'none') }, 'unreadable-file'],
  ];
  for (const [raw, code] of cases) {
    await assert.rejects(
      resolvePairs(raw, around()),
      (error) => error instanceof UsageError && error.code === code && error.hint !== '',
      JSON.stringify(raw),
    );
  }
});

test('each flag stands once in a command', () => {
  for (const command of ['migrate', 'check', 'verify', 'resume', 'demo'] as const) {
    const names = optionsFor(command).map((option) => option.attributeName());
    assert.equal(new Set(names).size, names.length);
    assert.ok(names.includes('json'));
  }
});

// After a change to the table: UPDATE_README=1 node --import tsx --test test/unit/cli/options.test.ts
test('the README holds the current table of options', () => {
  const path = new URL('../../../README.md', import.meta.url);
  const readme = readFileSync(path, 'utf8');
  const between = /(?<=<!-- options -->\n).*(?=\n<!-- \/options -->)/s;
  if (process.env['UPDATE_README'] === '1') {
    writeFileSync(
      path,
      readme.replace(between, () => renderOptionsTable()),
    );
  }
  assert.equal(between.exec(readme)?.[0], renderOptionsTable(), 'run this test once with UPDATE_README=1');
});
