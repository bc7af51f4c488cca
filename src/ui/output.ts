/** Writing to a reader that may go away: `| head`, a closed terminal. Every renderer writes through this. */
import type { Writable } from 'node:stream';

/**
 * A function that writes text until the stream fails and is silent afterwards: nobody reading must not end a
 * migration (EPIPE, EIO after a hang-up).
 */
export function safeWriter(out: Writable): (text: string) => void {
  let broken = false;
  // never removed: the error of the last write arrives after close()
  out.on('error', () => {
    broken = true;
  });
  return (text) => {
    if (!broken && out.writable) out.write(text);
  };
}
