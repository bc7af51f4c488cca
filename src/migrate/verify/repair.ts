/**
 * Writes what the source has over what differs on the target: RESTORE with the value's own bytes, in an older form where
 * the target needs one. Safe only where nobody else writes to the target, and no stream is still to come: what a feed
 * replays over a value that is newer than its place in the stream is applied twice, and what it has replayed already is
 * lost. So it is refused while a run feeds the target, or has left its checkpoint there to go on from; on a replica;
 * behind a cutover, when the target is the one that is right: there the source follows it or is fenced; and where the
 * target's count of changes moved while it was compared.
 */
import { ReplyError } from '../../client/reply-error.ts';
import { PreflightError } from '../../core/errors.ts';
import { payloadOf, stampOf } from '../../rdb/dump-payload.ts';
import { familyOf, formOf, planForm, typeOf } from '../../rdb/forms.ts';
import { transcode } from '../../rdb/transcode.ts';
import { capabilitiesOf, type TargetCapabilities } from '../../target/write/capabilities.ts';
import { CHECKPOINT_KEY } from '../../target/write/checkpoint.ts';
import { LEASE_KEY } from '../../target/write/lease.ts';
import type { Difference } from './compare-keys.ts';
import { Heads, type Server } from './side.ts';

interface ToRepair {
  readonly db: number;
  readonly found: Difference;
}

/** Larger values are copied by a migration, which takes them in pieces. */
const LARGEST_BYTES = 64 << 20;
/** RDB version and checksum of a payload. */
const FOOTER_BYTES = 10;
/** No such key: to be asked about, PERSIST needs the right to write and changes nothing. */
const NO_KEY = 'redis-cutover:none';

/** Why a repair could do harm, and what to type. */
interface Danger {
  readonly why: string;
  readonly hint: string;
}

const NOBODY_ELSE =
  'a run that feeds the target brings all writes itself: let it, or flush the target and copy anew; stop all other writers of the target, and compare again';
const TARGET_IS_RIGHT =
  'behind a cutover leave the target as it is: it has the newer data; before one, give a login of the source that may write';

export class Repair {
  readonly #source: Server;
  readonly #target: Server;
  readonly #deletesExtra: boolean;
  readonly #capabilities: TargetCapabilities;
  /** What the target says of its changes; compared later. */
  #changes = '';

  constructor(source: Server, target: Server, mode: 'differing' | 'all') {
    this.#source = source;
    this.#target = target;
    this.#deletesExtra = mode === 'all';
    const { info } = target.side;
    const [major, minor] = info.commandLevel;
    this.#capabilities = capabilitiesOf({ major, minor }, info.family === 'valkey' ? 'valkey' : 'redis');
  }

  /** Before anything is compared. Throws PreflightError `repair-unsafe`. */
  async begin(): Promise<void> {
    const danger = await this.#whyUnsafe();
    if (danger !== null) throw unsafe(danger);
    this.#changes = await this.#changesOnTarget();
  }

