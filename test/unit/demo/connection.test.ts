/** The plain promise client, against a real server and a scripted one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplyError } from '../../../src/resp/connection.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { fakeSource } from '../../helpers/fake-source.ts';
import { testServer } from '../../helpers/server.ts';

test('all kinds of replies and arguments', async (t) => {
  const client = await testClient(t, (await testServer(t)).port);
  const odd = Buffer.from([0, 13, 10, 255]);
  const replies = await client.pipeline([
    ['SET', odd, odd],
    ['GET', odd],
    ['APPEND', 'text', 'é€'],
    ['INCRBY', 'n', -42],
    ['GET', 'nothing'],
    ['LPUSH', 'n', 'x'],
    ['ECHO', ''],
    ['LRANGE', 'none', 0, -1],
  ]);
  assert.deepEqual(replies[1], odd);
  assert.ok(replies[5] instanceof ReplyError && replies[5].message.startsWith('WRONGTYPE'));
  assert.deepEqual(replies.filter((_, at) => at !== 5).map(plain), [
    'OK',
    odd.toString('latin1'),
    5,
    -42,
    null,
    '',
    [],
  ]);
  assert.deepEqual(await client.pipeline([]), []);
});

test('call throws an error reply; inside EXEC errors are values', async (t) => {
  const client = await testClient(t, (await testServer(t)).port);
  await assert.rejects(client.call('NOSUCH'), ReplyError);
  await client.pipeline([['MULTI'], ['SET', 'a', 'x'], ['INCR', 'a'], ['SET', 'b', 'y']]);
  const results = await client.call('EXEC');
  assert.ok(Array.isArray(results) && results[1] instanceof ReplyError);
  assert.equal(plain(results[2]), 'OK');
});

test('a large value comes back whole, with others around it', async (t) => {
  const client = await testClient(t, (await testServer(t)).port);
  const large = Buffer.alloc(3_000_000, 'abcdefg');
  const replies = await client.pipeline([['SET', 'big', large], ['MGET', 'big', 'none', 'big'], ['PING']]);
  assert.deepEqual(replies[1], [large, null, large]);
  assert.equal(plain(replies[2]), 'PONG');
});

test('what is unanswered when the connection ends is rejected, and so is what comes later', async (t) => {
  const source = await fakeSource(t, [
    { kind: 'expect', name: 'PING', reply: '+PONG\r\n' },
    { kind: 'expect', name: 'GET' },
    { kind: 'close' },
  ]);
  const client = await testClient(t, source.port);
  assert.equal(plain(await client.call('PING')), 'PONG');
  const lost = { name: 'SourceError', code: 'demo-connection' };
  await assert.rejects(client.call('GET', 'x'), lost);
  await assert.rejects(client.call('PING'), lost);
});

test('bytes that are no RESP end the connection with an error', async (t) => {
  const source = await fakeSource(t, [{ kind: 'expect', name: 'PING', reply: 'HTTP/1.1 400\r\n' }]);
  const client = await testClient(t, source.port);
  await assert.rejects(client.call('PING'), { code: 'demo-connection', message: /Protocol error/ });
});
