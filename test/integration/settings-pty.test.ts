/**
 * The question for settings of the source on a real terminal: the lines to be set are shown, r looks again, f starts with
 * them, q puts them back. Needs tmux.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { plain, testClient } from '../helpers/client.ts';
import { testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));
const QUESTION = /\[s\] start {2}\[q\] quit {2}\[f\] start with these, put back after {2}\[r\] check again/;
const LINE = /CONFIG SET client-output-buffer-limit/g;

test('r, f and q', terminalOptions, async (t) => {
  const small = ['--client-output-buffer-limit', 'replica 10mb 5mb 5'];
  const [source, target] = await Promise.all([testServer(t, { args: small }), testServer(t)]);
  const onSource = await testClient(t, source.port);
  const limits = async (): Promise<string> =>
    String(plain(await onSource.call('CONFIG', 'GET', 'client-output-buffer-limit')));
  const before = await limits();
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-settings-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const script = join(folder, 'migrate');
  const words = [
    '--src',
    source.uri,
    '--dst',
    target.uri,
    '--run-dir',
    join(folder, 'run'),
    '--feed',
    'write',
  ];
  writeFileSync(script, `exec '${process.execPath}' '${BIN}' migrate ${words.join(' ')}\n`);
  const terminal = new Terminal(t);
  await terminal.start(`sh ${script}; echo "code $?"`);
  const asked = await terminal.shown(QUESTION);
  assert.match(asked, /^Settings of the source that would help, for this run:$/m);
  const lines = asked.match(LINE)?.length ?? 0;
  assert.ok(lines > 0, asked);
  terminal.keys('r');
  await until(
    () => (terminal.screen().match(LINE)?.length ?? 0) > lines && QUESTION.test(terminal.visible()),
  );
  assert.equal(await limits(), before, 'nothing is set by looking');
  terminal.keys('f');
  await terminal.shown(/\[e\] enable writes {2}\[m\] make masters/);
  assert.match(await limits(), /slave 268435456 67108864 60/);
  terminal.keys('q');
  await terminal.shown(/^code 6$/m);
  assert.equal(await limits(), before);
});
