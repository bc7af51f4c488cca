/** `--log`: every event, beside what is shown, and nobody else may read it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { UsageError } from '../../../src/core/errors.ts';
import type { Renderer } from '../../../src/core/ports.ts';
import { withLog } from '../../../src/ui/log-file.ts';

function remembering(): { said: string[]; inner: Renderer } {
  const said: string[] = [];
  const inner: Renderer = {
    event: (event) => said.push(event.event),
    frame: () => said.push('frame'),
    say: (text) => said.push(text),
    step: () => () => undefined,
    close() {},
  };
  return { said, inner };
}

test('events are added to what the file holds, harmless on a terminal; the screen gets them too', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-log-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'events');
  writeFileSync(path, '{"of":"before"}\n', { mode: 0o644 });
  const { said, inner } = remembering();
  const renderer = withLog(inner, path);
  renderer.event({ event: 'note', message: 'one\n\u001b[31m\u202e' });
  renderer.frame([], '');
  renderer.event({ event: 'summary', outcome: 'promoted', exitCode: 0, pairs: [] });
  assert.deepEqual(said, ['note', 'frame', 'summary']);
  const text = readFileSync(path, 'utf8');
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    lines.map(({ event, message }) => [event, message]),
    [
      [undefined, undefined],
      ['note', 'one\n\u001b[31m\u202e'],
      ['summary', undefined],
    ],
  );
  assert.match(String(lines[1]?.['ts']), /^\d{4}-\d\d-\d\dT/);
  assert.doesNotMatch(text, /\u001b|\u202e/);
  assert.equal(statSync(path).mode & 0o777, 0o600, 'also of a file that was there with more rights');
});

test('a file that cannot be opened is refused before anything is done', () => {
  assert.throws(
    () => withLog(remembering().inner, '/no/such/folder/log'),
    (error) => error instanceof UsageError && error.code === 'log-file' && /ENOENT/.test(error.message),
  );
});

test('a full disk is said once, and the session goes on', () => {
  const { said, inner } = remembering();
  const renderer = withLog(inner, '/dev/full');
  for (let turn = 0; turn < 3; turn++) renderer.event({ event: 'note', message: 'x' });
  assert.deepEqual(said, ['the log /dev/full cannot be written any more: ENOSPC', 'note', 'note', 'note']);
});
