/**
 * Canary passwords in every place where a password can be given, through two sessions with worker processes, hooks,
 * crashes and a cutover: found nowhere afterwards. Told by the bytes of all that was printed, of every file of the run
 * folder, and of the arguments and environments of our processes. --askpass: integration/input-pty.test.ts.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { plain, testClient } from '../helpers/client.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

/** Each is a password somewhere; none may be seen anywhere. */
const CANARIES = {
  uri: 'cAnArY-in-a-uri',
  list: 'cAnArY-by-env-in-the-list',
  file: 'cAnArY-alone-in-a-file',
  authFile: 'cAnArY-in-the-auth-file',
  side: 'cAnArY-by-src-auth-env',
  fallback: 'cAnArY-of-redis-cli',
  master: 'cAnArY-masterauth-of-before',
  crash: 'cAnArY-in-a-crash',
} as const;
const WORD = /cAnArY-/;

/**
 * Loaded into every process of ours: on SIGUSR2 it dies of an error as ioredis makes them, uncaught, with the
 * arguments of the command in a field and echoed in the message.
 */
const CRASHER = `process.on('SIGUSR2', () => setImmediate(() => {
  const error = new Error("ERR unknown command 'AUTH', with args beginning with: '${CANARIES.crash}' ");
  error.command = { name: 'auth', args: ['${CANARIES.crash}'] };
  throw error;
}));`;

interface Place {
  readonly where: string;
  readonly bytes: Buffer;
}

/** All files below a folder. */
function filesIn(dir: string): Place[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ where: path, bytes: readFileSync(path) }));
}

function printed(name: string, run: CliRun): Place[] {
  return [
    { where: `stdout of ${name}`, bytes: Buffer.from(run.stdout()) },
    { where: `stderr of ${name}`, bytes: Buffer.from(run.stderr()) },
  ];
}

/** Arguments of a process and of its children; of the children, which we start, the environment as well. */
function processes(pid: number): Place[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean);
  return [
    { where: `arguments of ${pid}`, bytes: readFileSync(`/proc/${pid}/cmdline`) },
    ...children.flatMap((child) =>
      ['cmdline', 'environ'].map((what) => ({
        where: `${what} of child ${child}`,
        bytes: readFileSync(`/proc/${child}/${what}`),
      })),
    ),
  ];
}

function workersOf(run: CliRun): number[] {
  return readFileSync(`/proc/${run.pid}/task/${run.pid}/children`, 'utf8').trim().split(' ').map(Number);
}

function assertClean(places: readonly Place[]): void {
  for (const { where, bytes } of places) {
    const text = bytes.toString('latin1');
    const at = text.search(WORD);
    assert.equal(at, -1, `${where}: ${text.slice(Math.max(0, at - 200), at + 60)}`);
  }
}

/** The passwords that we have made for users of ours: nobody knows them, but the servers know their SHA-256. */
function assertNoneHasHash(places: readonly Place[], hashes: ReadonlySet<string>): void {
  for (const { where, bytes } of places) {
    for (const word of new Set(bytes.toString('latin1').match(/[A-Za-z0-9+/=_-]{12,}/g) ?? [])) {
      const hash = createHash('sha256').update(word).digest('hex');
      assert.ok(!hashes.has(hash), `${where}: the password of a user of ours`);
    }
  }
}

/** `default` gets passwords; a client that is in already is returned. */
async function locked(t: TestContext, server: DemoServer, ...passwords: readonly string[]) {
  const client = await testClient(t, server.port);
  await client.call('ACL', 'SETUSER', 'default', 'resetpass', ...passwords.map((password) => `>${password}`));
  return client;
}

const options = { timeout: 180_000, skip: process.platform === 'linux' ? false : 'needs /proc' };

