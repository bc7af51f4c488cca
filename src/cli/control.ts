/** What `pause` and `throttle` have in common: a running session is asked to change something, and each pair's answer shown. */
import { resolve } from 'node:path';
import { EXIT, type ExitCode, InvariantError } from '../core/errors.ts';
import { errorEvent } from '../core/events.ts';
import { printable } from '../core/text.ts';
import { askSession } from '../fleet/control-client.ts';
import type { ControlRequest, PairChoice } from '../fleet/control-messages.ts';
import { RelayedError } from '../fleet/worker-messages.ts';
import { jsonRenderer } from '../ui/json.ts';
import { plainRenderer } from '../ui/plain.ts';
import type { RawOptions } from './options.ts';

/** `--pair` and `--wave`. */
export function choiceOf(raw: RawOptions): PairChoice {
  return { pairs: raw.pair ?? null, wave: raw.wave ?? null };
}

/**
 * Asks the session in `dir`.
 *
 * @param done what is said of each pair that did it
 * @returns 0, or 7 where one of them refused
 * @throws what askSession() throws; RelayedError where nothing was done
 */
export async function change(
  raw: RawOptions,
  dir: string,
  request: ControlRequest & { readonly kind: 'pause' | 'throttle' },
  done: string,
): Promise<ExitCode> {
  const renderer = raw.json ? jsonRenderer(process.stdout) : plainRenderer(process.stdout);
  const answer = await askSession(resolve(dir), request);
  if (answer.kind === 'refused') throw new RelayedError(answer.error);
  if (answer.kind !== request.kind)
    throw new InvariantError(`${request.kind} was answered by ${answer.kind}`);
  for (const { pair, error } of answer.results) {
    const result = error === null ? 'done' : 'failed';
    renderer.event({ event: 'action', pair, by: 'control', action: request.kind, result });
    if (error === null) renderer.say(`${printable(pair)}: ${done}`);
    else renderer.event(errorEvent(error, pair));
  }
  const failed = answer.results.some(({ error }) => error !== null);
  const exitCode = failed ? EXIT.attention : EXIT.done;
  if (raw.json) {
    renderer.event({ event: 'summary', outcome: failed ? 'partly-failed' : 'done', exitCode, pairs: [] });
  }
  return exitCode;
}
