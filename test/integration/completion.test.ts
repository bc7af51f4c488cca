/** The completion scripts in real shells: bash, and zsh and fish where they are installed. Needs bash; tmux for keys. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { completionScript, SHELLS, type Shell } from '../../src/cli/completion.ts';
import { COMMANDS } from '../../src/cli/main.ts';
import { optionsFor } from '../../src/cli/options.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';

const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-completion-'));
after(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, 'run one'));
writeFileSync(join(folder, 'hosts one.csv'), '');
for (const shell of SHELLS) writeFileSync(join(folder, shell), completionScript(shell, COMMANDS));

function installed(shell: Shell): { skip?: string } {
  return spawnSync(shell, ['-c', ':'], { stdio: 'ignore' }).status === 0
    ? {}
    : { skip: `${shell} is not installed` };
}

/** Words typed, the last of them to be completed, and what is offered: all of it, sorted. */
const CASES: readonly (readonly [words: readonly string[], offered: readonly string[]])[] = [
  [['mig'], ['migrate']],
  [['migrate', '--flu'], ['--flush-target']],
  [['migrate', '--keys'], []],
  [['demo', '--key'], ['--keys']],
  [
    ['migrate', '--feed', ''],
    ['attach', 'auto', 'write'],
  ],
  [
    ['migrate', '--json', '--cutover', 'a'],
    ['ask', 'auto'],
  ],
  [['migrate', '--src', 'redis://a', '--feed', 'w'], ['write']],
  [['migrate', '--src', ''], []],
  [['completion', 'z'], ['zsh']],
  [['resume', '--ask'], ['--askpass']],
];

/** What bash would offer, from the variables that it sets for a completion function. */
function bashOffers(script: string): string[] {
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-u', '-c', script], {
    cwd: folder,
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  return stdout.split('\n').filter((line) => line !== '');
}

function bashCase(words: readonly string[]): string {
  const typed = ['redis-cutover', ...words].map((word) => `'${word}'`);
  return `source ./bash; COMP_WORDS=(${typed.join(' ')}); COMP_CWORD=${words.length}; _redis_cutover
    printf '%s\\n' "\${COMPREPLY[@]-}"`;
}

test('bash: commands, options and values', installed('bash'), () => {
  for (const [words, offered] of CASES) {
    assert.deepEqual(bashOffers(bashCase(words)).sort(), offered, words.join(' '));
  }
  assert.deepEqual(bashOffers(bashCase(['migrate', '--feed', '=', 'at'])), ['attach']);
  assert.deepEqual(bashOffers(bashCase(['migrate', '--feed', '='])).sort(), ['attach', 'auto', 'write']);
  assert.deepEqual(bashOffers(bashCase(['resume', 'r'])), ['run one']);
  assert.deepEqual(bashOffers(bashCase(['migrate', '--hosts', 'h'])), ['hosts one.csv']);
});

test('bash: every option of every command', installed('bash'), () => {
  for (const { name } of COMMANDS) {
    const flags = optionsFor(name).map((option) => option.long);
    assert.deepEqual(bashOffers(bashCase([name, '-'])).sort(), [...flags, '--help'].sort(), name);
  }
});

test('bash: the Tab key on a terminal', { ...installed('bash'), ...terminalOptions }, async (t) => {
  const terminal = new Terminal(t);
  await terminal.start(`cd '${folder}' && exec env PS1='bash> ' bash --norc -i`);
  await terminal.shown(/^bash> ?$/m);
  terminal.type('source ./bash; clear');
  terminal.keys('Enter');
  await terminal.shown(/^bash> ?$/m);
  terminal.type('redis-cutover mig');
  terminal.keys('Tab');
  await terminal.shown(/^bash> redis-cutover migrate$/m);
  terminal.type('--hosts ho');
  terminal.keys('Tab');
  await terminal.shown(/--hosts hosts\\ one\.csv$/m);
  terminal.type('--feed=wr');
  terminal.keys('Tab');
  await terminal.shown(/--feed=write$/m);
});

test('zsh: the Tab key on a terminal', { ...installed('zsh'), ...terminalOptions }, async (t) => {
  const terminal = new Terminal(t);
  const load = 'autoload -Uz compinit; compinit -u -D; source ./zsh; clear';
  await terminal.start(`cd '${folder}' && exec env PS1='zsh> ' zsh -f`);
  await terminal.shown(/^zsh> ?$/m);
  terminal.type(load);
  terminal.keys('Enter');
  await terminal.shown(/^zsh> ?$/m);
  terminal.type('redis-cutover mig');
  terminal.keys('Tab');
  await terminal.shown(/^zsh> redis-cutover migrate$/m);
  terminal.type(' --hosts ho');
  terminal.keys('Tab');
  await terminal.shown(/--hosts hosts\\ one\.csv$/m);
  terminal.type(' --feed wr');
  terminal.keys('Tab');
  await terminal.shown(/--feed write$/m);
  terminal.keys('C-u');
  terminal.type('redis-cutover check --allow-n');
  terminal.keys('Tab');
  await terminal.shown(/check --allow-nonempty$/m);
  terminal.keys('C-u');
  terminal.type('redis-cutover resume r');
  terminal.keys('Tab');
  await terminal.shown(/resume run\\ one\/?$/m);
  terminal.keys('C-u');
  // all options, with brackets, quotes and colons in their texts
  terminal.type('redis-cutover migrate --dst');
  terminal.keys('C-d');
  await terminal.shown(/--dst +-- targets, in the order of the sources/);
  assert.doesNotMatch(terminal.screen(), /_arguments|parse error|not found/);
});

test('fish: commands, options and values', installed('fish'), () => {
  for (const [words, offered] of CASES) {
    const line = ['redis-cutover', ...words].join(' ');
    const { status, stdout, stderr } = spawnSync(
      'fish',
      ['--no-config', '-c', 'source ./fish; complete -C $argv[1]', line],
      { cwd: folder, encoding: 'utf8', env: { ...process.env, HOME: folder } },
    );
    assert.equal(status, 0, stderr);
    const got = stdout
      .split('\n')
      .map((row) => row.split('\t')[0] ?? '')
      .filter((row) => row !== '');
    assert.deepEqual(got.sort(), offered, line);
  }
});
