/**
 * The report, the log and the hooks of real runs: what they tell, and that no password is anywhere in them, nor in the
 * environment of a hook. The operator's part needs tmux. Needs redis-server >= 6.0.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DemoServer } from '../../src/demo/server.ts';
import type { RunReport } from '../../src/report/model.ts';
import { RespConnection } from '../../src/resp/connection.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';
import { ask, ends, newRunDir } from '../scenarios/support.ts';
import { inSync } from './migration-scene.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));
const CANARIES = {
  SRC_PASSWORD: 'S3cretCanaryOne',
  DST_PASSWORD: 'S3cretCanaryTwo',
  REDISCLI_AUTH: 'S3cretCanaryThree',
};
const ANY_CANARY = /S3cretCanary/;
/** What a client may call itself: no blanks. */
const CLIENT_NAME = '<img/src=x/onerror=alert(1)>';

async function withPasswords(t: TestContext): Promise<[source: DemoServer, target: DemoServer]> {
  const servers = await Promise.all([testServer(t), testServer(t)]);
  const passwords = [CANARIES.SRC_PASSWORD, CANARIES.DST_PASSWORD];
  for (const [index, server] of servers.entries()) {
    await ask(server.port, 'SET', `key ${index}`, 'S3cretCanary as a value');
    if (index === 1) await ask(server.port, 'FLUSHALL');
    await ask(server.port, 'CONFIG', 'SET', 'requirepass', passwords[index] ?? '');
  }
  return servers;
}

function reportIn(dir: string): RunReport {
  return JSON.parse(readFileSync(join(dir, 'report.json'), 'utf8')) as RunReport;
}

/** A hook that writes its environment into the run folder, and prints something that a terminal would obey. */
function tellEnvironment(to: string): string {
  return `env > ${to}-$REDIS_CUTOVER_EVENT; printf '\\033[31mred\\n'`;
}

function assertNoCanary(dir: string, ...runs: readonly CliRun[]): void {
  const files = [dir, dirname(dir)].flatMap((folder) =>
    readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
      entry.isFile() ? [join(folder, entry.name)] : [],
    ),
  );
  for (const file of files) assert.doesNotMatch(readFileSync(file, 'latin1'), ANY_CANARY, file);
  for (const run of runs) assert.doesNotMatch(run.stdout() + run.stderr(), ANY_CANARY);
}

test('killed, resumed and cut over: one report of all of it, a log, and hooks that are told no password', async (t) => {
  const [source, target] = await withPasswords(t);
  const dir = newRunDir(t);
  const to = join(dirname(dir), 'env');
  const log = join(dirname(dir), 'events.log');
  const passwords = [
    '--src-auth-env',
    'SRC_PASSWORD',
    '--dst-auth-env',
    'DST_PASSWORD',
    '--log',
    log,
    '--json',
  ];
  const hook = tellEnvironment(to);
  const killed = runCli(
    [
      ...[
        'migrate',
        '--src',
        source.uri,
        '--dst',
        target.uri,
        '--feed',
        'write',
        '--run-dir',
        dir,
        ...passwords,
      ],
      ...['--on-start', hook, '--on-in-sync', hook],
    ],
    { t, env: CANARIES },
  );
  await killed.phase('in-sync');
  await until(() => existsSync(`${to}-in-sync`), { what: 'the hook' });
  killed.kill('SIGKILL');
  await killed.exit;
  assert.ok(!existsSync(join(dir, 'report.json')));
  const logged = readFileSync(log, 'utf8').length;

  const resumed = runCli(
    ['resume', dir, ...passwords, '--cutover', 'auto', '--before-cutover', hook, '--on-cutover', hook],
    { t, env: CANARIES },
  );
  const summary = await ends(resumed, 0);
  for (const event of ['start', 'in-sync', 'before', 'cutover']) {
    assert.match(readFileSync(`${to}-${event}`, 'utf8'), new RegExp(`^REDIS_CUTOVER_EVENT=${event}$`, 'm'));
  }
  assertNoCanary(dir, killed, resumed);

  const report = reportIn(dir);
  assert.deepEqual(
    report.sessions.map(({ kind }) => kind),
    ['killed', 'ended'],
  );
  assert.equal(report.outcome, 'promoted');
  const [pair] = report.pairs;
  assert.ok(pair);
  const phases = pair.phases.map(({ phase }) => phase);
  assert.deepEqual(phases.slice(0, 3), ['snapshot', 'catching-up', 'in-sync']);
  assert.equal(phases.at(-1), 'promoted');
  assert.ok((pair.writeOutageMs ?? 0) > 0);
  assert.equal(pair.keys, 1);
  assert.ok(pair.steps.some(({ name }) => name === 'target writable'));
  assert.ok(pair.checks.some(({ name, detail }) => name === 'versions' && detail.includes(source.version)));
  assert.deepEqual(pair.remarks, (summary['pairs'] as { notes: string[] }[])[0]?.notes);
  const fences = pair.settings.filter(({ what }) => what.startsWith('fence'));
  assert.deepEqual(
    fences.map(({ side, putBackAt }) => [side, putBackAt !== null]),
    [
      ['target', true],
      ['source', false],
    ],
  );
  assert.ok(pair.messages.some(({ text }) => text === 'hook: \\x1b[31mred'));
  for (const file of [log, join(dir, 'report.json'), join(dir, 'report.html')]) {
    assert.equal(statSync(file).mode & 0o777, 0o600);
  }
  const inLog = readFileSync(log, 'utf8').slice(logged).trimEnd().split('\n');
  const untimed = (event: object): string => JSON.stringify({ ...event, ts: '' });
  assert.deepEqual(
    inLog.map((line) => untimed(JSON.parse(line) as object)),
    resumed.events.map(untimed),
  );
});

