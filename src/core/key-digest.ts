/** How a key is named where people read: a digest finds it again and says nothing of it. */
import { createHash } from 'node:crypto';

/** The first twelve hex digits of the key's SHA-1: `printf %s KEY | sha1sum`; `?` for a key that is not known. */
export function keyDigest(key: Buffer | null): string {
  return key === null ? '?' : createHash('sha1').update(key).digest('hex').slice(0, 12);
}
