/** The comparison: blind to encodings, sharp on everything that an application could notice. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { compareServers } from '../../../src/demo/compare.ts';
import type { Command, RespConnection } from '../../../src/resp/connection.ts';
import { ReplyError } from '../../../src/resp/connection.ts';
import { testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { testServer } from '../../helpers/server.ts';

describe('compareServers', () => {
  let left: RespConnection;
  let right: RespConnection;
  let leftPort: number;
  let rightPort: number;

  // after() cannot be called within before(): what is to end there is gathered here
  const ends: (() => void | Promise<void>)[] = [];
  const suite = { after: (end: () => void | Promise<void>) => void ends.unshift(end) };
  after(async () => {
    for (const end of ends) await end();
  });

  before(async () => {
    // The right side uses the encodings of large values for everything
    const one = await testServer(suite);
    const large = ['hash-max-listpack-entries', 'zset-max-listpack-entries', 'set-max-intset-entries'];
    const two = await testServer(suite, {
      args: [...large.flatMap((name) => [`--${name}`, '0']), '--list-max-listpack-size', '1'],
    });
    [leftPort, rightPort] = [one.port, two.port];
    left = await testClient(suite, leftPort);
    right = await testClient(suite, rightPort);
  });

  const onBoth: Command[] = [
    ['SELECT', 0],
    ['SET', 's', 'value'],
    ['RPUSH', 'l', 'a', 'b', 'c'],
    ['SADD', 'set', 1, 2, 3],
    ['HSET', 'h', 'f', 'v', 'g', 'w'],
    ['ZADD', 'z', '0.1', 'a', 'inf', 'b'],
    ['SET', 'ttl', 'x', 'PXAT', 4_000_000_000_000],
    ['XADD', 'x', '1-1', 'a', 'b'],
    ['XADD', 'x', '2-1', 'a', 'b'],
    ['XGROUP', 'CREATE', 'x', 'g', '0'],
    ['XGROUP', 'CREATECONSUMER', 'x', 'g', 'idle'],
    ['XCLAIM', 'x', 'g', 'c', 0, '1-1', 'TIME', 1_000, 'RETRYCOUNT', 2, 'FORCE', 'JUSTID'],
    ['SELECT', 3],
    ['SET', 's', 'third'],
    ['SELECT', 0],
  ];

  async function run(client: RespConnection, commands: readonly Command[]): Promise<void> {
    for (const reply of await client.pipeline(commands)) {
      if (reply instanceof ReplyError) throw reply;
    }
  }

  async function reset(changes: readonly Command[]): Promise<void> {
    for (const client of [left, right]) {
      await run(client, [['FLUSHALL'], ['FUNCTION', 'FLUSH'], ...onBoth]);
    }
    await run(right, changes);
  }

  test('the same data in other encodings is equal', async () => {
    await reset([]);
    const encodings = await Promise.all(
      [left, right].map((client) => client.call('OBJECT', 'ENCODING', 'h')),
    );
    assert.deepEqual(encodings.map(String), ['listpack', 'hashtable']);
    const { digestA, digestB, ...found } = await compareServers(leftPort, rightPort);
    assert.deepEqual(found, { compared: 8, different: 0, aspects: {}, missing: 0, extra: 0, first: null });
    assert.match(digestA ?? '', /^[0-9a-f]{40}$/);
    assert.equal(digestA, digestB);
  });

  const library = "#!lua name=m\nredis.register_function('f', function() return 1 end)";
  const differences: [what: string, changes: Command[], first: RegExp][] = [
    ['a string', [['APPEND', 's', '!']], /db0 "s" \(string\): values differ/],
    [
      'another database',
      [
        ['SELECT', 3],
        ['SET', 's', 'x'],
        ['SELECT', 0],
      ],
      /db3 "s"/,
    ],
    ['the order of a list', [['LMOVE', 'l', 'l', 'LEFT', 'RIGHT']], /"l" \(list\)/],
    [
      'a member of a set',
      [
        ['SREM', 'set', 3],
        ['SADD', 'set', 4],
      ],
      /"set"/,
    ],
    ['a field', [['HSET', 'h', 'g', 'W']], /"h"/],
    ['a score by one unit in the last place', [['ZADD', 'z', '0.10000000000000002', 'a']], /"z"/],
    ['no expiry', [['PERSIST', 'ttl']], /"ttl" \(string\): expiry differs/],
    ['an expiry', [['PEXPIRE', 's', 100_000]], /"s" \(string\): expiry differs/],
    ['another expiry', [['PEXPIREAT', 'ttl', 4_000_000_002_000]], /"ttl"/],
    [
      'a type',
      [
        ['DEL', 's'],
        ['RPUSH', 's', 'value'],
      ],
      /"s" is a string here, a list there/,
    ],
    ['a stream entry', [['XADD', 'x', '3-1', 'a', 'b']], /"x" \(stream\)/],
    ["a stream's last id", [['XSETID', 'x', '9-1']], /"x"/],
    [
      'a deleted entry',
      [
        ['XADD', 'x', '3-1', 'a', 'b'],
        ['XDEL', 'x', '3-1'],
        ['XSETID', 'x', '2-1'],
      ],
      /"x"/,
    ],
    ["a group's position", [['XGROUP', 'SETID', 'x', 'g', '1-1']], /"x"/],
    ['a pending entry', [['XACK', 'x', 'g', '1-1']], /"x"/],
    [
      'a delivery count',
      [['XCLAIM', 'x', 'g', 'c', 0, '1-1', 'TIME', 1_000, 'RETRYCOUNT', 3, 'FORCE', 'JUSTID']],
      /"x"/,
    ],
    ['a consumer', [['XGROUP', 'DELCONSUMER', 'x', 'g', 'idle']], /"x"/],
    ['a function library', [['FUNCTION', 'LOAD', library]], /function libraries differ/],
  ];
  for (const [what, changes, first] of differences) {
    test(`finds: ${what}`, async () => {
      await reset(changes);
      const found = await compareServers(leftPort, rightPort);
      assert.deepEqual([found.different, found.missing, found.extra], [1, 0, 0]);
      assert.match(found.first ?? '', first);
    });
  }

  test('finds missing and extra keys', async () => {
    await reset([
      ['DEL', 'l', 'h'],
      ['SET', 'new', 1],
      ['SELECT', 7],
      ['SET', 'new', 1],
      ['SELECT', 0],
    ]);
    const found = await compareServers(leftPort, rightPort);
    assert.deepEqual([found.compared, found.different, found.missing, found.extra], [6, 0, 2, 2]);
  });

  test('the same key name may differ in bytes that text cannot show', async () => {
    await reset([['SET', Buffer.from([0xff]), 1]]);
    await run(left, [['SET', Buffer.from([0xfe]), 1]]);
    const found = await compareServers(leftPort, rightPort);
    assert.deepEqual([found.missing, found.extra], [1, 1]);
    assert.match(found.first ?? '', /^[\x20-\x7e\ufffd]+$/);
  });

  test('expiry within the tolerance, our own keys and excluded ones do not count', async () => {
    await reset([
      ['PEXPIREAT', 'ttl', 4_000_000_000_900],
      ['HSET', 'redis-cutover:checkpoint', 'offset', 1],
      ['SET', 'redis-cutover:lease', 'x'],
      ['SET', 'private', 'x'],
    ]);
    const found = await compareServers(leftPort, rightPort, { exclude: ['private'] });
    assert.deepEqual([found.different, found.missing, found.extra], [0, 0, 0]);
    const strict = await compareServers(leftPort, rightPort, { ttlToleranceMs: 100 });
    assert.deepEqual([strict.different, strict.missing, strict.extra], [1, 0, 1]);
  });

  test('-0 is 0: small sorted sets store it so', async () => {
    await reset([['ZADD', 'z', '-0', 'c']]);
    await run(left, [['ZADD', 'z', '-0', 'c']]);
    assert.equal((await compareServers(leftPort, rightPort)).different, 0);
  });

  test('our keys in another database are a finding', async () => {
    await reset([
      ['SELECT', 3],
      ['SET', 'redis-cutover:lease', 'x'],
      ['SELECT', 0],
    ]);
    assert.equal((await compareServers(leftPort, rightPort)).extra, 1);
  });

  for (const [aspect, change] of [
    ['value', ['APPEND', 's', '!']],
    ['stream-counters', ['XSETID', 'x', '2-1', 'ENTRIESADDED', 9]],
    ['stream-counters', ['XGROUP', 'SETID', 'x', 'g', '0', 'ENTRIESREAD', 1]],
    ['functions', ['FUNCTION', 'LOAD', library]],
  ] as const) {
    test(`tells in what: ${aspect} by ${change[0]}`, async () => {
      await reset([change]);
      const { different, aspects } = await compareServers(leftPort, rightPort, { thorough: true });
      assert.deepEqual([different, aspects], [1, { [aspect]: 1 }]);
    });
  }

  test('shows a wrong value before a wrong counter', async () => {
    const counter = ['XSETID', 'x', '2-1', 'ENTRIESADDED', 9];
    await reset([counter, ['SELECT', 3], ['APPEND', 's', '!'], ['SELECT', 0]]);
    const { aspects, first } = await compareServers(leftPort, rightPort, { thorough: true });
    assert.deepEqual(aspects, { 'stream-counters': 1, value: 1 });
    assert.match(first ?? '', /^db3 "s"/);
  });
});

/** Left: what the newer one has, which the older one has no place for. */
const LOSSES: readonly (readonly [
  newer: string,
  older: string,
  commands: readonly Command[],
  aspects: Record<string, number>,
])[] = [
  [
    'redis 8.2',
    'redis 7.2',
    [
      ['HSET', 'h', 'f', 'v'],
      ['HPEXPIRE', 'h', 100_000, 'FIELDS', 1, 'f'],
    ],
    { 'field-ttls': 1 },
  ],
  [
    'redis 7.2',
    'redis 7.0',
    [
      ['XGROUP', 'CREATECONSUMER', 'x', 'g', 'c'],
      ['SET', 's', 1],
    ],
    { 'stream-counters': 1 },
  ],
  ['redis 7.0', 'redis 5.0', [], { 'stream-counters': 1, functions: 1 }],
];

