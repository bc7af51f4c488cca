/**
 * What is left out with --skip-unknown, since the target has no such type or module, or since no command could bring it:
 * counted by kind, with the first keys of each. Values of the snapshot and commands of the stream have one of these each.
 */
import { TargetError } from '../../core/errors.ts';
import { FORM, type Form } from '../../rdb/forms.ts';
import { TYPE } from '../../rdb/opcodes.ts';

/** So many keys are named of each kind. */
const NAMED_KEYS = 3;

/** What may be left out (--skip-unknown). */
export interface SkipRules {
  /** True where the target may lack a module of the source: one that refuses a value of a module has not got it. */
  readonly modules: boolean;
  /** Commands that the target does not know, by name in lower case. */
  readonly commands: ReadonlySet<string>;
}

interface Kind {
  count: number;
  /** Positions up to here are counted: what is left out can come twice. */
  countedTo: number;
  readonly keys: string[];
}

export class Skipped {
  readonly #kinds = new Map<string, Kind>();

  /** The copy begins, or begins again. */
  begin(): void {
    this.#kinds.clear();
  }

  /**
   * Something is left out.
   * @param what its kind, in the plural
   * @param position of it; those of one kind come in order, but for what is sent again
   * @param keyDigest of its key
   * @returns true for the first of its kind
   */
  meet(what: string, position: number, keyDigest: string): boolean {
    const known = this.#kinds.get(what);
    const kind = known ?? { count: 0, countedTo: -1, keys: [] };
    this.#kinds.set(what, kind);
    if (position <= kind.countedTo) return false;
    kind.countedTo = position;
    kind.count++;
    if (kind.keys.length < NAMED_KEYS && !kind.keys.includes(keyDigest)) kind.keys.push(keyDigest);
    return known === undefined;
  }

  /** How many were left out, of all kinds. */
  get count(): number {
    let sum = 0;
    for (const { count } of this.#kinds.values()) sum += count;
    return sum;
  }

  /** What was left out, a sentence for each kind. */
  told(): readonly string[] {
    return [...this.#kinds].map(
      ([what, { count, keys }]) =>
        `skipped, since --skip-unknown was given: ${count} ${what} (the first keys by the start of their SHA-1: ${keys.join(', ')})`,
    );
  }
}

/** What a value is, in the plural, for which a target may have no form. */
export function kindOf(form: Form, module: string): string {
  switch (form) {
    case TYPE.module2:
      return `values of the module type ${module}`;
    case TYPE.cron:
      return 'cron jobs (KeyDB)';
    case FORM.array:
      return 'arrays (Redis 8.8)';
    default:
      return 'streams (5.0)';
  }
}

/** @param keyDigest `?` where it belongs to no key that is known */
export function lacking(message: string, keyDigest: string): TargetError {
  return new TargetError(message, {
    code: 'target-lacks-type',
    hint: 'give the target the module or a newer release, or delete such keys on the source; to go on without them: redis-cutover resume RUN_DIR --skip-unknown',
    keyDigest,
  });
}
