import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Redis } from 'ioredis';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { payloadLength, stampOf, writeFooter } from '../../../src/rdb/dump-payload.ts';
import { startServer } from './support.ts';

let server: { client: Redis; close: () => Promise<void> };
before(async () => {
  server = await startServer();
});
after(() => server.close());

/** A payload made the way a writer does: type, value in pieces, footer, straight into the output. */
function payloadOf(type: number, value: Buffer, version: number, piece = value.length): Buffer {
  const out = Buffer.alloc(payloadLength(value.length));
  const crc = new Crc64();
  out[0] = type;
  crc.update(out, 0, 1);
  let at = 1;
  for (let from = 0; from < value.length; from += piece) {
    const end = at + value.copy(out, at, from, from + piece);
    crc.update(out, at, end);
    at = end;
  }
  assert.equal(writeFooter(crc, out, at, version), out.length);
  return out;
}

async function fill(client: Redis): Promise<string[]> {
  await client.set('string', 'value');
  await client.rpush('list', 'a', '1');
  await client.sadd('intset', '1', '2');
  // one member, as in the two big ones: a hash table writes several in an order of its own
  await client.sadd('set', 'b'.repeat(100));
  await client.hset('hash', 'f', 'v');
  await client.hset('bighash', 'f', 'v'.repeat(100_000));
  await client.zadd('zset', 1.5, 'm');
  await client.zadd('bigzset', 1.5, 'm'.repeat(100));
  await client.xadd('stream', '*', 'f', 'v');
  return client.keys('*');
}

test('payloads come out as the server itself writes them', async () => {
  for (const key of await fill(server.client)) {
    const real = await server.client.dumpBuffer(key);
    const value = real.subarray(1, -10);
    assert.deepEqual(payloadOf(real[0]!, value, 10), real);
    assert.deepEqual(payloadOf(real[0]!, value, 10, 7), real, 'in pieces');
  }
});

test('the server takes the stamp of the type, not only its own version', async () => {
  for (const key of await fill(server.client)) {
    const real = await server.client.dumpBuffer(key);
    const stamp = stampOf(real[0]!, 'redis');
    assert.ok(stamp !== null);
    const payload = payloadOf(real[0]!, real.subarray(1, -10), stamp);
    await server.client.call('RESTORE', 'copy', '0', payload, 'REPLACE');
    assert.deepEqual(await server.client.dumpBuffer('copy'), real);
    payload[payload.length - 1]! ^= 1;
    await assert.rejects(server.client.call('RESTORE', 'copy', '0', payload, 'REPLACE'), /checksum/);
  }
});

test('a version above 255', () => {
  assert.deepEqual(payloadOf(0, Buffer.from('x'), 0x1234).subarray(2, 4), Buffer.from([0x34, 0x12]));
});

test('stamps', () => {
  const both = {
    0: 6,
    1: 6,
    4: 6,
    5: 8,
    7: 8,
    9: 6,
    13: 6,
    14: 7,
    15: 9,
    16: 10,
    18: 10,
    19: 10,
    20: 11,
    21: 11,
  };
  for (const [type, stamp] of Object.entries(both)) {
    assert.equal(stampOf(Number(type), 'redis'), stamp, `redis ${type}`);
    assert.equal(stampOf(Number(type), 'valkey'), stamp, `valkey ${type}`);
  }
  const families = [22, 23, 24, 25, 26, 27, 28].map((type) => [
    stampOf(type, 'redis'),
    stampOf(type, 'valkey'),
  ]);
  assert.deepEqual(families, [
    [12, 80],
    [12, null],
    [12, null],
    [12, null],
    [13, null],
    [14, null],
    [14, null],
  ]);
  for (const type of [6, 8, 29, 64, 243, 255]) assert.equal(stampOf(type, 'redis'), null, String(type));
});
