/** Which keys the tail check takes out of a stream, and that their questions are bounded. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { SourceError } from '../../../src/core/errors.ts';
import { latestKeys } from '../../../src/migrate/tail-check.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';

function stream(...commands: readonly string[]): Buffer {
  return Buffer.concat(commands.map((command) => encodeCommand(command.split(' '))));
}

function names(bytes: Buffer, limit = 100, db = 0): string[] {
  return latestKeys(bytes, db, limit).map((found) => `${found.db}:${found.key}`);
}

function probes(...commands: readonly string[]): string[] {
  return latestKeys(stream(...commands), 0, 1).flatMap((found) =>
    found.probes.map((words) => words.join(' ')),
  );
}

it('latest first, each once, no more than wanted', () => {
  const bytes = stream('SET a 1', 'set b 1', 'HSET c f v', 'SET a 2');
  assert.deepEqual(names(bytes), ['0:a', '0:c', '0:b']);
  assert.deepEqual(names(bytes, 2), ['0:a', '0:c']);
  assert.deepEqual(names(bytes, 0), []);
  assert.deepEqual(names(stream('DEL a b c'), 2), ['0:a', '0:b']);
});

it('follows SELECT, in transactions too, and inline as sources up to 2.6 send it', () => {
  const bytes = Buffer.concat([
    stream('SET a 1', 'MULTI', 'SELECT 3', 'SET a 1', 'EXEC'),
    Buffer.from('select 5\r\n'),
  ]);
  assert.deepEqual(names(Buffer.concat([bytes, stream('SET a 1')]), 9, 2), ['5:a', '3:a', '2:a']);
});

it('knows where the keys are', () => {
  assert.deepEqual(names(stream('DEL a b')), ['0:a', '0:b']);
  assert.deepEqual(names(stream('MSET a 1 b 2')), ['0:a', '0:b']);
  assert.deepEqual(names(stream('MSETNX a 1 b 2')), ['0:a', '0:b']);
  assert.deepEqual(names(stream('RENAME a b')), ['0:a', '0:b']);
  assert.deepEqual(names(stream('COPY a b REPLACE')), ['0:a', '0:b']);
  assert.deepEqual(names(stream('COPY a b DB 4')), ['0:a']);
  assert.deepEqual(names(stream('LMOVE a b LEFT RIGHT')), ['0:a', '0:b']);
  assert.deepEqual(names(stream('BITOP AND a b c')), ['0:a']);
  assert.deepEqual(names(stream('XGROUP CREATE a g $')), ['0:a']);
  assert.deepEqual(names(stream('ZUNIONSTORE a 2 b c')), ['0:a']);
});

it('passes over what names no key, our own keys, and keys that are very long', () => {
  const without = [
    'PING',
    'REPLCONF GETACK *',
    'MULTI',
    'EXEC',
    'PUBLISH a b',
    'SPUBLISH a b',
    'SCRIPT LOAD x',
  ];
  const scripts = ['FUNCTION LOAD x', 'EVAL x 1 a', 'EVALSHA x 1 a', 'FCALL f 1 a'];
  const own = ['HMSET redis-cutover:checkpoint a b', `SET ${'k'.repeat(1025)} 1`];
  assert.deepEqual(names(stream(...without, ...scripts, ...own)), []);
  assert.deepEqual(names(stream('SET redis-cutove 1')), ['0:redis-cutove']);
});

it('forgets what lay in databases that were emptied or swapped', () => {
  for (const command of ['FLUSHALL', 'flushdb', 'FLUSHALL ASYNC', 'SWAPDB 0 1']) {
    assert.deepEqual(names(stream('SET a 1', command, 'SET b 1')), ['0:b'], command);
  }
});

it('takes a stream that ends in the middle of a command', () => {
  const bytes = stream('SET a 1', 'SET b 1');
  const first = stream('SET a 1').length;
  for (let end = first; end < bytes.length; end++) assert.deepEqual(names(bytes.subarray(0, end)), ['0:a']);
  assert.deepEqual(names(Buffer.alloc(0)), []);
  assert.throws(
    () => names(Buffer.from('*1\r\nnothing')),
    (error: unknown) => error instanceof SourceError && error.code === 'stream-garbage',
  );
});

it('keeps bytes of its own', () => {
  const bytes = stream('HSET key field value');
  const [found] = latestKeys(bytes, 0, 1);
  bytes.fill(0);
  assert.equal(found?.key.toString(), 'key');
  assert.deepEqual(found?.probes.map(String), ['HGET,key,field']);
});

it('reads back what is short, and only sizes and ends of what is long', () => {
  const long = 'v'.repeat(257);
  assert.deepEqual(probes('SET k v'), ['GETRANGE k 0 256']);
  assert.deepEqual(probes('HSET k f v'), ['HGET k f']);
  assert.deepEqual(probes('ZADD k NX 1 m'), ['ZSCORE k m']);
  assert.deepEqual(probes('SADD k a m'), ['SISMEMBER k m']);
  assert.deepEqual(probes('LPUSH k a'), ['LLEN k', 'LINDEX k 0']);
  assert.deepEqual(probes('RPUSH k a'), ['LLEN k', 'LINDEX k -1']);
  assert.deepEqual(probes('XADD k 1-1 f v'), ['XREVRANGE k + - COUNT 1']);
  assert.deepEqual(probes('DEL k'), ['TYPE k']);

  const ends = ['STRLEN k', 'GETRANGE k 0 255', 'GETRANGE k -256 -1'];
  assert.deepEqual(probes(`SET k ${long}`), ends);
  assert.deepEqual(probes('APPEND k v'), ends);
  assert.deepEqual(probes(`HSET k f ${long}`), ['HEXISTS k f']);
  assert.deepEqual(probes(`HSET k ${long} v`), ['TYPE k', ...ends, 'LLEN k', 'SCARD k', 'ZCARD k']);
  assert.deepEqual(probes(`ZADD k 1 ${long}`), ['ZCARD k']);
  assert.deepEqual(probes(`SADD k ${long}`), ['SCARD k']);
  assert.deepEqual(probes(`LPUSH k ${long}`), ['LLEN k']);
  assert.deepEqual(probes('LPOP k'), ['LLEN k']);
  assert.deepEqual(probes(`XADD k 1-1 f ${long}`), ['XLEN k']);
});

it('takes the questions from the command that wrote the value, not from its expiry', () => {
  assert.deepEqual(probes('HSET k f v', 'EXPIRE k 9'), ['HGET k f']);
  assert.deepEqual(probes('SET k v', 'HSET k f v', 'PEXPIREAT k 9', 'PERSIST k'), ['HGET k f']);
  assert.deepEqual(probes('EXPIRE k 9'), ['TYPE k']);
  assert.deepEqual(probes('HSET k f v', 'DEL k'), ['TYPE k']);
});

it('does not look through all of a stream for a few keys', () => {
  const hot = Array.from({ length: 30 }, () => 'INCR hot');
  assert.deepEqual(names(stream('SET a 1', ...hot), 2), ['0:hot']);
});
