/** Hooks: what they are told, what they may say, and every way in which they can end. Runs /bin/sh. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { TargetError } from '../../../src/core/errors.ts';
import { type HookFacts, type HookOptions, runHook } from '../../../src/migrate/hooks.ts';
import { until } from '../../helpers/wait.ts';

const FACTS: HookFacts = {
  event: 'cutover',
  pair: 'orders',
  source: { host: '::1', port: 6379 },
  target: { host: '10.0.0.2', port: 6380 },
  feed: 'write',
  runDir: '/var/run dir',
};

/** Lines that the hook printed; limits as given. */
async function lines(command: string, options: Partial<HookOptions> = {}): Promise<string[]> {
  const printed: string[] = [];
  await runHook(command, FACTS, {
    timeoutMs: 60_000,
    signal: new AbortController().signal,
    onLine: (line) => printed.push(line),
    ...options,
  });
  return printed;
}

function hasCode(code: string, message = /./): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof TargetError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'redis-cutover-hook-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** True while the process runs; a zombie does not. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

it('is told the facts', async () => {
  const printed = await lines('env | grep -E "^REDIS_CUTOVER" | sort; [ -n "$PATH" ] && echo path');
  assert.deepEqual(printed, [
    'REDIS_CUTOVER_EVENT=cutover',
    'REDIS_CUTOVER_FEED=write',
    'REDIS_CUTOVER_PAIR=orders',
    'REDIS_CUTOVER_RUN_DIR=/var/run dir',
    'REDIS_CUTOVER_SOURCE=[::1]:6379',
    'REDIS_CUTOVER_SOURCE_HOST=::1',
    'REDIS_CUTOVER_SOURCE_PORT=6379',
    'REDIS_CUTOVER_TARGET=10.0.0.2:6380',
    'REDIS_CUTOVER_TARGET_HOST=10.0.0.2',
    'REDIS_CUTOVER_TARGET_PORT=6380',
    'path',
  ]);
});

it('shows both outputs line by line, made harmless', async () => {
  assert.deepEqual((await lines('echo one; echo two >&2; printf "three\\r\\nfour"')).sort(), [
    'four',
    'one',
    'three',
    'two',
  ]);
  assert.deepEqual(await lines("printf '\\033[31mred\\n'"), ['\\x1b[31mred']);
  assert.deepEqual(await lines('cat'), [], 'stdin is empty');
});

it('bounds the length and the number of lines, and reads on', async () => {
  const [longest] = await lines('head -c 300000 /dev/zero | tr "\\0" x');
  assert.ok(longest !== undefined && longest.length < 1100);
  const many = await lines('seq 1 100000');
  assert.equal(many.length, 201);
  assert.equal(many[199], '200');
  assert.match(many[200] ?? '', /more than 200 lines/);
});

it('another exit code vetoes, and so does a signal or a command that is not there', async () => {
  await assert.rejects(lines('echo no; exit 3'), hasCode('hook-vetoed', /^the hook "cutover".* 3$/));
  await assert.rejects(lines('kill -TERM $$'), hasCode('hook-vetoed', /SIGTERM$/));
  await assert.rejects(lines('/no/such/command'), hasCode('hook-vetoed', /127$/));
  await assert.rejects(lines('true\0'), hasCode('hook-vetoed', /could not be started/));
});

it('does not name the command, which may hold a password', async () => {
  await assert.rejects(lines('false S3cretCanary'), (error: unknown) => {
    assert.ok(error instanceof TargetError);
    assert.doesNotMatch(`${error.message} ${error.hint} ${error.stack}`, /Canary/);
    return true;
  });
});

it('the time limit kills it', async () => {
  const limited = lines('sleep 600; true', { timeoutMs: 300 });
  await assert.rejects(limited, hasCode('hook-timeout', /^the hook "cutover" took longer than 0.3 s/));
});

it('calling off kills the whole group and throws the reason', async (t) => {
  const file = join(folder(t), 'pid');
  const controller = new AbortController();
  const reason = new Error('called off');
  const command = `sleep 600 & echo $! > '${file}.new'; mv '${file}.new' '${file}'; wait`;
  const running = assert.rejects(lines(command, { signal: controller.signal }), (error) => error === reason);
  await until(() => existsSync(file));
  controller.abort(reason);
  await running;
  const pid = Number(readFileSync(file, 'utf8'));
  await until(() => !runs(pid), { what: 'the child to end' });
  await assert.rejects(lines('true', { signal: controller.signal }), (error) => error === reason);
});

it('a child that is left behind with our pipes does not hold us, and lives on', async (t) => {
  const file = join(folder(t), 'pid');
  const printed = await lines(`sleep 600 & echo $! > '${file}'; echo done`);
  const pid = Number(readFileSync(file, 'utf8'));
  t.after(() => process.kill(pid));
  assert.deepEqual(printed, ['done']);
  assert.ok(runs(pid));
});
