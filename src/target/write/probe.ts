/**
 * Asks a target which forms of values it takes, instead of trusting the version that it tells: a tiny value of each is
 * RESTOREd under a name that nobody else has, and deleted, in one transaction. Nobody sees any of it, and nothing is left.
 */
import { randomBytes } from 'node:crypto';
import { ReplyError } from '../../client/reply-error.ts';
import type { Command, ServerSession } from '../../client/session.ts';
import { payloadOf } from '../../rdb/dump-payload.ts';
import { FORM, type Form } from '../../rdb/forms.ts';
import { TYPE } from '../../rdb/opcodes.ts';
import { SAMPLES } from '../../rdb/samples.ts';
import { EVERY_TARGET_TAKES } from './capabilities.ts';
import type { WriteTally } from './write-tally.ts';

/** What the names of our trial keys begin with. */
const PROBE_PREFIX = 'redis-cutover:probe:';

/**
 * Forms of Redis 8.6 and later are not tried: no server here could show that these samples are sound (all up to Redis
 * 8.2.3 and Valkey 9.1.2 refuse them: run), and a payload that is not could end the server that it is tried on. For them
 * the release must tell, as it must for modules.
 */
export const UNTRIED: ReadonlySet<Form> = new Set([FORM.stream4, FORM.stream5, FORM.array]);

/**
 * The forms that the target takes; null where it does not let us try (rights, memory): its release must tell then.
 * Throws only where the connection breaks.
 * @param promised the forms that its release takes
 * @param tally what is executed counts there
 */
export async function probeForms(
  session: ServerSession,
  promised: ReadonlySet<Form>,
  tally: WriteTally,
): Promise<ReadonlySet<Form> | null> {
  const key = PROBE_PREFIX + randomBytes(16).toString('hex');
  const samples = [...SAMPLES].filter(([form]) => !UNTRIED.has(form));
  const trials = samples.flatMap(([form, value]): Command[] => [
    ['RESTORE', key, 0, payloadOf(form, value)],
    ['DEL', key],
  ]);
  tally.begin(trials.length);
  let results: unknown;
  try {
    results = (await session.pipeline([['MULTI'], ...trials, ['EXEC']])).at(-1);
  } catch (error) {
    tally.lost(trials.length);
    throw error;
  }
  if (!Array.isArray(results)) {
    // a transaction that is refused executes nothing
    tally.lost(trials.length);
    tally.settle(trials.length, false);
    return null;
  }
  tally.done(trials.length);
  const taken = samples.filter((_, i) => !(results[2 * i] instanceof ReplyError)).map(([form]) => form);
  // every server takes this one: where it was refused, RESTORE is
  if (!taken.includes(TYPE.list)) return null;
  const untried = [...UNTRIED, TYPE.module2].filter((form) => promised.has(form));
  return new Set([...EVERY_TARGET_TAKES, ...taken, ...untried]);
}
