/** The audit: keys that acted and questions that were answered, with the pair that was chosen. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Operator, OperatorCommand } from '../../../src/core/ports.ts';
import { audited } from '../../../src/ui/audit.ts';

test('each key and each answer becomes an action', async () => {
  const keys: OperatorCommand[] = ['clients', 'cut-over'];
  const answers = [false, true];
  const chosen = [null, null, 'cart', 'cart'];
  const inner: Operator = {
    selected: () => chosen.shift() ?? null,
    next: async () => keys.shift() ?? 'quit',
    confirmByTyping: async () => answers.shift() ?? false,
    ask: async () => null,
    close() {},
  };
  const actions: unknown[] = [];
  const operator = audited(inner, ({ event: _event, ...action }) => actions.push(action));
  assert.equal(await operator.next([]), 'clients');
  assert.equal(await operator.next([]), 'cut-over');
  assert.equal(await operator.confirmByTyping('Make it the master.\nType "cart"', 'cart'), false);
  assert.equal(await operator.confirmByTyping('Make it the master.\nType "cart"', 'cart'), true);
  const detail = 'Make it the master.';
  assert.deepEqual(actions, [
    { by: 'keyboard', action: 'clients', result: 'asked' },
    { by: 'keyboard', action: 'cut-over', result: 'asked' },
    { pair: 'cart', by: 'keyboard', action: 'cut-over', result: 'declined', detail },
    { pair: 'cart', by: 'keyboard', action: 'cut-over', result: 'confirmed', detail },
  ]);
});
