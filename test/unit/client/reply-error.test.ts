/** What of an error reply may be kept. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ReplyError } from '../../../src/client/reply-error.ts';

const reply = (command: string, text: string): ReplyError => new ReplyError(command, 'source h:1', text);

describe('ReplyError', () => {
  it('reads the prefix', () => {
    assert.equal(reply('SET', 'OOM command not allowed').prefix, 'OOM');
    assert.equal(reply('SET', 'NOREPLICAS').prefix, 'NOREPLICAS');
    assert.equal(reply('X', 'something odd').prefix, 'ERR');
  });

  it('says what passes by itself', () => {
    assert.equal(reply('PING', 'LOADING Redis is loading').recovery, 'reconnect');
    assert.equal(reply('SET', 'NOPERM no').recovery, 'operator');
  });

  it('takes out arguments that the server repeats', () => {
    const unknown = reply('AUTH', "ERR unknown command 'AUTH', with args beginning with: 'pass' 'more' ");
    assert.equal(unknown.reply, "ERR unknown command 'AUTH'");
    const rule = reply('ACL', "ERR Error in ACL SETUSER modifier '>pa'ss': Syntax error");
    assert.equal(rule.reply, "ERR Error in ACL SETUSER modifier '***': Syntax error");
    assert.ok(!rule.message.includes("pa'ss"));
  });

  it('is safe to print', () => {
    assert.ok(!reply('GET', 'ERR \u001b[2J\u202e').message.includes('\u001b'));
  });
});
