/** Text that wants to do something to whoever shows it, and how to tell whether it did. */
import assert from 'node:assert/strict';

/** Each names what it tries. All end in `~`, so that one can see whether they were shown at all. */
export const HOSTILE_TEXTS: readonly string[] = [
  'title\u001b]0;owned\u0007\u001b[2J\u001b[31m~',
  'clipboard\u001b]52;c;cm0gLXJmIC8=\u001b\\~',
  'c1\u009b2J\u009d52;c;cm0=\u009c\u0085~',
  'bidi\u202egnp\u2066\u2067\u2069\u200f\u061c~',
  'nothing\u200b\u200d\u2060\ufeff\u00ad\u034f\u115f\u3164\u{e0041}~',
  'lines\r\nERROR: all is lost\n{"event":"summary","exitCode":0}\n\u2028\u2029\u000b\u000c~',
  'html<script>alert(1)</script><img src=x onerror=alert(2)>"\'&<!--]]>~',
  'metrics"} 1\nredis_cutover_up 0\n# HELP x\\~',
  'nul\u0000\u0008\u0008\u007f\u0004~',
  'lone\ud800half\udfff~',
  'shell$(touch /tmp/owned)`id`;|&~',
  `long\u001b[A<x>\u202e${'x'.repeat(100_000)}\u001b[2J~`,
];

/** Bytes that are no UTF-8 besides. */
export const HOSTILE_BYTES = Buffer.concat([
  Buffer.from('bytes\u001b[2J'),
  Buffer.from([0xff, 0xc3, 0x28, 0x9b, 0x00]),
]);

// written anew, not as core/text.ts has it: this is the judge. A tab is none of ours either.
const ACTS =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\u3164\ufeff\ufff9-\ufffb]|\u034f|[\u{e0000}-\u{e007f}]|[\ud800-\udfff]/u;

/** Nothing in it acts on a terminal; lines may end by a newline. */
export function assertHarmless(text: string, where: string): void {
  const at = text.search(ACTS);
  assert.equal(at, -1, `${where}: ${JSON.stringify(text.slice(Math.max(0, at - 120), at + 40))}`);
}

/** Of the live view, ora and clear(1): cursor on and off and about, colours, clearing, whole frames (mode 2026). */
const OWN_SEQUENCES = /\u001b\[(\?(25|2026)[lh]|\d{0,3}[ABCDGHJKm]|\d{1,2}(;\d{1,2})*m)|\r/g;

/** The same for the bytes that a terminal has got from us. */
export function assertHarmlessOnTerminal(text: string, where: string): void {
  assertHarmless(text.replaceAll(OWN_SEQUENCES, ''), where);
}

/** Each line is one JSON object that is harmless as it stands. */
export function assertHarmlessJson(text: string, where: string): Record<string, unknown>[] {
  assertHarmless(text, where);
  assert.ok(text === '' || text.endsWith('\n'), `${where} ends with a line`);
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const value: unknown = JSON.parse(line);
      assert.ok(typeof value === 'object' && value !== null, `${where}: ${line.slice(0, 100)}`);
      return value as Record<string, unknown>;
    });
}
