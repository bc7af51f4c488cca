/** Waiting for conditions, never for time. */

export interface UntilOptions {
  readonly timeoutMs?: number;
  /** What is waited for: the message when it does not come. */
  readonly what?: string;
}

/**
 * Asks `condition` again and again until it gives a truthy value, and returns that. Throws after `timeoutMs`
 * (default 10 s). An error thrown by `condition` counts as "not yet" and is the cause of the final error.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined | 0 | ''>> {
  const { timeoutMs = 10_000, what = condition.toString() } = options;
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await condition();
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
