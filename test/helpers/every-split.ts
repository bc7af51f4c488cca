/** Feeds bytes to a consumer in every way that a network may cut them: whole, byte by byte, at every split. */

/**
 * Calls `feed` once per way with the chunks to feed; `feed` makes a new consumer, feeds it and asserts on the
 * result. Chunks are copies of their own. An error names the way in which the bytes were cut.
 */
export async function everySplit(
  bytes: Buffer,
  feed: (chunks: readonly Buffer[]) => void | Promise<void>,
): Promise<void> {
  await attempt('whole', [bytes], feed);
  await attempt(
    'byte by byte',
    Array.from(bytes, (byte) => Buffer.from([byte])),
    feed,
  );
  for (let at = 1; at < bytes.length; at += 1) {
    await attempt(`split at byte ${at}`, [bytes.subarray(0, at), bytes.subarray(at)], feed);
  }
}

async function attempt(
  how: string,
  chunks: readonly Buffer[],
  feed: (chunks: readonly Buffer[]) => void | Promise<void>,
): Promise<void> {
  try {
    await feed(chunks.map((chunk) => Buffer.from(chunk)));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${how}: ${message}`, { cause: error });
  }
}
