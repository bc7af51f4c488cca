/** Values of the newest servers, written in every older form, taken by the oldest servers that know it, and equal. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { compareServers } from '../../../src/demo/compare.ts';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { payloadLength, stampOf, writeFooter } from '../../../src/rdb/dump-payload.ts';
import { FORM, type Form, familyOf, formOf, planForm, typeOf } from '../../../src/rdb/forms.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import { SAMPLES } from '../../../src/rdb/samples.ts';
import { type Transcoded, transcode } from '../../../src/rdb/transcode.ts';
import { type Command, ReplyError, type RespConnection } from '../../../src/resp/connection.ts';
import { testClient } from '../../helpers/client.ts';
import { type Release, serverReleases } from '../../helpers/releases.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';
import { len, lzfStr, str } from './build.ts';
import { dumpFixtures, withoutFixtures } from './support.ts';

const releases = serverReleases();
const find = (kind: Release['kind'], version: string): Release | undefined =>
  releases.find((release) => release.kind === kind && release.version.startsWith(version));

/** Each form, and the oldest server of this machine that takes it. */
const OLDEST: readonly (readonly [Form, Release | undefined])[] = [
  [TYPE.list, find('redis', '2.8')],
  [TYPE.set, find('redis', '2.8')],
  [TYPE.zset, find('redis', '2.8')],
  [TYPE.hash, find('redis', '2.8')],
  [TYPE.stream, find('redis', '5.0')],
  [TYPE.stream2, find('redis', '7.0')],
  [TYPE.stream3, find('redis', '7.2')],
  [FORM.hashTtls, find('redis', '7.4')],
  [FORM.hashTtlsValkey, find('valkey', '9')],
];

/** Far enough away that no field expires here. */
const LATER = 4_102_444_800_000;
const BINARY = Buffer.from([0, 255, 13, 10, 36, 53, 128]);

/** Commands that make values of every kind, small and packed ones as well as big ones. */
function commands(features: { readonly fieldTtls: boolean; readonly createConsumer: boolean }): Command[] {
  const texts = [
    '',
    'a',
    '7',
    '-1',
    '127',
    '128',
    '-4096',
    '70000',
    '-9223372036854775808',
    '9223372036854775807',
  ];
  const items = [...texts, '00012', '1e3', 'x'.repeat(63), 'x'.repeat(64), BINARY];
  const scores = [
    '0',
    '-0',
    '1',
    '-7',
    '0.1',
    '1e300',
    '-5e-324',
    '3.141592653589793',
    'inf',
    '-inf',
    '123456789012345680',
    '1.7976931348623157e308',
  ];
  const many = Array.from({ length: 700 }, (_, i) => `item ${i} ${'abc'.repeat(i % 50)}`);
  const made: Command[] = [
    ['RPUSH', 'list', ...items],
    ['RPUSH', 'list:nodes', ...many, 'y'.repeat(20_000), 'abc'.repeat(9_000)],
    ['SADD', 'set', ...items],
    ['SADD', 'set:ints', 1, 2, 70_000],
    ['HSET', 'hash', ...items.flatMap((item) => [item, item])],
    ['HSET', 'hash:lzf', 'f', 'abc'.repeat(20), 'g', 'abc'.repeat(20)],
    ['ZADD', 'zset', ...scores.flatMap((score, i) => [score, `m${i}`]), 5, '', 6, BINARY],
    ['ZADD', 'zset:big', ...many.flatMap((member, i) => [i / 7, member]), 'inf', '', '-inf', BINARY],
    ...Array.from(
      { length: 250 },
      (_, i): Command => ['XADD', 'stream', `${i + 5}-1`, 'f', `v${i}`, 'g', ''],
    ),
    ['XDEL', 'stream', '5-1', '20-1', '254-1'],
    ['XGROUP', 'CREATE', 'stream', 'group', '0'],
    ['XGROUP', 'CREATE', 'stream', BINARY, '100-1'],
    ['XREADGROUP', 'GROUP', 'group', 'one', 'COUNT', 20, 'STREAMS', 'stream', '>'],
    ['XREADGROUP', 'GROUP', 'group', BINARY, 'COUNT', 5, 'STREAMS', 'stream', '>'],
    ['XACK', 'stream', 'group', '7-1', '9-1'],
    // pending, and deleted: it stays pending
    ['XDEL', 'stream', '8-1'],
    ['XGROUP', 'CREATE', 'stream:empty', 'group', '$', 'MKSTREAM'],
  ];
  if (features.createConsumer) made.push(['XGROUP', 'CREATECONSUMER', 'stream', 'group', 'idle']);
  if (!features.fieldTtls) return made;
  for (const [key, value] of [
    ['ttls', 'v'],
    ['ttls:table', 'v'.repeat(200)],
  ] as const) {
    made.push(
      ['HSET', key, 'keeps', value, 'a', value, '', 'v', '12', '34', BINARY, BINARY],
      ['HPEXPIREAT', key, LATER + 5, 'FIELDS', 1, 'a'],
      ['HPEXPIREAT', key, LATER, 'FIELDS', 2, '', BINARY],
    );
  }
  return made;
}

