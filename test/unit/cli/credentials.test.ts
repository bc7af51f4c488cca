/** Where passwords come from, in which order, and that they stay out of sight. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import {
  type CredentialSources,
  passwordFromEnv,
  readAuthFile,
  withCredentials,
} from '../../../src/cli/credentials.ts';
import { parseUri } from '../../../src/cli/uri.ts';
import { Secret } from '../../../src/core/endpoint.ts';
import { UsageError } from '../../../src/core/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-credentials-'));
after(() => rmSync(folder, { recursive: true }));

function authFile(text: string, mode = 0o600): string {
  const path = join(folder, 'auth');
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

const NONE: CredentialSources = { fromEnv: null, fromFile: [], fallback: null };

function resolved(uri: string, sources: CredentialSources): [string | null, string | null] {
  const { username, password } = withCredentials(parseUri(uri, '--src'), sources);
  return [username, password === null ? null : password.reveal()];
}

test('precedence: URI, then the flag, then the file, then REDISCLI_AUTH', () => {
  const { entries } = readAuthFile(authFile('old:6379 file\n'));
  const all = { fromEnv: new Secret('env'), fromFile: entries, fallback: new Secret('cli') };
  assert.deepEqual(resolved('redis://:uri@old', all), [null, 'uri']);
  assert.deepEqual(resolved('redis://old', all), [null, 'env']);
  assert.deepEqual(resolved('redis://old', { ...all, fromEnv: null }), [null, 'file']);
  assert.deepEqual(resolved('redis://other', { ...all, fromEnv: null }), [null, 'cli']);
  assert.deepEqual(resolved('redis://old', NONE), [null, null]);
  // an empty password in the URI is an answer too: ACL users may have none
  assert.deepEqual(resolved('redis://app:@old', all), ['app', '']);
});

test('auth file: servers, users, default, comments', () => {
  const { entries, warning } = readAuthFile(
    authFile(
      [
        '# servers',
        '',
        'OLD:6379   app  p#1',
        'old:6379 admin p2',
        '[::1]:7 p3',
        '  default mover p4  ',
        'default p5\r',
      ].join('\n'),
    ),
  );
  const sources = { ...NONE, fromFile: entries };
  assert.equal(warning, null);
  assert.deepEqual(resolved('redis://old', sources), ['app', 'p#1']);
  assert.deepEqual(resolved('redis://admin@old', sources), ['admin', 'p2']);
  assert.deepEqual(resolved('redis://other@old', sources), ['other', 'p5']);
  assert.deepEqual(resolved('redis://[::1]:7', sources), [null, 'p3']);
  assert.deepEqual(resolved('redis://elsewhere', sources), ['mover', 'p4']);
});

test('a faulty auth file is refused by line number, its contents are not shown', () => {
  const path = authFile('old:6379\nCANARY\nold CANARY\nold:1 a CANARY c\ndefault ok\n');
  assert.throws(
    () => readAuthFile(path),
    (error) =>
      error instanceof UsageError &&
      error.message.includes('line 1, 2, 3, 4 ') &&
      !/CANARY/.test(error.message),
  );
  assert.throws(() => readAuthFile(join(folder, 'none')), /--auth-file .*none cannot be read/);
});

test('an auth file that others can read gives a warning', () => {
  for (const mode of [0o640, 0o604]) {
    assert.match(readAuthFile(authFile('default x\n', mode)).warning ?? '', /chmod 600/);
  }
});

test('a user without any password is refused: it may be a password in the wrong place', () => {
  assert.throws(
    () => withCredentials(parseUri('redis://CANARY@old', '--src'), NONE),
    (error) =>
      error instanceof UsageError &&
      error.code === 'no-password' &&
      error.message.includes('old:6379') &&
      !error.message.includes('CANARY'),
  );
});

test('a variable that is not set is refused, and a password put there by mistake not repeated', () => {
  assert.equal(passwordFromEnv('PW', '--src-auth-env', { PW: 'x' }).reveal(), 'x');
  assert.throws(
    () => passwordFromEnv('PW', '--src-auth-env', { PW: '' }),
    /--src-auth-env: .* PW is not set/,
  );
  assert.throws(
    () => passwordFromEnv('canary-secret', '--dst-auth-env', {}),
    (error) => error instanceof UsageError && !error.message.includes('canary'),
  );
});

test('ps shows no arguments once they were read', { skip: process.platform !== 'linux' }, async () => {
  const module = pathToFileURL(join(import.meta.dirname, '../../../src/cli/credentials.ts')).href;
  const script = `const { hideArguments } = await import(${JSON.stringify(module)});
    hideArguments(process.argv.slice(1));
    process.stdout.write('hidden');
    process.stdin.resume();`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', script, 'migrate', 'redis://:CANARY@old'];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const cmdline = () => readFileSync(`/proc/${child.pid}/cmdline`, 'utf8');
    assert.match(cmdline(), /CANARY/);
    await once(child.stdout, 'data');
    assert.match(cmdline(), /^redis-cutover migrate\0/);
    assert.doesNotMatch(cmdline(), /CANARY/);
  } finally {
    child.stdin.end();
    await once(child, 'exit');
  }
});
