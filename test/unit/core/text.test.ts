/** Text from outside: what servers echo of arguments is taken out before anybody reads it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutEchoes } from '../../../src/core/text.ts';

test('the arguments of an unknown command', () => {
  const reply = "ERR unknown command 'AUTH', with args beginning with: 'bob' 's3cret' ";
  assert.equal(withoutEchoes(reply), "ERR unknown command 'AUTH'");
  const older = 'ERR unknown command `HSETEX`, with args beginning with: `key`, `value`, ';
  assert.equal(withoutEchoes(older), 'ERR unknown command `HSETEX`');
});

test('the rule of an ACL SETUSER', () => {
  const reply = "ERR Error in ACL SETUSER modifier '>s3cret': Syntax error";
  assert.equal(withoutEchoes(reply), "ERR Error in ACL SETUSER modifier '***': Syntax error");
});

test('other replies stay as they are', () => {
  const reply = "OOM command not allowed when used memory > 'maxmemory'.";
  assert.equal(withoutEchoes(reply), reply);
});