async function run(client: RespConnection, all: readonly Command[]): Promise<void> {
  for (const [i, reply] of (await client.pipeline(all)).entries()) {
    assert.ok(!(reply instanceof ReplyError), `${String(all[i]?.slice(0, 3))}: ${String(reply)}`);
  }
}

function payload(form: Form, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.of(typeOf(form)), value]);
  const bytes = Buffer.concat([body, Buffer.alloc(payloadLength(value.length) - body.length)]);
  const crc = new Crc64();
  crc.update(bytes, 0, body.length);
  writeFooter(crc, bytes, body.length, stampOf(typeOf(form), familyOf(form))!);
  return bytes;
}

const written = (from: Form, to: Form, value: Buffer): Transcoded =>
  transcode(from, to, value, 0, value.length, 0);

async function serverOf(t: Cleanup, release: Release): Promise<{ port: number; client: RespConnection }> {
  const { port } = await testServer(t, { binary: release.path });
  return { port, client: await testClient(t, port) };
}

describe('values of real servers', () => {
  const sources = [
    ...['5.0', '6.2', '7.0', '7.4', '8.2'].map((version) => find('redis', version)),
    find('valkey', '9.1'),
  ];
  for (const release of sources) {
    if (release === undefined) continue;
    it(`of ${release.kind} ${release.version}, in every older form`, async (t) => {
      const { port, client } = await serverOf(t, release);
      const fieldTtls = release.major > 7 || (release.major === 7 && release.minor >= 4);
      await run(client, commands({ fieldTtls, createConsumer: release.major > 5 }));
      const keys = (await client.call('KEYS', '*')) as Buffer[];
      const seen = new Set<Form>();
      for (const [form, oldest] of OLDEST) {
        if (oldest === undefined) continue;
        const target = await serverOf(t, oldest);
        const restored: string[] = [];
        for (const key of keys) {
          const dump = (await client.call('DUMP', key)) as Buffer;
          const from = formOf(dump[0]!, release.kind);
          // not in its own form, and not in a third one
          if (from === form || planForm(from, new Set([form])) !== form) continue;
          const value = dump.subarray(1, -10);
          const older = written(from, form, value);
          assert.equal(older.form, form);
          const name = key.toString();
          const lossy = name.startsWith('ttls') && form === TYPE.hash;
          assert.deepEqual(
            older.losses,
            lossy
              ? ['field-ttls']
              : name === 'stream'
                ? STREAM_LOSSES[`${from} ${form}`]
                : from === TYPE.stream2 || form === TYPE.stream
                  ? ['stream-counters']
                  : [],
            name,
          );
          await target.client.call('RESTORE', key, 0, payload(older.form, older.value));
          restored.push(name);
          seen.add(from);
        }
        const exclude = keys.map(String).filter((name) => !restored.includes(name));
        const { different, missing, extra, first, compared } = await compareServers(port, target.port, {
          exclude,
        });
        assert.deepEqual([different, missing, extra], [0, 0, 0], `${form} on ${oldest.version}: ${first}`);
        assert.equal(compared, restored.length);
      }
      const packed =
        release.major >= 7
          ? [TYPE.quicklist2, TYPE.zset2, TYPE.hashListpack, TYPE.zsetListpack]
          : [TYPE.quicklist, TYPE.zset2];
      for (const form of packed) assert.ok(seen.has(form), `${form} among ${[...seen]}`);
    });
  }
});

/** What a stream with a consumer loses. */
const STREAM_LOSSES: Readonly<Record<string, string[]>> = {
  [`${TYPE.stream2} ${TYPE.stream}`]: ['stream-counters'],
  [`${TYPE.stream3} ${TYPE.stream}`]: ['stream-counters'],
  [`${TYPE.stream3} ${TYPE.stream2}`]: ['stream-counters'],
};

