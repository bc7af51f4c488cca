/** Waiting for conditions, never for time, and for nothing without a limit: a test that hangs says nothing. */

export interface UntilOptions {
  readonly timeoutMs?: number;
  /** What is waited for: the message when it does not come. */
  readonly what?: string;
}

/** What `work` gives; rejects when that takes longer than `timeoutMs`. The work itself goes on. */
export async function within<T>(work: T | Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${timeoutMs} ms: ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Asks `condition` again and again until it gives a truthy value, and returns that. Throws after `timeoutMs`
 * (default 30 s: the machine may be busy), also where an answer of `condition` never comes. An error thrown by `condition` counts as "not
 * yet" and is the cause of the final error.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined | 0 | ''>> {
  const { timeoutMs = 30_000, what = condition.toString() } = options;
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await within(
        condition(),
        Math.max(0, deadline - Date.now()),
        'one answer of the condition',
      );
      if (value) return value as Exclude<T, false | null | undefined | 0 | ''>;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: lastError });
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
