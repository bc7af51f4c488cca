/**
 * Settings of the source that are changed for a run, with the operator's consent, and put back: the table of them, what
 * the checks propose (checks/write-load.ts), and the hold on those that were changed. Each stands in the journal with
 * the value of before, durably, before it is set. It is put back only where it still is as we set it: what somebody else
 * has changed meanwhile is theirs. A source that refuses a change is no reason to end: the line to type is said.
 */
import { ReplyError } from '../client/reply-error.ts';
import { toCutoverError } from '../core/errors.ts';
import type { SettingProposal } from '../core/events.ts';
import { SOURCE_TUNINGS, type SourceTuningName } from '../core/options.ts';
import { printable } from '../core/text.ts';
import type { PairContext } from './pair-context.ts';
import { parseOutputBuffer } from './resync-loop.ts';
import { readSetting, writeSettings } from './settings.ts';

interface Tunable {
  readonly setting: string;
  /** `copy`: it matters to the child that makes the snapshot alone. `end`: as long as the source is followed. */
  readonly needed: 'copy' | 'end';
  /** The part of what CONFIG GET answers that is ours to change; null: it is not there. */
  readonly part: (answer: string) => string | null;
}

const whole = (answer: string): string => answer;

/** The table. A setting belongs here only if to put it back harms nobody. */
const TUNABLES: { readonly [name in SourceTuningName]: Tunable } = {
  'output-buffer': {
    setting: 'client-output-buffer-limit',
    needed: 'end',
    // CONFIG SET of one class leaves the others as they are
    part: (answer) => {
      const limits = parseOutputBuffer(answer);
      return limits === null ? null : `${limits.name} ${limits.hard} ${limits.soft} ${limits.seconds}`;
    },
  },
  backlog: { setting: 'repl-backlog-size', needed: 'end', part: whole },
  compression: { setting: 'rdbcompression', needed: 'copy', part: whole },
};

/** What a check adds to its finding. */
export interface Proposed {
  readonly hint: string;
  readonly proposal: SettingProposal;
}

/** A setting of the source for the run: as a line to type, and for us to set. @param value as CONFIG SET takes it */
export function propose(tuning: SourceTuningName, value: string): Proposed {
  const { setting } = TUNABLES[tuning];
  return { hint: `${configLine(setting, value)} on the source`, proposal: { tuning, setting, value } };
}

/** `CONFIG SET <setting> <value>`, to be typed, or shown before it is done. */
export function configLine(setting: string, value: string): string {
  return `CONFIG SET ${setting} ${/^[\w.-]+$/.test(value) ? value : `"${printable(value)}"`}`;
}

/** A setting that we have changed, or were about to. */
export interface TunedSetting {
  readonly tuning: SourceTuningName;
  readonly before: string;
  readonly value: string;
}

/** As it stands in a journal; null: it is none. */
export function tunedFromJournal(json: unknown): TunedSetting | null {
  if (typeof json !== 'object' || json === null) return null;
  const { tuning, before, value } = json as Partial<TunedSetting>;
  const known = SOURCE_TUNINGS.find((name) => name === tuning);
  if (known === undefined || typeof before !== 'string' || typeof value !== 'string') return null;
  return { tuning: known, before, value };
}

/** For people: `rdbcompression: was yes, set to no`. */
export function tunedText({ tuning, before, value }: TunedSetting): string {
  return `${TUNABLES[tuning].setting}: was ${printable(before)}, set to ${printable(value)}`;
}

export class SourceTuning {
  readonly #pair: Pick<PairContext, 'source' | 'journal' | 'note' | 'remember'>;
  readonly #held: Map<SourceTuningName, TunedSetting>;
  /** One change after the other, whoever asks. */
  #working: Promise<unknown> = Promise.resolve();

