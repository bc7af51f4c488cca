/**
 * CRC-64 "Jones", the checksum behind every RDB and every DUMP payload (protocol.md 3.3). It runs over each
 * byte of the snapshot and again over each RESTORE, so it has to be fast: JavaScript has no quick 64-bit
 * integers, WebAssembly has. The module is assembled below when the program starts (414 bytes), so that
 * there is neither a binary in the tree nor a build step. Used by reader.ts and dump-payload.ts.
 */

// Parameters: reflected in and out, start value 0, no final xor. These are the halves of the reflected polynomial.
const POLYNOMIAL_HIGH = 0x95ac9329;
const POLYNOMIAL_LOW = 0xac4bc9b5;

/** Slice-by-16: table k holds the CRC of each byte followed by k zero bytes, so 16 bytes need no carried state. */
const SLICES = 16;

const { low: TABLE_LOW, high: TABLE_HIGH } = buildTables();

// The module's memory: the tables, one running CRC, and room for one piece of input.
const TABLE_BYTES = 256 * 8;
const STATE_AT = SLICES * TABLE_BYTES;
const INPUT_AT = STATE_AT + 64;
const PIECE_BYTES = 64 * 1024;
const MEMORY_PAGES = Math.ceil((INPUT_AT + PIECE_BYTES) / 65_536);

/** Below this many bytes the copy into the module's memory and the call cost more than plain JavaScript. */
const SHORT_BYTES = 48;

const { memory, run } = instantiate();
const state = new DataView(memory.buffer, STATE_AT, 8);
const input = new Uint8Array(memory.buffer, INPUT_AT, PIECE_BYTES);

/** One running CRC-64. Any number of them may be alive at once: the module keeps no state between calls. */
export class Crc64 {
  // Two signed 32-bit halves: small integers to the engine, where a BigInt would be a heap object per step.
  #low = 0;
  #high = 0;

  /** Back to the start value. */
  reset(): void {
    this.#low = 0;
    this.#high = 0;
  }

