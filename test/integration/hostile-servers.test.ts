/**
 * Servers, data, clients, hooks and files that are named to do harm, through the built program: on a real terminal byte
 * by byte, off one, and in every file that a run writes. All that shows events, field by field: unit/ui/hostile-text.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCli } from '../helpers/cli.ts';
import { testClient } from '../helpers/client.ts';
import {
  assertHarmless,
  assertHarmlessJson,
  assertHarmlessOnTerminal,
  HOSTILE_BYTES,
  HOSTILE_TEXTS,
} from '../helpers/hostile.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));
/** On one line, as replies and names of files must be; without what a file's name cannot hold. */
const ON_A_LINE = HOSTILE_TEXTS.map((text) => text.replaceAll(/[\r\n]/g, ' ')).join('');
const FILE_NAME = HOSTILE_TEXTS.slice(0, 8)
  .map((text) => text.replaceAll(/[/\0]/g, ''))
  .join('')
  .slice(0, 90);

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-hostile-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Answers each command by its name in the same way, whatever its arguments are; `*` stands for all others. */
async function liar(t: TestContext, replies: Readonly<Record<string, string>>): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.setEncoding('latin1').on('data', (text: string) => {
      for (const [, name = ''] of text.matchAll(/\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n/g)) {
        socket.write(replies[name.toUpperCase()] ?? replies['*'] ?? '+OK\r\n');
      }
    });
  }).listen(0, '127.0.0.1');
  atEnd(t, () => void server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;

test('servers that lie in every reply', { timeout: 120_000 }, async (t) => {
  const error = `-ERR ${ON_A_LINE}\r\n`;
  const info = [
    'redis_version',
    'os',
    'run_id',
    'role',
    'master_replid',
    'redis_mode',
    'executable',
    'used_memory',
  ]
    .map((field) => `${field}:${field === 'redis_version' ? '7.0.15' : ''}${ON_A_LINE}`)
    .join('\r\n');
  const liars = await Promise.all([
    liar(t, { '*': error }),
    liar(t, { '*': `-${ON_A_LINE}\r\n` }),
    liar(t, { '*': `+${ON_A_LINE}\r\n` }),
    liar(t, { CLIENT: '+OK\r\n', '*': bulk(ON_A_LINE) }),
    liar(t, { CLIENT: '+OK\r\n', INFO: bulk(info), '*': error }),
    liar(t, { CLIENT: '+OK\r\n', INFO: bulk(info), '*': `*2\r\n${bulk(ON_A_LINE).repeat(2)}` }),
    liar(t, { CLIENT: '-DENIED '.concat(ON_A_LINE, '\r\n') }),
    liar(t, { '*': `${ON_A_LINE}\r\n` }),
  ]);
  const honest = await Promise.all(liars.map(() => testServer(t)));
  const list = liars.map((port, at) => `127.0.0.1:${port} ${honest[at]?.uri}`);
  const turned = liars.map((port, at) => `${honest[at]?.uri} 127.0.0.1:${port}`);
  const env = { TERM: `xterm${HOSTILE_TEXTS[0]}`, COLUMNS: '\u001b[2J' };
  const runs = [
    ['check', list, []],
    ['check', turned, ['--json']],
    ['verify', list, ['--json', '--rounds', '0']],
  ] as const;
  for (const [command, pairs, args] of runs) {
    const run = runCli([command, '--hosts', '-', ...args], { t, env, stdin: `${pairs.join('\n')}\n` });
    const exit = await run.exit;
    const what = `${command} ${args.join(' ')}`;
    assert.ok(exit !== 0 && exit !== null, `${what}: ${exit} ${run.stderr()}`);
    assertHarmless(run.stderr(), what);
    assertHarmless(run.stdout(), what);
    if (args[0] === '--json') assertHarmlessJson(run.stdout(), what);
    // no pair is kept from being told of by another one
    for (const pair of pairs) {
      const [name = ''] = /\d+\.\S+:\d+/.exec(pair) ?? [];
      assert.ok(run.stdout().includes(name), `${what} ${name}: ${run.stdout().slice(-500)}`);
    }
  }
});

test('a migration of hostile data, on a terminal', { timeout: 120_000, ...terminalOptions }, async (t) => {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  const onSource = await testClient(t, source.port);
  for (const text of HOSTILE_TEXTS) {
    await onSource.call('SET', text, text);
    await onSource.call('HSET', `hash ${text}`, text, text);
  }
  await onSource.call('SET', HOSTILE_BYTES, HOSTILE_BYTES);
  // a name of a user may be anything but blanks and zeros; that of a client, and a function's, may not
  const user = HOSTILE_TEXTS.slice(0, 6)
    .join('')
    .replaceAll(/[\s\0]/g, '')
    .slice(0, 60);
  await onSource.call('ACL', 'SETUSER', user, 'on', 'nopass', '~*', '+@all');
  const client = await testClient(t, source.port);
  await client.call('AUTH', user, 'x');
  await client.call('SET', 'writer', '1');

  const dir = folder(t);
  const paths = {
    list: join(dir, `${FILE_NAME}.csv`),
    run: join(dir, FILE_NAME),
    log: join(dir, `${FILE_NAME}.log`),
  };
  writeFileSync(paths.list, `name,source,target,wave\ncart,${source.uri},${target.uri},one\n`);
  const shout = join(dir, 'shout.sh');
  writeFileSync(
    join(dir, 'words'),
    Buffer.concat([HOSTILE_BYTES, Buffer.from(`\n${HOSTILE_TEXTS.join('\n')}\n`)]),
  );
  writeFileSync(shout, `cat '${join(dir, 'words')}'; cat '${join(dir, 'words')}' >&2\n`);
  const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const args = [
    'migrate',
    '--hosts',
    paths.list,
    '--run-dir',
    paths.run,
    '--log',
    paths.log,
    '--cutover',
    'auto',
  ];
  const hooks = ['--on-start', '--before-cutover', '--on-cutover'].flatMap((flag) => [flag, `sh '${shout}'`]);
  const go = join(dir, 'go');
  const script = [
    `while [ ! -e ${quoted(go)} ]; do sleep 0.05; done`,
    [process.execPath, BIN, ...args, ...hooks, '--no-reverse'].map(quoted).join(' '),
    'echo "ended-with-$?"',
  ];
  writeFileSync(join(dir, 'script.sh'), script.join('\n'));

  const terminal = new Terminal(t);
  await terminal.start(`sh ${quoted(join(dir, 'script.sh'))}`);
  // every byte that the program sends to the terminal
  const raw = join(dir, 'raw');
  terminal.tmux('pipe-pane', `cat > '${raw}'`);
  writeFileSync(go, '');
  await until(() => /ended-with-\d+\r?\n/.test(readFileSync(raw, 'latin1')), { timeoutMs: 60_000 }).catch(
    (error: unknown) => assert.fail(`${error}\n${terminal.screen()}`),
  );
  const bytes = readFileSync(raw, 'utf8');
  assert.match(bytes, /ended-with-0/, terminal.screen());
  assert.match(bytes, /hook: title\\x1b\]0;owned/, 'what the hook printed was shown');
  assertHarmlessOnTerminal(bytes, 'the terminal');

  const files = readdirSync(paths.run, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  const names = files.map(({ name }) => name);
  for (const name of ['run.json', 'journal.ndjson', 'report.html', 'report.json'])
    assert.ok(names.includes(name), name);
  for (const { name, parentPath } of files)
    assertHarmless(readFileSync(join(parentPath, name), 'utf8'), name);
  assertHarmlessJson(readFileSync(paths.log, 'utf8'), 'the log');

  // the keys that differ are named
  const onTarget = await testClient(t, target.port);
  for (const [at, text] of [...HOSTILE_TEXTS, HOSTILE_BYTES].entries()) {
    if (at % 2 === 0) await onTarget.call('DEL', text);
    else await onTarget.call('SET', text, 'other');
  }
  mkdirSync(join(dir, 'found'));
  const mismatches = join(dir, 'found', FILE_NAME);
  const compared = [
    'verify',
    '--src',
    source.uri,
    '--dst',
    target.uri,
    '--rounds',
    '0',
    '--mismatches',
    mismatches,
  ];
  const verify = runCli(compared, { t });
  assert.equal(await verify.exit, 5, verify.stderr());
  assertHarmless(verify.stdout(), 'verify');
  assertHarmless(verify.stderr(), 'verify');
  const found = assertHarmlessJson(readFileSync(mismatches, 'utf8'), 'the list of keys');
  assert.equal(found.length, HOSTILE_TEXTS.length + 1);
});