  /**
   * @returns for each key why it was not written; null where it was
   * @throws PreflightError `repair-unsafe` where somebody has begun to write to the target since begin()
   */
  async repair(keys: readonly ToRepair[]): Promise<(string | null)[]> {
    if (keys.length === 0) return [];
    // a run may have begun meanwhile
    const danger = await this.#whyUnsafe();
    if (danger !== null) throw unsafe(danger);
    if ((await this.#changesOnTarget()) !== this.#changes) {
      throw unsafe({ why: 'the target was written to while it was compared', hint: NOBODY_ELSE });
    }
    const outcomes: (string | null)[] = [];
    for (const key of keys) outcomes.push(await this.#repairOne(key));
    this.#changes = await this.#changesOnTarget();
    return outcomes;
  }

  async #whyUnsafe(): Promise<Danger | null> {
    const [source, target] = [this.#source.side.info, this.#target.side.info];
    if (target.role === 'replica') {
      return { why: 'the target is a replica: it takes its data from its master alone', hint: NOBODY_ELSE };
    }
    if (source.role === 'replica' && source.masterReplid === target.masterReplid) {
      return { why: 'the source is a replica of the target', hint: TARGET_IS_RIGHT };
    }
    if (!this.#capabilities.restoreReplace) {
      const why = 'the target is older than 3.0, and has no RESTORE … REPLACE';
      return { why, hint: 'flush the target and copy anew' };
    }
    for (const [{ session }, what] of [
      [this.#target, 'the target is fed by a run, or one has left its place there to go on from'],
      [this.#source, 'the source is itself the target of a run'],
    ] as const) {
      for (const key of [LEASE_KEY, CHECKPOINT_KEY]) {
        if (Number(await session.call('EXISTS', key)) > 0) return { why: what, hint: NOBODY_ELSE };
      }
    }
    return source.role === 'replica' ? null : this.#whyNotWritable();
  }

  /** A source that refuses its own users is most likely fenced. */
  async #whyNotWritable(): Promise<Danger | null> {
    try {
      await this.#source.session.call('PERSIST', NO_KEY);
      return null;
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      const why = `the source takes no writes from this login (${error.prefix}): it is fenced behind a cutover, or the login is for reading alone`;
      return { why, hint: TARGET_IS_RIGHT };
    }
  }

  /** Moves with each change of a key; counts from 0 again behind a save. What expires does not count. */
  async #changesOnTarget(): Promise<string> {
    const info = await this.#target.session.info('persistence');
    return `${info.text('rdb_changes_since_last_save')} ${info.text('rdb_last_save_time')}`;
  }

  async #repairOne({ db, found }: ToRepair): Promise<string | null> {
    try {
      if (found.kind !== 'extra') return await this.#copy(db, found.key);
      if (!this.#deletesExtra) return 'only the target has it: --repair-extra deletes such keys';
      await this.#target.session.transaction([
        ['SELECT', db],
        ['DEL', found.key],
      ]);
      return null;
    } catch (error) {
      if (error instanceof ReplyError) return error.reply;
      throw error;
    }
  }

  async #copy(db: number, key: Buffer): Promise<string | null> {
    const { side } = this.#source;
    await side.connection.commands(['SELECT', db]);
    const heads = await Heads.read(side, [key]);
    if ((heads.size(0) ?? 0) > LARGEST_BYTES) return 'it is too large to be copied in one piece';
    const dumped = (await side.connection.commands(['DUMP', key])).value(0);
    if (!Buffer.isBuffer(dumped)) return 'it is gone from the source';
    const payload = this.#payloadFor(dumped);
    if (payload === null) return 'the target has no place for all that it holds';
    const expiresAt = heads.expiresAt(0);
    await this.#target.session.transaction([
      ['SELECT', db],
      ['RESTORE', key, 0, payload, 'REPLACE'],
      ...(expiresAt < 0 ? [] : [['PEXPIREAT', key, expiresAt] as const]),
    ]);
    return null;
  }

  /** The same value for the target; null where something of it would be lost. */
  #payloadFor(dumped: Buffer): Buffer | null {
    const family = this.#source.side.info.family === 'valkey' ? 'valkey' : 'redis';
    const form = formOf(dumped[0] ?? 0, family);
    const taken = planForm(form, this.#capabilities.forms);
    if (taken === null) return null;
    const value = dumped.subarray(1, -FOOTER_BYTES);
    // what only its module can read goes as it is
    if (stampOf(typeOf(taken), familyOf(taken)) === null) return dumped;
    if (taken === form) return payloadOf(form, value);
    const older = transcode(form, taken, value, 0, value.length, 1);
    return older.losses.length > 0 ? null : payloadOf(older.form, older.value);
  }
}

function unsafe({ why, hint }: Danger): PreflightError {
  return new PreflightError(`nothing was repaired: ${why}`, { code: 'repair-unsafe', hint });
}
