/**
 * A tiny value of each form that not every server takes: a target that RESTOREs it knows the form. Used by
 * target/write/probe.ts.
 */
import { textDouble } from './doubles.ts';
import { FORM, type Form } from './forms.ts';
import { TYPE } from './opcodes.ts';
import { ValueBuilder } from './value-bytes.ts';

const NAME = Buffer.from('a');
const NUMBER = Buffer.from('1');
/** 2100-01-01: no sample expires while it is tried. */
const AT_MS = 4_102_444_800_000;

const build = (): ValueBuilder => new ValueBuilder();

/** The value as it stands in an RDB, by form; every one is complete and undamaged. */
export const SAMPLES: ReadonlyMap<Form, Buffer> = new Map([
  [TYPE.list, build().length(1).string(NAME).bytes],
  [TYPE.zset, build().length(1).string(NAME).raw(textDouble(1)).bytes],
  [TYPE.zset2, build().length(1).string(NAME).raw(Buffer.alloc(8)).bytes],
  [TYPE.quicklist, build().length(1).string(ziplistOf(NAME)).bytes],
  [TYPE.hashListpack, build().string(listpackOf(NAME, NUMBER)).bytes],
  [TYPE.zsetListpack, build().string(listpackOf(NAME, NUMBER)).bytes],
  [TYPE.quicklist2, build().length(1).length(2).string(listpackOf(NAME)).bytes],
  [TYPE.setListpack, build().string(listpackOf(NAME)).bytes],
  [TYPE.stream, emptyStream(1)],
  [TYPE.stream2, emptyStream(2)],
  [TYPE.stream3, emptyStream(3)],
  [FORM.stream4, emptyStream(4)],
  [FORM.stream5, emptyStream(5)],
  [FORM.hashTtlsPreGa, build().length(1).length(AT_MS).string(NAME).string(NAME).bytes],
  [FORM.hashTtlsListpackPreGa, build().string(listpackOf(NAME, NAME, AT_MS)).bytes],
  [FORM.hashTtls, build().int64(AT_MS).length(1).length(1).string(NAME).string(NAME).bytes],
  [
    FORM.hashTtlsListpack,
    build()
      .int64(AT_MS)
      .string(listpackOf(NAME, NAME, AT_MS)).bytes,
  ],
  [FORM.hashTtlsValkey, build().length(1).string(NAME).string(NAME).int64(AT_MS).bytes],
  // one element: index 0, tag 0, a string
  [FORM.array, build().length(1).length(0).length(0).length(0).string(NAME).bytes],
] as [Form, Buffer][]);

/**
 * Texts of up to 63 bytes, and numbers (protocol.md 3.4). An expiry must be a number: 7.4.1 takes a text of digits, and
 * ends itself by an assertion as soon as it looks at the key (run).
 */
function listpackOf(...items: readonly (Buffer | number)[]): Buffer {
  const entries = items.flatMap((item) =>
    typeof item === 'number'
      ? [Buffer.of(0xf4), int64Of(item), Buffer.of(9)]
      : [Buffer.of(0x80 | item.length), item, Buffer.of(1 + item.length)],
  );
  const body = Buffer.concat([...entries, Buffer.of(0xff)]);
  const head = Buffer.alloc(6);
  head.writeUInt32LE(head.length + body.length);
  head.writeUInt16LE(items.length, 4);
  return Buffer.concat([head, body]);
}

function int64Of(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}

/** A single entry of up to 63 bytes, as text. */
function ziplistOf(text: Buffer): Buffer {
  const head = Buffer.alloc(10);
  const body = Buffer.concat([Buffer.of(0, text.length), text, Buffer.of(0xff)]);
  head.writeUInt32LE(head.length + body.length);
  head.writeUInt32LE(head.length, 4);
  head.writeUInt16LE(1, 8);
  return Buffer.concat([head, body]);
}

/** A stream without entries and groups. */
function emptyStream(generation: 1 | 2 | 3 | 4 | 5): Buffer {
  // nodes, length, last id; its first id, highest deleted id, entries ever added; groups
  const lengths = [0, 0, 0, 0, ...(generation >= 2 ? [0, 0, 0, 0, 0] : []), 0];
  // duration and size of the memory of producers' ids, producers, two counters
  if (generation >= 4) lengths.push(100, 100, 0, 0, 0);
  const out = build();
  for (const length of lengths) out.length(length);
  return out.bytes;
}
