/** Hostile text, and passwords in the wrong place, on the command line: what is said about it is harmless and repeats none. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { main } from '../../../src/cli/main.ts';
import { assertHarmless, assertHarmlessJson, HOSTILE_TEXTS } from '../../helpers/hostile.ts';

const PAIR = ['--src', 'redis://127.0.0.1:1', '--dst', 'redis://127.0.0.1:2'] as const;

/** Runs a command line in this process; nothing of these connects anywhere. */
async function said(
  t: TestContext,
  argv: readonly string[],
): Promise<{ out: string; err: string; exit: number }> {
  const written = { out: '', err: '' };
  const taking = (stream: NodeJS.WriteStream, where: 'out' | 'err') => {
    const write = stream.write.bind(stream);
    return t.mock.method(stream, 'write', (text: string | Uint8Array) => {
      // the test runner writes its own bytes there
      if (typeof text !== 'string') return write(text);
      written[where] += text;
      return true;
    });
  };
  const mocks = [taking(process.stdout, 'out'), taking(process.stderr, 'err')];
  const title = process.title;
  try {
    return { exit: await main(argv), ...written };
  } finally {
    for (const { mock } of mocks) mock.restore();
    process.title = title;
  }
}

test('hostile arguments are refused in harmless words, for people and in NDJSON', async (t) => {
  for (const text of HOSTILE_TEXTS) {
    const lines: readonly (readonly string[])[] = [
      [text],
      ['migrate', text],
      ['migrate', `--${text}`],
      ['migrate', `--${text}=${text}`],
      ['migrate', '--src', text, '--dst', text],
      ['migrate', '--src', `redis://${text}@h`, '--dst', `redis://h/${text}`],
      ['migrate', '--hosts', text],
      ['check', ...PAIR, '--feed', text],
      ['check', ...PAIR, '--listen', text],
      ['check', ...PAIR, '--advertise', text],
      ['check', ...PAIR, '--psync-command', text],
      ['check', ...PAIR, '--auth-file', text],
      ['check', ...PAIR, '--src-auth-env', text],
      ['check', ...PAIR, '--cacert', text],
      ['check', ...PAIR, '--log', join(tmpdir(), 'no', 'such', text)],
      ['migrate', ...PAIR, '--cutover-timeout', text],
      ['migrate', ...PAIR, '--cutover', text],
      ['verify', ...PAIR, '--mode', text],
      ['resume', text],
      ['status', text],
      ['cutover', text, '--pair', text, '--confirm', text],
      ['completion', text],
      ['demo', '--keys', text],
    ];
    for (const argv of lines) {
      const what = argv.join(' ').slice(0, 60);
      const { out, err, exit } = await said(t, [...argv, '--json']);
      assert.ok(exit !== 0, what);
      assertHarmless(err, what);
      const events = assertHarmlessJson(out, what);
      assert.equal(events.at(-1)?.['event'], 'summary', what);
      assert.ok(err.length < 8_000, `${what}: ${err.length} characters`);
    }
  }
});

test('hostile host lists: the name of the file, and every field', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-hostile-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const columns = ['source', 'target', 'name', 'wave', 'auth', 'feed', 'listen', 'cutover-timeout'];
  for (const [index, text] of HOSTILE_TEXTS.entries()) {
    // a file's name holds neither / nor NUL, and 255 bytes at most
    const name = `${Buffer.from(text.replaceAll(/[/\0]/g, '')).toString().slice(0, 40)}${index}.ndjson`;
    const rows = columns.map((column) => ({
      source: `old-${column}`,
      target: `new-${column}`,
      [column]: text,
    }));
    writeFileSync(join(dir, name), rows.map((row) => JSON.stringify(row)).join('\n'));
    const { out, err, exit } = await said(t, ['check', '--hosts', join(dir, name), '--json']);
    assert.equal(exit, 2);
    assertHarmless(err, name);
    assertHarmlessJson(out, name);
    assert.ok(err.split('\n').length > columns.length - 1, err);
  }
});

test('flags of redis-cli: what to type instead; a password is repeated nowhere', async (t) => {
  const cases: readonly (readonly [words: readonly string[], hint: RegExp])[] = [
    [['-a', 'cAnArY'], /--askpass/],
    [['-acAnArY'], /--askpass/],
    [['--pass', 'cAnArY'], /--askpass/],
    [['--pass=cAnArY'], /--askpass/],
    [['-u', 'redis://:cAnArY@old'], /--src redis:/],
    [['--user', 'app'], /--src redis:/],
    [['-p', '6379'], /--src redis:/],
    [['--tls'], /rediss:/],
  ];
  for (const [words, hint] of cases) {
    const { out, err, exit } = await said(t, ['migrate', ...words, '--dst', 'new']);
    assert.equal(exit, 2);
    assert.match(err, hint, words.join(' '));
    assert.doesNotMatch(out + err, /cAnArY/);
  }
});
