/**
 * `redis-cutover verify`: pair after pair is compared, the result of each is an event, and the first keys that differ are
 * named. A session that keeps pairs in sync compares one of them by comparePair().
 */
import type { PairSpec } from '../core/endpoint.ts';
import { type CutoverError, EXIT, type ExitCode, toCutoverError } from '../core/errors.ts';
import { errorEvent, type VerifyResult } from '../core/events.ts';
import type { VerifyOptions } from '../core/options.ts';
import type { Renderer } from '../core/ports.ts';
import { MismatchFile, mismatchText } from '../migrate/verify/mismatches.ts';
import { verifyPair } from '../migrate/verify/verify.ts';

export interface VerifyIo {
  readonly renderer: Renderer;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

/** So many keys of a pair are named on the screen; the list has all. */
const KEYS_SHOWN = 10;

/**
 * Compares all pairs, one after the other; emits the summary last.
 *
 * @param list path of a new file for the keys that differ (mismatches.ts); null: none
 * @throws UsageError `mismatch-file`; AbortError
 */
export async function runVerify(
  pairs: readonly PairSpec[],
  options: VerifyOptions,
  list: string | null,
  { renderer, signal }: VerifyIo,
): Promise<ExitCode> {
  const file = list === null ? null : await MismatchFile.create(list);
  const failures: CutoverError[] = [];
  let isDifferent = false;
  try {
    for (const pair of pairs) {
      try {
        const result = await comparePair(pair, options, file, { renderer, signal });
        isDifferent ||= result.different + result.missing + result.extra > 0;
      } catch (error) {
        signal.throwIfAborted();
        const failure = toCutoverError(error);
        renderer.event(errorEvent(failure, pair.name));
        failures.push(failure);
      }
    }
  } finally {
    await file?.close();
  }
  const [first] = failures;
  const exitCode: ExitCode =
    first !== undefined
      ? failures.length < pairs.length
        ? EXIT.attention
        : first.exitCode
      : isDifferent
        ? EXIT.different
        : EXIT.done;
  const outcome = first !== undefined ? 'failed' : isDifferent ? 'different' : 'equal';
  renderer.event({ event: 'summary', outcome, exitCode, pairs: [] });
  return exitCode;
}

/**
 * Compares one pair, now: its progress, its result and its first keys that differ become events. The pair may be in sync
 * meanwhile, by either feed; then `repair` must be `none`.
 *
 * @param file takes the keys that differ, and stays open; null: they are only counted
 * @throws what verifyPair() throws
 */
export async function comparePair(
  { name: pair, source, target }: PairSpec,
  options: VerifyOptions,
  file: MismatchFile | null,
  { renderer, signal }: VerifyIo,
): Promise<VerifyResult> {
  const ended = renderer.step(`${pair}: comparing`);
  let found = 0;
  try {
    const result = await verifyPair({
      source,
      target,
      options,
      signal,
      onProgress: (progress) => renderer.event({ event: 'verify-progress', pair, ...progress }),
      onMismatch: (mismatch) => {
        file?.add(pair, mismatch);
        found++;
        if (found <= KEYS_SHOWN) renderer.event({ event: 'note', pair, message: mismatchText(mismatch) });
      },
    });
    ended('ok');
    if (found > KEYS_SHOWN) {
      const where = file === null ? '--mismatches FILE lists them all' : 'the list has them all';
      renderer.event({ event: 'note', pair, message: `and ${found - KEYS_SHOWN} more keys: ${where}` });
    }
    renderer.event({ event: 'verify', pair, ...result });
    return result;
  } catch (error) {
    ended('failed');
    throw error;
  }
}