/** Streams of 8.6 and 8.8 as protocol.md 3.4 has them: no server of these releases is here. */
describe('streams that no server here writes', () => {
  const id = (ms: number): Buffer => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64BE(BigInt(ms), 0);
    return bytes;
  };
  const time = (ms: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(ms));
    return bytes;
  };
  const pending = (ms: number): Buffer => Buffer.concat([id(ms), time(1_000), len(1)]);
  interface Parts {
    readonly consumers: readonly Buffer[];
    readonly nacked?: readonly Buffer[];
    readonly producers?: boolean;
  }
  /** No nodes; one group with three pending entries. */
  const stream = (generation: 1 | 3 | 4 | 5, { consumers, nacked = [], producers = false }: Parts): Buffer =>
    Buffer.concat([
      ...[len(0), len(0), len(9), len(0)],
      ...(generation >= 2 ? [len(0), len(0), len(8), len(0), len(3)] : []),
      ...[len(1), str('group'), len(9), len(0)],
      ...(generation >= 2 ? [len(2n ** 64n - 1n)] : []),
      ...[len(3), pending(1), pending(2), pending(3)],
      ...[len(consumers.length), ...consumers],
      ...(generation >= 5 ? [len(nacked.length), ...nacked] : []),
      ...(generation >= 4 ? [len(100), len(100)] : []),
      ...(generation >= 4
        ? producers
          ? [len(1), str('p'), len(1), str('i'), len(9), len(0)]
          : [len(0)]
        : []),
      ...(generation >= 4 ? [len(1), len(0)] : []),
    ]);
  const consumer = (name: string, active: number | null, ...ids: Buffer[]): Buffer =>
    Buffer.concat([
      str(name),
      time(0),
      active === null ? Buffer.alloc(0) : time(active),
      len(ids.length),
      ...ids,
    ]);

  it('27: pending entries without an owner get one, and producers go', () => {
    const value = stream(5, {
      consumers: [consumer('one', 7, id(2))],
      nacked: [id(1), id(3)],
      producers: true,
    });
    const nacks = { consumers: [consumer('one', 7, id(2)), consumer('nacked', -1, id(1), id(3))] };
    assert.deepEqual(written(FORM.stream5, FORM.stream4, value), {
      form: FORM.stream4,
      value: stream(4, { ...nacks, producers: true }),
      losses: ['stream-nacks'],
    });
    assert.deepEqual(written(FORM.stream5, TYPE.stream3, value), {
      form: TYPE.stream3,
      value: stream(3, nacks),
      losses: ['stream-nacks', 'stream-producers'],
    });
    const oldest = { consumers: [consumer('one', null, id(2)), consumer('nacked', null, id(1), id(3))] };
    assert.deepEqual(written(FORM.stream5, TYPE.stream, value), {
      form: TYPE.stream,
      value: stream(1, oldest),
      losses: ['stream-counters', 'stream-nacks', 'stream-producers'],
    });
  });

  it('27: a consumer of that name is there', () => {
    const value = stream(5, { consumers: [consumer('nacked', 7, id(2))], nacked: [id(1), id(3)] });
    const { value: older } = written(FORM.stream5, FORM.stream4, value);
    assert.deepEqual(older, stream(4, { consumers: [consumer('nacked', 7, id(2), id(1), id(3))] }));
  });

  it('26 and 27 without any of it lose nothing on the way to 21', () => {
    const consumers = [consumer('one', 7, id(1), id(2), id(3))];
    for (const [from, generation] of [
      [FORM.stream4, 4],
      [FORM.stream5, 5],
    ] as const) {
      assert.deepEqual(written(from, TYPE.stream3, stream(generation, { consumers })), {
        form: TYPE.stream3,
        value: stream(3, { consumers }),
        losses: [],
      });
    }
  });

  it('what is made of them is taken by a server', async (t) => {
    const release = find('redis', '5.0');
    if (release === undefined) return t.skip('no Redis 5.0 is here');
    const { client } = await serverOf(t, release);
    const value = stream(5, { consumers: [consumer('one', 7, id(2))], nacked: [id(1), id(3)] });
    const older = written(FORM.stream5, TYPE.stream, value);
    await client.call('RESTORE', 's', 0, payload(older.form, older.value));
    const [count, , , holders] = (await client.call('XPENDING', 's', 'group')) as unknown[];
    assert.equal(count, 3);
    assert.deepEqual(String(holders), 'nacked,2,one,1');
  });
});

