/** What the tests of the spool share: bytes that say where they are, and spools in folders of their own. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Spool } from '../../../src/spool/spool.ts';
import type { Cleanup } from '../../helpers/server.ts';

export const MB = 1 << 20;

/** Bytes that say where they are: each depends on its own position. */
export function bytesAt(position: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) {
    const at = position + i;
    bytes[i] = (at ^ (at >>> 8) ^ (at >>> 16) ^ (at >>> 20)) & 0xff;
  }
  return bytes;
}

export function folder(t: Cleanup, close: () => void = () => {}): string {
  const dir = mkdtempSync(join(tmpdir(), 'cutover-spool-'));
  t.after(() => {
    close();
    rmSync(dir, { recursive: true, force: true });
  });
  return join(dir, 'spool');
}

export function spoolOf(
  t: Cleanup,
  memoryBytes: number,
  limitBytes = Number.POSITIVE_INFINITY,
): { spool: Spool; dir: string } {
  const dir = folder(t, () => spool.close());
  const spool = new Spool({ dir, memoryBytes, limitBytes });
  return { spool, dir };
}

export function fill(spool: Spool, length: number, piece = 300_001): void {
  for (const end = spool.end + length; spool.end < end; ) {
    spool.append(bytesAt(spool.end, Math.min(piece, end - spool.end)), 1);
  }
}

/** The bytes that were promised are there, and right. */
export function assertView(spool: Spool, pos: number, want: number): void {
  const view = spool.view(pos, want);
  assert.ok(view.length >= Math.min(want, spool.end - pos), `${view.length} bytes instead of ${want}`);
  assert.ok(view.length <= spool.end - pos);
  assert.ok(view.length > 0 || pos === spool.end);
  assert.ok(view.equals(bytesAt(pos, view.length)), `other bytes at ${pos}`);
}