  /** @param left what an earlier process of this run has changed and may not have put back */
  constructor(
    pair: Pick<PairContext, 'source' | 'journal' | 'note' | 'remember'>,
    left: readonly TunedSetting[],
  ) {
    this.#pair = pair;
    this.#held = new Map(left.map((tuned) => [tuned.tuning, tuned]));
  }

  /**
   * Sets what is agreed to. What the source refuses is said, and left.
   * @param copyDue false: no snapshot is asked for, so nothing is set for one
   * @throws SourceError where the connection breaks; CheckpointError where the journal cannot be written
   */
  set(agreed: readonly SettingProposal[], copyDue: boolean): Promise<void> {
    return this.#inTurn(async () => {
      for (const { tuning, value } of agreed) {
        if (copyDue || TUNABLES[tuning].needed !== 'copy') await this.#setOne(tuning, value);
      }
    });
  }

  /** The snapshot has come, or none is due. May be called again and again. Never throws: the end of the run tries again. */
  async copyMade(): Promise<void> {
    await this.#inTurn(() => this.#putBack('copy')).catch(() => undefined);
  }

  /**
   * Puts back all that is still as we set it. May be called again.
   * @throws SourceError, ReplyError where something could not be put back; the summary then says what to type
   */
  end(): Promise<void> {
    return this.#inTurn(() => this.#putBack('end'));
  }

  async #setOne(tuning: SourceTuningName, value: string): Promise<void> {
    const { source, journal, note, remember } = this.#pair;
    const { setting } = TUNABLES[tuning];
    try {
      const before = await this.#read(tuning);
      // one that an earlier process has set stays, with the value that it found
      if (before === value || before === null || this.#held.has(tuning)) return;
      const tuned = { tuning, before, value };
      await journal('tuned', tuned);
      this.#held.set(tuning, tuned);
      await writeSettings(source, [{ name: setting, value }]);
      note(`on the source, for the run, ${tunedText(tuned)}`);
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      if (this.#held.delete(tuning)) await journal('tuned-refused', tuning);
      remember(
        `the source does not let us change ${setting} (${error.reply}): ${configLine(setting, value)}`,
      );
      note(`the source does not let us change ${setting}; in its console: ${configLine(setting, value)}`);
    }
  }

  /** All that is not needed any more is tried; throws the first error then. */
  async #putBack(from: 'copy' | 'end'): Promise<void> {
    const errors: unknown[] = [];
    for (const tuned of [...this.#held.values()]) {
      if (from === 'copy' && TUNABLES[tuned.tuning].needed !== 'copy') continue;
      await this.#putBackOne(tuned).catch((error: unknown) => {
        const { setting } = TUNABLES[tuned.tuning];
        if (from === 'end') {
          const cause = printable(toCutoverError(error).message);
          this.#pair.remember(
            `${setting} of the source could not be put back (${cause}); on the source: ${configLine(setting, tuned.before)}`,
          );
        }
        errors.push(error);
      });
    }
    if (errors.length > 0) throw errors[0];
  }

  async #putBackOne(tuned: TunedSetting): Promise<void> {
    const { source, journal, note, remember } = this.#pair;
    const { tuning, before, value } = tuned;
    const { setting } = TUNABLES[tuning];
    const now = await this.#read(tuning);
    if (now === value) await writeSettings(source, [{ name: setting, value: before }]);
    const others = now !== value && now !== before;
    await journal(others ? 'tuned-left' : 'tuned-back', tuning);
    this.#held.delete(tuning);
    if (now === value) note(`on the source ${setting} is ${printable(before)} again`);
    if (others) {
      remember(
        `${setting} of the source was set to ${printable(now ?? '?')} by somebody else meanwhile, and stays so (before the run: ${printable(before)})`,
      );
    }
  }

  async #read(tuning: SourceTuningName): Promise<string | null> {
    const { setting, part } = TUNABLES[tuning];
    const answer = await readSetting(this.#pair.source, setting);
    return answer === null ? null : part(answer);
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#working.then(work);
    this.#working = done.catch(() => undefined);
    return done;
  }
}