describe('which form', () => {
  const planned = (form: Form, ...taken: Form[]): Form | null => planForm(form, new Set(taken));

  it('its own first, then the one that loses least', () => {
    assert.equal(planned(FORM.hashTtls, TYPE.hash, FORM.hashTtls), FORM.hashTtls);
    assert.equal(planned(FORM.hashTtlsListpack, TYPE.hash, FORM.hashTtls), FORM.hashTtls);
    assert.equal(planned(FORM.hashTtlsListpack, TYPE.hash, FORM.hashTtlsValkey), FORM.hashTtlsValkey);
    assert.equal(planned(FORM.hashTtlsValkey, TYPE.hash, 22), TYPE.hash);
    assert.equal(planned(FORM.stream5, TYPE.stream, TYPE.stream2), TYPE.stream2);
    assert.equal(planned(TYPE.stream, TYPE.hash), null);
    assert.equal(planned(FORM.array, TYPE.hash), null);
    assert.equal(planned(TYPE.module2, TYPE.module2), TYPE.module2);
    assert.equal(planned(TYPE.module2, TYPE.hash), null);
  });

  it('an id of both families keeps apart', () => {
    assert.equal(formOf(22, 'redis'), FORM.hashTtlsPreGa);
    assert.equal(formOf(22, 'valkey'), FORM.hashTtlsValkey);
    assert.deepEqual([typeOf(FORM.hashTtlsValkey), familyOf(FORM.hashTtlsValkey)], [22, 'valkey']);
    assert.equal(formOf(21, 'valkey'), TYPE.stream3);
  });
});

describe('damage', () => {
  /** All that can be made of a value. */
  function everyWay(from: Form, value: Buffer): void {
    for (const to of SAMPLES.keys()) {
      if (to === from || planForm(from, new Set([to])) !== to) continue;
      try {
        transcode(from, to, value, 0, value.length, 1_000);
      } catch (error) {
        assert.ok(error instanceof RdbFormatError, String(error));
        assert.ok(error.offset >= 1_000 && error.offset <= 1_000 + value.length, `offset ${error.offset}`);
      }
    }
  }

  it('each sample, cut at every byte and with every byte changed', () => {
    for (const [form, sample] of SAMPLES) {
      for (let at = 0; at < sample.length; at++) {
        everyWay(form, sample.subarray(0, at));
        for (const byte of [0, 1, 0x7f, 0x81, 0xc3, 0xff]) {
          const changed = Buffer.from(sample);
          changed[at] = byte;
          everyWay(form, changed);
        }
      }
    }
  });

  it('a value that is cut, and one that goes on', () => {
    const older = TYPE.hash;
    const value = Buffer.concat([len(1), str('f'), str('v'), Buffer.alloc(8, 0xff)]);
    assert.deepEqual(
      written(FORM.hashTtlsValkey, older, value).value,
      Buffer.concat([len(1), str('f'), str('v')]),
    );
    for (const bad of [value.subarray(0, -1), Buffer.concat([value, len(0)])])
      assert.throws(() => written(FORM.hashTtlsValkey, older, bad), RdbFormatError);
  });

  it('a score that is NaN, or none', () => {
    const nan = Buffer.alloc(8);
    nan.writeDoubleLE(Number.NaN);
    assert.throws(
      () => written(TYPE.zset2, TYPE.zset, Buffer.concat([len(1), str('m'), nan])),
      RdbFormatError,
    );
    // the sample's member for a score
    const packed = Buffer.from(SAMPLES.get(TYPE.zsetListpack)!);
    packed[packed.indexOf('1')] = 0x78;
    assert.throws(() => written(TYPE.zsetListpack, TYPE.zset, packed), RdbFormatError);
  });

  it('a field without its value, a member without its score', () => {
    // a set of one: an odd number of elements
    const odd = SAMPLES.get(TYPE.setListpack)!;
    for (const [from, to] of [
      [TYPE.hashListpack, TYPE.hash],
      [TYPE.zsetListpack, TYPE.zset],
    ] as const) {
      assert.throws(() => written(from, to, odd), RdbFormatError);
    }
  });

  it('a bomb is refused by its lengths', () => {
    const bomb = Buffer.concat([Buffer.of(0xc3), len(10), len(2n ** 40n), Buffer.alloc(10)]);
    assert.throws(() => written(TYPE.hashListpack, TYPE.hash, bomb), RdbFormatError);
    assert.throws(() => written(TYPE.hashListpack, TYPE.hash, lzfStr(5_000, 0x61)), RdbFormatError);
  });

  it('the damaged payloads of the servers’ own tests', { skip: withoutFixtures }, () => {
    let tried = 0;
    for (const { bytes } of dumpFixtures()) {
      if (bytes.length < 11) continue;
      const version = bytes.readUInt16LE(bytes.length - 10);
      const from = formOf(bytes[0]!, version >= 80 && version < 200 ? 'valkey' : 'redis');
      everyWay(from, bytes.subarray(1, -10));
      tried++;
    }
    assert.ok(tried > 40, `${tried} payloads`);
  });
});
