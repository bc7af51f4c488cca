/**
 * A place in a server's replication history: replid (40 hex digits) and offset (bytes). protocol.md 1.12, 1.13.
 * Offsets are doubles: exact up to 2^53 bytes.
 */
export interface ReplicationPosition {
  readonly replid: string;
  readonly offset: number;
}

const REPLID = /^[0-9a-f]{40}$/i;

export function isReplid(text: string): boolean {
  return REPLID.test(text);
}

/** A decimal offset as a safe integer, or null where it is none. -1 is allowed: servers use it for "no history". */
export function parseOffset(text: string): number | null {
  if (!/^-?\d{1,16}$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= -1 ? value : null;
}
