/** What must not outlive the benchmark, however it ends: folders, and programs that it has started. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { atEnd, type Cleanup } from '../helpers/server.ts';

/** Still to be done, should the benchmark be interrupted. */
const pending = new Set<() => void>();
process.once('exit', () => {
  // what was begun last ends first: a program before its folder
  for (const end of [...pending].reverse()) end();
});

/** Does `end` with the round, or before that at the end of this process. Servers do the same by themselves. */
export function atAnyEnd(round: Cleanup, end: () => void): void {
  pending.add(end);
  atEnd(round, () => {
    pending.delete(end);
    end();
  });
}

/** A new folder that goes with the round. */
export function scratchFolder(round: Cleanup): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'redis-cutover-bench-'));
  atAnyEnd(round, () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}
