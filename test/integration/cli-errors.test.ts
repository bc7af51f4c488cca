/** Bad input to the real program: exit 2, one error with a hint, never a password. Needs no server. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).href;
// bin/redis-cutover.js over the sources, so that the test never runs against a stale build
const SHIM = `process.exitCode = await (await import(${JSON.stringify(MAIN)})).main(process.argv.slice(1));`;
const CANARY = 'cAnArY-7f3a';

const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-cli-'));
after(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], input = '', env: Record<string, string> = {}): Outcome {
  const node = ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', SHIM, '--', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, node, {
    cwd: folder,
    encoding: 'utf8',
    input,
    env: { ...process.env, REDISCLI_AUTH: CANARY, ...env },
  });
  assert.doesNotMatch(stdout + stderr, new RegExp(CANARY), 'a password was shown');
  return { status, stdout, stderr };
}

function hostsFile(text: string): string {
  const path = join(folder, 'hosts.txt');
  writeFileSync(path, text);
  return path;
}

function assertUsage(outcome: Outcome, message: RegExp): void {
  assert.equal(outcome.status, 2, outcome.stderr);
  assert.equal(outcome.stdout, '');
  assert.match(outcome.stderr, message);
  assert.match(outcome.stderr, /^error: .+\n(error: .+\n)*hint: .+\n$/);
}

test('bad input exits 2 with an error and a hint', () => {
  const uri = `redis://app:${CANARY}@old`;
  const cases: [string[], RegExp][] = [
    [[], /no command is given/],
    [[uri], /unknown command/],
    [['migrate', '--fed', 'write'], /unknown option '--fed' \(Did you mean --feed\?\)/],
    [['migrate', `--password=${CANARY}`], /unknown option '--password'/],
    [['migrate', `--password=a'\n\u2028${CANARY}`], /unknown option '--password'/],
    [['migrate', `-a'${CANARY}`], /unknown option '-a'/],
    [['migrate', `-a${CANARY}`], /unknown option '-a'/],
    [['migrate', '--src', uri, '--dst'], /'--dst <uri...>' argument missing/],
    [['migrate', '--dst', uri], /--src is missing/],
    [
      ['migrate', '--src', `redis://:${CANARY}@`, '--dst', 'new'],
      /--src redis:\/\/\*\*\*@: the host is missing/,
    ],
    [['migrate', '--src', uri, '--dst', 'a', 'b'], /--src names 1 and --dst 2/],
    [['check', '--src', uri, '--dst', `redis://:${CANARY}@new/4`], /a single database/],
    [['migrate', '--src', uri, '--dst', 'new', '--cutover', 'ask'], /--cutover ask needs a terminal/],
    [['migrate', '--src', uri, '--dst', 'new', '--cutover-timeout', 'soon'], /--cutover-timeout "soon"/],
    [['verify', '--src', uri, '--dst', 'OLD:6379'], /the same server/],
    [['verify', '--src', uri, '--dst', 'new', '--mode', 'quick'], /--mode "quick" is unknown/],
    [['verify', '--src', uri, '--dst', 'new', '--mode', 'full', '--sample', '5'], /--sample has no effect/],
    [['verify', '--src', uri, '--dst', 'new', '--mode', 'count', '--repair'], /--repair has no effect/],
    [['verify', '--src', uri, '--dst', 'new', '--rounds', '-1'], /--rounds "-1" is no number/],
    [['demo', '--keys', '5'], /--keys "5" is no number from 1000/],
    [['resume'], /missing required argument 'run-dir'/],
  ];
  for (const [args, message] of cases) assertUsage(run(args), message);
});

test('host lists are refused as a whole, with line numbers', () => {
  const malformed = hostsFile(
    `old-1 new-1\nold-2\nredis://:${CANARY}@ new-3\nredis://:${CANARY}@old-4/2 new-1\n`,
  );
  const outcome = run(['migrate', '--hosts', malformed]);
  assertUsage(outcome, /hosts\.txt:2: /);
  assert.match(outcome.stderr, /hosts\.txt:3: source redis:\/\/\*\*\*@: the host is missing/);
  assert.match(outcome.stderr, /hosts\.txt:4: source .* a single database/);
  assertUsage(run(['migrate', '--hosts', hostsFile('# nobody\n')]), /no pair in the list/);
  assertUsage(run(['migrate', '--hosts', '-'], 'old\n'), /stdin:1: /);
  assertUsage(run(['migrate', '--hosts', join(folder, 'none')]), /--hosts .*none cannot be read/);
});

test('--json: an error event and a summary on stdout, also where the options cannot be parsed', () => {
  for (const bad of [['--nonsense'], ['--src', `redis://:${CANARY}@`, '--dst', 'new']]) {
    const { status, stdout, stderr } = run(['migrate', '--json', ...bad]);
    assert.equal(status, 2);
    assert.match(stderr, /^error: /);
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line): Record<string, unknown> => JSON.parse(line));
    assert.deepEqual(
      events.map((event) => event['event']),
      ['error', 'summary'],
    );
    assert.deepEqual(Object.keys(events[0] ?? {}), ['ts', 'event', 'code', 'message', 'hint', 'recovery']);
    assert.deepEqual(
      [events[1]?.['outcome'], events[1]?.['exitCode'], events[1]?.['pairs']],
      ['usage', 2, []],
    );
  }
});

test('--json: one error event for each fault of a host list', () => {
  const { status, stdout } = run(['migrate', '--json', '--hosts', '-'], 'a\nb b\nc d e f g\n');
  assert.equal(status, 2);
  const events = stdout
    .trimEnd()
    .split('\n')
    .map((line): Record<string, unknown> => JSON.parse(line));
  assert.deepEqual(
    events.map(({ event, message }) => [event, /^stdin:\d+/.exec(String(message))?.[0]]),
    [
      ['error', 'stdin:1'],
      ['error', 'stdin:3'],
      ['error', 'stdin:2'],
      ['summary', undefined],
    ],
  );
});

test('completion prints a script, and refuses another shell', () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { status, stdout, stderr } = run(['completion', shell]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /--flush-target|-l flush-target/);
  }
  assertUsage(run(['completion', CANARY]), /there is no completion for that shell/);
  assertUsage(run(['completion']), /missing required argument 'shell'/);
});

test('help and version exit 0 on stdout', () => {
  const help = run(['migrate', '--help']);
  assert.equal(help.status, 0);
  assert.match(help.stdout, /--cutover <mode>/);
  assert.equal(help.stderr, '');
  for (const command of ['migrate', 'check', 'verify', 'resume', 'demo', 'completion']) {
    const { status, stdout } = run([command, '--help']);
    assert.equal(status, 0);
    assert.match(stdout, new RegExp(`^Examples?:\\n(  .*\\n)*  .*redis-cutover ${command}`, 'm'));
  }
  assert.match(run(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('no run folder is made for a command that was refused', () => {
  const before = readdirSync(folder);
  run(['migrate', '--src', 'old', '--dst', 'old']);
  assert.deepEqual(readdirSync(folder), before);
});