  /** Takes in `bytes[start..end)`; the caller guarantees that the range lies inside. */
  update(bytes: Uint8Array, start: number, end: number): void {
    if (end - start < SHORT_BYTES) {
      this.#updateShort(bytes, start, end);
      return;
    }
    for (let at = start; at < end; at += PIECE_BYTES) {
      const pieceEnd = Math.min(at + PIECE_BYTES, end);
      input.set(bytes.subarray(at, pieceEnd));
      state.setInt32(0, this.#low, true);
      state.setInt32(4, this.#high, true);
      run(INPUT_AT, INPUT_AT + pieceEnd - at);
      this.#low = state.getInt32(0, true);
      this.#high = state.getInt32(4, true);
    }
  }

  /** Writes the CRC as it is stored in files and payloads: 8 bytes, little endian. */
  writeTo(out: Uint8Array, at: number): void {
    for (let i = 0; i < 4; i++) {
      out[at + i] = this.#low >>> (8 * i);
      out[at + 4 + i] = this.#high >>> (8 * i);
    }
  }

  /** True where the 8 bytes at `at` hold this CRC. */
  equals(bytes: Uint8Array, at: number): boolean {
    for (let i = 0; i < 4; i++) {
      if (bytes[at + i] !== ((this.#low >>> (8 * i)) & 0xff)) return false;
      if (bytes[at + 4 + i] !== ((this.#high >>> (8 * i)) & 0xff)) return false;
    }
    return true;
  }

  /** True where the CRC is 0. In a file that value means "not computed" (rdbchecksum no). */
  isZero(): boolean {
    return this.#low === 0 && this.#high === 0;
  }

  #updateShort(bytes: Uint8Array, start: number, end: number): void {
    let low = this.#low;
    let high = this.#high;
    for (let at = start; at < end; at++) {
      const index = (low ^ bytes[at]!) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ TABLE_LOW[index]!;
      high = (high >>> 8) ^ TABLE_HIGH[index]!;
    }
    this.#low = low;
    this.#high = high;
  }
}

/** The 16 tables one behind the other, split into low and high halves. */
function buildTables(): { low: Int32Array; high: Int32Array } {
  const low = new Int32Array(SLICES * 256);
  const high = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let lowPart = byte;
    let highPart = 0;
    for (let bit = 0; bit < 8; bit++) {
      const carry = lowPart & 1;
      lowPart = (lowPart >>> 1) | (highPart << 31);
      highPart >>>= 1;
      if (carry === 1) {
        lowPart ^= POLYNOMIAL_LOW;
        highPart ^= POLYNOMIAL_HIGH;
      }
    }
    low[byte] = lowPart;
    high[byte] = highPart;
  }
  for (let at = 256; at < SLICES * 256; at++) {
    const before = low[at - 256]!;
    const beforeHigh = high[at - 256]!;
    low[at] = ((before >>> 8) | (beforeHigh << 24)) ^ low[before & 0xff]!;
    high[at] = (beforeHigh >>> 8) ^ high[before & 0xff]!;
  }
  return { low, high };
}

/** Assembles and starts the module, and fills in its tables. */
function instantiate(): CrcExports {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(assemble()));
  const view = new DataView(exports.memory.buffer);
  // A module's memory is little endian on every machine, hence the view.
  for (let i = 0; i < SLICES * 256; i++) {
    view.setInt32(i * 8, TABLE_LOW[i]!, true);
    view.setInt32(i * 8 + 4, TABLE_HIGH[i]!, true);
  }
  return exports;
}

interface CrcExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  /** Runs the CRC at STATE_AT over the bytes of memory from `at` to `end`. */
  readonly run: (at: number, end: number) => void;
}

/** The part of the global that is used here: @types/node does not declare it. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: CrcExports };
};

/**
 * The module's bytes, for
 *
 *     run(at: i32, end: i32) {
 *       crc = memory[STATE_AT]
 *       while (end - at >= 16) { crc = 16 table look-ups over (memory[at..at+8) ^ crc, memory[at+8..at+16)); at += 16 }
 *       while (at !== end)     { crc = table0[(crc ^ byte at) & 255] ^ (crc >> 8); at += 1 }
 *       memory[STATE_AT] = crc
 *     }
 */
function assemble(): Uint8Array {
  const I32 = 0x7f;
  const I64 = 0x7e;
  const NO_VALUE = 0x40;
  const at = 0;
  const end = 1;
  const crc = 2;
  const next = 3;

  const get = (local: number) => [0x20, local];
  const set = (local: number) => [0x21, local];
  const i32Const = (value: number) => [0x41, ...leb128(value)];
  const i64Const = (value: number) => [0x42, ...leb128(value)];
  // The first immediate is the alignment hint, as a power of two.
  const i64Load = (offset: number) => [0x29, 3, ...leb128(offset)];
  const i64LoadByte = (offset: number) => [0x31, 0, ...leb128(offset)];
  const i64Store = (offset: number) => [0x37, 3, ...leb128(offset)];
  const [i32Eq, i32LessUnsigned, i32Add, i32Subtract, i32And] = [0x46, 0x49, 0x6a, 0x6b, 0x71];
  const [i64Xor, i64ShiftLeft, i64ShiftRight, i32Wrap] = [0x85, 0x86, 0x88, 0xa7];
  const END = 0x0b;
  /** `while (!stop) body` */
  const loop = (stop: readonly number[], body: readonly number[]) => {
    const [block, loopStart, branch, branchIf] = [0x02, 0x03, 0x0c, 0x0d];
    return [block, NO_VALUE, loopStart, NO_VALUE, ...stop, branchIf, 1, ...body, branch, 0, END, END];
  };

  /** Pushes table `slice`'s entry for byte `index` of a local: that byte, times 8, is the place in the table. */
  const lookUp = (local: number, index: number, slice: number) => [
    ...get(local),
    ...(index === 0 ? [...i64Const(3), i64ShiftLeft] : [...i64Const(8 * index - 3), i64ShiftRight]),
    i32Wrap,
    ...i32Const(0xff * 8),
    i32And,
    ...i64Load(slice * TABLE_BYTES),
  ];

  const sixteenBytes = [
    ...[...get(at), ...i64Load(0), ...get(crc), i64Xor, ...set(crc)],
    ...[...get(at), ...i64Load(8), ...set(next)],
    ...lookUp(next, 7, 0),
  ];
  // From the last byte to the first: what does not wait for the CRC is joined while it is still on its way.
  for (let i = 14; i >= 0; i--) sixteenBytes.push(...lookUp(i < 8 ? crc : next, i % 8, 15 - i), i64Xor);
  sixteenBytes.push(...set(crc), ...get(at), ...i32Const(16), i32Add, ...set(at));

  const oneByte = [
    ...[...get(at), ...i64LoadByte(0), ...get(crc), i64Xor, ...set(next)],
    ...lookUp(next, 0, 0),
    ...[...get(crc), ...i64Const(8), i64ShiftRight, i64Xor, ...set(crc)],
    ...[...get(at), ...i32Const(1), i32Add, ...set(at)],
  ];

  const body = [
    ...[1, 2, I64], // one group of locals: two i64
    ...[...i32Const(0), ...i64Load(STATE_AT), ...set(crc)],
    ...loop([...get(end), ...get(at), i32Subtract, ...i32Const(16), i32LessUnsigned], sixteenBytes),
    ...loop([...get(at), ...get(end), i32Eq], oneByte),
    ...[...i32Const(0), ...get(crc), ...i64Store(STATE_AT)],
    END,
  ];

  const name = (text: string) => [text.length, ...Buffer.from(text)];
  const section = (id: number, content: readonly number[]) => [id, ...leb128(content.length), ...content];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic, version
    ...section(1, [1, 0x60, 2, I32, I32, 0]), // types: (i32, i32) -> nothing
    ...section(3, [1, 0]), // functions: one, of type 0
    ...section(5, [1, 0, MEMORY_PAGES]), // memories: one, without an upper limit
    ...section(7, [2, ...name('memory'), 2, 0, ...name('run'), 0, 0]), // exports
    ...section(10, [1, ...leb128(body.length), ...body]), // code
  ]);
}

/** A number >= 0 as LEB128. Constants are read as signed: fine for those used here, none has its last byte's top bit set. */
function leb128(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  return [...bytes, rest];
}