test('canary passwords are found nowhere, whatever happens to the session', options, async (t) => {
  const [oldCart, newCart, oldUsers, newUsers] = await Promise.all(
    Array.from({ length: 4 }, () => testServer(t)),
  );
  assert.ok(oldCart && newCart && oldUsers && newUsers);
  await Promise.all([oldCart, oldUsers].map(({ port }) => loadDataset(port, { keys: 200, bigMembers: 50 })));
  const [, onNewCart, , onNewUsers] = await Promise.all([
    // the second one is for resume, which does not read the list again
    locked(t, oldCart, CANARIES.uri, CANARIES.file),
    locked(t, newCart, CANARIES.list, CANARIES.fallback),
    locked(t, oldUsers, CANARIES.side),
    locked(t, newUsers, CANARIES.authFile),
  ]);
  await onNewUsers.call('CONFIG', 'SET', 'masterauth', CANARIES.master);
  // the users of ours on the targets, read while they are there
  const hashes = new Set<string>();
  const noteOurUsers = async (): Promise<void> => {
    for (const client of [onNewCart, onNewUsers]) {
      const users = plain(await client.call('ACL', 'LIST')) as string[];
      for (const user of users.filter((line) => line.startsWith('user redis-cutover'))) {
        for (const [, hash = ''] of user.matchAll(/#([0-9a-f]{64})/g)) hashes.add(hash);
      }
    }
  };

  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-canary-'));
  atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
  const files = Object.fromEntries(
    ['hosts.csv', 'auth', 'alone', 'crasher.mjs', 'log', 'run', 'reports'].map((name) => [
      name,
      join(folder, name),
    ]),
  ) as Record<string, string>;
  const path = (name: string): string => files[name] ?? '';
  const secret = (name: string, text: string): void => writeFileSync(path(name), text, { mode: 0o600 });
  secret(
    'hosts.csv',
    [
      'name,source,target,src-auth,dst-auth,feed',
      `cart,redis://:${CANARIES.uri}@127.0.0.1:${oldCart.port},127.0.0.1:${newCart.port},file:${path('alone')},env:CART_PASSWORD,write`,
      `users,127.0.0.1:${oldUsers.port},127.0.0.1:${newUsers.port},,,attach`,
    ].join('\n'),
  );
  secret('alone', CANARIES.file);
  secret(
    'auth',
    `127.0.0.1:${newUsers.port} ${CANARIES.authFile}\n127.0.0.1:${oldCart.port} ${CANARIES.uri}\n`,
  );
  secret('crasher.mjs', CRASHER);
  mkdirSync(path('reports'));
  const env = {
    CART_PASSWORD: CANARIES.list,
    USERS_PASSWORD: CANARIES.side,
    REDISCLI_AUTH: CANARIES.fallback,
    // a shell in which somebody has looked for something else
    DEBUG: '*',
    NODE_OPTIONS: `--import=${path('crasher.mjs')} --report-uncaught-exception --report-on-fatalerror --report-directory=${path('reports')}`,
  };
  const hook = (event: string): string[] => [
    `--${event}`,
    // its own arguments hold the command
    'f=$(mktemp "$REDIS_CUTOVER_RUN_DIR/hook.XXXXXX"); env > "$f"; cat /proc/self/environ /proc/$PPID/cmdline >> "$f"',
  ];
  const shared = [
    '--json',
    '--cutover',
    'never',
    '--workers',
    '2',
    '--src-auth-env',
    'USERS_PASSWORD',
    '--auth-file',
    path('auth'),
    '--log',
    path('log'),
    '--metrics',
    '0',
    ...['on-start', 'on-in-sync', 'before-cutover', 'on-cutover', 'on-failure'].flatMap(hook),
  ];
  const begin = (...args: string[]): CliRun =>
    runCli([...args, ...shared], { t, env, exitTimeoutMs: 90_000 });
  const bothIn = async (run: CliRun, phase: string): Promise<void> => {
    const latest = (name: string) =>
      run.events.findLast((event) => event.event === 'phase' && event['pair'] === name)?.['to'];
    await until(() => latest('cart') === phase && latest('users') === phase, { timeoutMs: 60_000 }).catch(
      (error: unknown) => assert.fail(`${error}: ${run.stdout().slice(-3000)} ${run.stderr()}`),
    );
  };
  const places: Place[] = [];

  // a pair in the session's own process, with a password in the arguments
  const uris = [
    `redis://:${CANARIES.uri}@127.0.0.1:${oldCart.port}`,
    `redis://127.0.0.1:${newCart.port}`,
  ] as const;
  const check = runCli(['check', '--json', '--src', uris[0], '--dst', uris[1]], { t, env });
  assert.equal(await check.exit, 0, check.stderr());
  places.push(...printed('check', check));

  const first = begin('migrate', '--hosts', path('hosts.csv'), '--run-dir', path('run'));
  await bothIn(first, 'in-sync');
  await noteOurUsers();
  places.push(...processes(first.pid));
  // a worker dies of an error that holds a password; its pairs go on in another one
  const [worker = 0] = workersOf(first);
  assert.ok(worker > 1, 'a worker is there');
  process.kill(worker, 'SIGUSR2');
  const died = await first.until(
    ({ event, to, reason }) =>
      event === 'phase' && to === 'checking' && /worker process/.test(String(reason)),
  );
  assert.match(String(died['reason']), /exit code 1: Error: ERR unknown command 'AUTH'/);
  const timesInSync = () =>
    first.events.filter(({ event, to }) => event === 'phase' && to === 'in-sync').length;
  await until(() => timesInSync() >= 3, { timeoutMs: 60_000 });
  await bothIn(first, 'in-sync');
  await noteOurUsers();
  places.push(...processes(first.pid));
  // and then the session itself
  first.kill('SIGUSR2');
  assert.equal(await first.exit, 7, first.stderr());
  assert.match(first.stderr(), /^Error: ERR unknown command 'AUTH'\n {4}at /m);
  assert.equal(first.events.at(-1)?.event, 'summary');
  places.push(...printed('the first session', first), ...filesIn(path('run')));

  const second = begin('resume', path('run'));
  await bothIn(second, 'in-sync');
  await noteOurUsers();
  places.push(...processes(second.pid));
  const url = /http:\/\/\S+/.exec(second.stderr())?.[0] ?? '';
  places.push({ where: 'metrics', bytes: Buffer.from(await (await fetch(url)).text()) });
  const asks = [
    ['status', path('run')],
    ['status', path('run'), '--json'],
    ...['cart', 'users'].map((name) => ['cutover', path('run'), '--pair', name, '--confirm', name]),
  ];
  for (const args of asks) {
    await until(
      async () => {
        const run = runCli(args, { t, env });
        const exit = await run.exit;
        places.push(...printed(args.join(' '), run));
        // lag may take a pair out of in-sync for a moment
        assert.ok(exit === 0 || /not now/.test(run.stderr()), `${exit} ${run.stdout()}${run.stderr()}`);
        return exit === 0;
      },
      { timeoutMs: 60_000 },
    );
  }
  assert.equal(await second.exit, 0, `${second.stdout().slice(-2000)}${second.stderr()}`);

  places.push(...printed('the second session', second), ...filesIn(path('run')), ...filesIn(path('reports')));
  places.push({ where: 'log', bytes: readFileSync(path('log')) });
  assert.deepEqual(readdirSync(path('reports')), [], 'no report of node');
  assert.equal(
    filesIn(path('run')).filter(({ where }) => /hook\./.test(where)).length >= 8,
    true,
    'hooks ran',
  );
  assert.ok(hashes.size >= 2, `users of ours on the targets: ${hashes.size}`);
  assertClean(places);
  assertNoneHasHash(places, hashes);
  assert.equal(statSync(path('run')).mode & 0o777, 0o700);
  for (const name of readdirSync(path('run')).filter((each) => !each.startsWith('hook.'))) {
    assert.equal(statSync(join(path('run'), name)).mode & 0o077, 0, `${name} is its owner's alone`);
  }
  // what the search would have found
  assert.match(execFileSync('cat', [path('hosts.csv')], { encoding: 'utf8' }), WORD);
});
