/** The manual page in man/ is what the tables say now, and formats without a warning. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { COMMANDS } from '../../../src/cli/main.ts';
import { manPage } from '../../../src/cli/man.ts';
import { OPTIONS } from '../../../src/cli/options.ts';
import { ownVersion } from '../../../src/cli/version.ts';

const page = manPage(COMMANDS, ownVersion());

function hasProgram(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;
}

test('man/redis-cutover.1 is up to date', () => {
  const url = new URL('../../../man/redis-cutover.1', import.meta.url);
  assert.equal(readFileSync(url, 'utf8'), page, 'run: npm run man');
});

test(
  'the page shows every command and option, and groff has nothing to say',
  hasProgram('groff') ? {} : { skip: 'groff is not installed' },
  () => {
    const { stdout, stderr } = spawnSync('groff', ['-man', '-Kutf8', '-Tutf8', '-ww', '-P-c', '-rLL=200n'], {
      input: page,
      encoding: 'utf8',
    });
    assert.equal(stderr, '');
    // -P-c prints bold as overstruck characters
    const shown = stdout.replaceAll(/.\x08/g, '');
    for (const { flags } of OPTIONS) assert.ok(shown.includes(` ${flags}`), `${flags} in\n${shown}`);
    for (const { examples } of COMMANDS) {
      for (const example of examples) assert.ok(shown.includes(example), `${example} in\n${shown}`);
    }
  },
);
