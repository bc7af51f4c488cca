/**
 * One node of a list of type 18 (7.0 and later): a single large element as it is, or a listpack of small ones. The
 * nodes of type 14 (3.2 to 6.2) are plain ziplists, see ziplist.ts. Layouts in protocol.md 3.4.
 */
import { damage } from './damage.ts';
import type { VisitElement } from './element.ts';
import { forEachListpack } from './listpack.ts';

const CONTAINER_PLAIN = 1;
const CONTAINER_LISTPACK = 2;

/**
 * Visits the elements of the node `bytes[start..end)`.
 * @param container the number that stands before the node in the RDB
 * @param base RDB offset of `bytes[0]`, for errors
 * @returns the number of elements
 * @throws RdbFormatError for an unknown container, a damaged listpack, or a single element that is empty: servers keep
 *   it in a listpack, and take such a node for damage (8.2.3, Valkey 9.1.2)
 */
export function forEachQuicklistNode(
  container: number,
  bytes: Buffer,
  start: number,
  end: number,
  visit: VisitElement,
  base: number,
): number {
  if (container === CONTAINER_LISTPACK) return forEachListpack(bytes, start, end, visit, base);
  if (container !== CONTAINER_PLAIN)
    throw damage('quicklist', `unknown container ${container}`, 0, base + start);
  if (start === end) throw damage('quicklist', 'an empty node', 0, base + start);
  visit(bytes, start, end);
  return 1;
}