describe('thorough', () => {
  for (const [from, to, commands, aspects] of LOSSES) {
    const [newer, older] = [from, to].map((name) =>
      serverReleases().find(({ kind, version }) => `${kind} ${version}`.startsWith(name)),
    );
    const skip = newer === undefined || older === undefined ? 'npm run servers' : false;
    test(`what ${from} has and ${to} has not`, { skip }, async (t) => {
      const [one, two] = await Promise.all(
        [newer, older].map((release) => testServer(t, { binary: release?.path ?? '' })),
      );
      const library = "#!lua name=m\nredis.register_function('f', function() return 1 end)";
      for (const port of [one!.port, two!.port]) {
        const client = await testClient(t, port);
        await client.call('XADD', 'x', '1-1', 'a', 'b');
        await client.call('XGROUP', 'CREATE', 'x', 'g', '0');
        for (const command of commands) {
          const reply = await client.pipeline([command]);
          if (port === one!.port) assert.ok(!(reply[0] instanceof ReplyError));
        }
        await client.pipeline([['FUNCTION', 'LOAD', library]]);
      }
      const found = await compareServers(one!.port, two!.port, { thorough: true });
      assert.deepEqual([found.aspects, found.missing, found.extra], [aspects, 0, 0], found.first ?? '');
      assert.equal((await compareServers(one!.port, two!.port)).different, 0);
      // an older one has all of it in the newer one
      assert.equal((await compareServers(two!.port, one!.port, { thorough: true })).different, 0);
    });
  }
});
