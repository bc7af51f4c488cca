/** The keys p and t at a real terminal. Needs tmux and redis-server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';
import { ask, newRunDir } from '../scenarios/support.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));

test(
  'p holds the target back and lets it go on, c is refused meanwhile; t asks for a figure',
  terminalOptions,
  async (t) => {
    const [source, target] = await Promise.all([testServer(t), testServer(t)]);
    await ask(source.port, 'SET', 'before', '1');
    const terminal = new Terminal(t);
    const args = `--src ${source.uri} --dst ${target.uri} --run-dir ${newRunDir(t)} --feed write --yes`;
    await terminal.start(`'${process.execPath}' '${BIN}' migrate ${args}; echo "code $?"`);
    await terminal.shown(/\[e\] enable writes[\s\S]*\[p\] pause {2}\[t\] throttle/);
    terminal.keys('p');
    await terminal.shown(/^127.0.0.1:\d+: paused by the operator: nothing goes to the target/m);
    await terminal.shown(/^p lets it go on\.$/m);
    await ask(source.port, 'SET', 'meanwhile', '1');
    terminal.keys('c');
    await terminal.shown(/not now: 127.0.0.1:\d+ is paused \[not-now\]/);
    assert.equal(await ask(target.port, 'EXISTS', 'before', 'meanwhile'), 1);
    terminal.keys('p');
    await terminal.shown(/^127.0.0.1:\d+: the operator lets it go on$/m);
    await until(async () => (await ask(target.port, 'EXISTS', 'meanwhile')) === 1);

    terminal.keys('t');
    await terminal.shown(
      /At most how much a second to 127.0.0.1:\d+ \(127.0.0.1:\d+\)\?\nType .* off\n.*changes nothing\.\n> ?$/m,
    );
    terminal.type('2 mb');
    terminal.keys('Enter');
    await terminal.shown(/: throttled to 2 MB\/s$/m);
    terminal.keys('t');
    await terminal.shown(/throttled to 2 MB\/s[\s\S]*changes nothing\.\n> ?$/m);
    terminal.type('fast');
    terminal.keys('Enter');
    await terminal.shown(/"fast" is no limit \[bad-value\]/);
    terminal.keys('q');
    await terminal.shown(/^code 6$/m);
    await terminal.assertRestored();
  },
);
