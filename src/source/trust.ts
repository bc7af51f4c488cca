/** Which releases' replication offsets cannot be trusted, so that no partial resync may be taken from them. */

/**
 * False for releases that answer FULLRESYNC before the fork, so that a later partial resync would replay commands
 * that the snapshot holds already (before 2.8.22 and 3.0.4, protocol.md 1.5), and for 6.0.0-6.0.3, which wind their
 * offset back over trailing PINGs (1.13).
 */
export function offsetsCanBeTrusted([major, minor, patch]: readonly [number, number, number]): boolean {
  if (major < 2 || (major === 2 && minor < 8)) return false;
  if (major === 2) return patch >= 22;
  if (major === 3 && minor === 0) return patch >= 4;
  return !(major === 6 && minor === 0 && patch < 4);
}
