/** Steps of a cutover, undone: in which order, and how stubbornly. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXIT, SourceError, TargetError } from '../../../src/core/errors.ts';
import { Steps } from '../../../src/migrate/steps.ts';

const lost = new SourceError('the connection was closed', { code: 'source-closed', hint: 'is it up?' });
const cause = new TargetError('draining took too long', { code: 'cutover-timeout', hint: 'try later' });

function begun(): Steps {
  return new Steps('pair', () => {}, new AbortController().signal);
}

test('the last step is undone first, and the cause of the failure is what is thrown', async () => {
  const steps = begun();
  const undone: string[] = [];
  steps.undo('one', async () => void undone.push('one'));
  steps.undo('two', async () => void undone.push('two'));
  assert.equal(await steps.back(cause), cause);
  assert.deepEqual(undone, ['two', 'one']);
});

test('a connection that is lost for a moment does not leave a fence: undoing is tried again', async () => {
  const steps = begun();
  let tries = 0;
  steps.undo('fence lifted', async () => {
    tries++;
    if (tries < 3) throw lost;
  });
  assert.equal(await steps.back(cause), cause);
  assert.equal(tries, 3);
});

test('what a server refuses is not tried again, the rest is undone, and it is said', async () => {
  const steps = begun();
  let tries = 0;
  let undone = false;
  steps.undo('writes go on', async () => {
    undone = true;
  });
  steps.undo('fence lifted', async () => {
    tries++;
    throw cause;
  });
  const { code, exitCode } = await steps.back(cause);
  assert.deepEqual(
    { code, exitCode, tries, undone },
    {
      code: 'cutover-undo',
      exitCode: EXIT.attention,
      tries: 1,
      undone: true,
    },
  );
});