test('--on-start vetoes before anything is touched, --on-failure is told, and the report says what is left', async (t) => {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  const dir = newRunDir(t);
  const users = await ask(target.port, 'ACL', 'LIST');
  const run = runCli(
    [
      ...['migrate', '--src', source.uri, '--dst', target.uri, '--feed', 'write', '--run-dir', dir, '--json'],
      ...['--cutover', 'auto', '--on-start', 'echo not today; exit 9'],
      ...[
        '--on-failure',
        'sleep 0.5; echo "$REDIS_CUTOVER_EVENT of $REDIS_CUTOVER_PAIR" > "$REDIS_CUTOVER_RUN_DIR/told"',
      ],
    ],
    { t },
  );
  await ends(run, 1);
  assert.equal(readFileSync(join(dir, 'told'), 'utf8'), `failure of 127.0.0.1:${source.port}\n`);
  assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), users);
  assert.equal(await ask(target.port, 'DBSIZE'), 0);
  const [pair] = reportIn(dir).pairs;
  assert.equal(pair?.phase, 'failed');
  assert.deepEqual(pair.settings, []);
  assert.match(
    readFileSync(join(dir, 'report.html'), 'utf8'),
    /failed: the hook &quot;start&quot; ended with exit code 9/,
  );
});

test('--on-in-sync and --on-rollback are told, and the end waits for them', async (t) => {
  const note = (event: string) => `sleep 0.3; date >> "$REDIS_CUTOVER_RUN_DIR/told-${event}"`;
  const hooks = { 'in-sync': note('in-sync'), rollback: note('rollback'), failure: note('failure') };
  const { migration, folder } = await inSync(
    t,
    { cutover: 'ask', cutoverTimeoutMs: 10_000, hooks },
    { keys: 0 },
  );
  await migration.cutOver();
  await migration.rollBack();
  await migration.stop('the test is over');
  const told = readdirSync(folder.dir).filter((name) => name.startsWith('told-'));
  assert.deepEqual(told.sort(), ['told-in-sync', 'told-rollback']);
  for (const name of told)
    assert.equal(readFileSync(join(folder.dir, name), 'utf8').split('\n').length, 2, 'once');
});

test(
  'the operator at a terminal: every key and answer is in the report, and so are the clients',
  terminalOptions,
  async (t) => {
    const [source, target] = await Promise.all([testServer(t), testServer(t)]);
    const application = await RespConnection.connect(source.port);
    t.after(() => application.close());
    await application.call('CLIENT', 'SETNAME', CLIENT_NAME);
    await application.call('SET', 'k', 'v');
    const dir = newRunDir(t);
    const script = join(dirname(dir), 'migrate');
    const words = ['--src', source.uri, '--dst', target.uri, '--feed', 'attach', '--run-dir', dir];
    writeFileSync(script, `exec '${process.execPath}' '${BIN}' migrate ${words.join(' ')}\n`);
    const terminal = new Terminal(t);
    await terminal.start(`sh ${script}; echo "code $?"`);
    await terminal.shown(/\[s\] start {2}\[q\] quit/);
    terminal.keys('s');
    await terminal.shown(/\[c\] cut over/);
    terminal.keys('c');
    await terminal.shown(/means no\.\n>/);
    terminal.type('something else');
    terminal.keys('Enter');
    await terminal.shown(/Nothing was changed/);
    await terminal.shown(/\[c\] cut over/);
    terminal.keys('c');
    await terminal.shown(/Nothing was changed\.[\s\S]*means no\.\n>/);
    terminal.type(`127.0.0.1:${source.port}`);
    terminal.keys('Enter');
    await terminal.shown(/Promoted: point the applications/);
    terminal.keys('f');
    await terminal.shown(/^code 0$/m);
    assert.match(terminal.screen(), /^Report: \//m);

    const report = reportIn(dir);
    assert.deepEqual(
      report.actions.map(({ by, action, result }) => `${by} ${action} ${result}`),
      [
        'keyboard start asked',
        'keyboard cut-over asked',
        'keyboard cut-over declined',
        'keyboard cut-over asked',
        'keyboard cut-over confirmed',
        'keyboard cut-over done',
        'keyboard finish asked',
        'keyboard finish done',
      ],
    );
    assert.ok(report.pairs[0]?.clients.some(({ name, writing }) => name === CLIENT_NAME && writing));
    const page = readFileSync(join(dir, 'report.html'), 'utf8');
    assert.doesNotMatch(page, /<img/);
    assert.match(page, /&lt;img\/src=x/);
  },
);
