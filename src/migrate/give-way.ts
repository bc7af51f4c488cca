/**
 * How this process shares a machine with the servers. While a snapshot comes in by commands it steps back: it then works
 * when the servers wait, in longer turns, instead of pushing one of them off its core at each piece (docs/benchmarks.md: on
 * two cores with both servers a copy is done 6 % sooner). During a cutover, and as soon as the stream is followed, it has its
 * place again.
 *
 * It counts where the scheduler weighs us against the servers one by one: in one session, in one container, or with
 * autogroups off. Elsewhere nothing changes. The priority is that of the process (in Linux of its first thread, which does
 * the work), so all its pairs share it. Only where a process may take its place again afterwards (CAP_SYS_NICE: root,
 * mostly) does it step back at all.
 */
import { readFileSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';

/** A sixth of the share of others, where they want all. Less did less, more did hardly more. */
const STEP_BACK = 7;
/** Bit of the capability by which a process may raise its priority (capabilities(7)). */
const CAP_SYS_NICE = 23n;

/** The priority of this process; replaced in tests. */
export interface OwnPriority {
  /** What it was given; null: it cannot be taken again once it is lower. */
  readonly given: number | null;
  set(priority: number): void;
}

export class GiveWay {
  #own: OwnPriority | null = null;
  readonly #copies = new Set<object>();
  #cutovers = 0;
  #isBack = false;

  /** From now on: in the processes that are ours. Tests, and who uses a Migration as a library, are left alone. */
  enable(own: OwnPriority = ownPriority()): void {
    this.#own = own;
    this.#settle();
  }

  /** A snapshot of `pair` begins to come in, or does so no more. May be said again. */
  copying(pair: object, on: boolean): void {
    if (on) this.#copies.add(pair);
    else this.#copies.delete(pair);
    this.#settle();
  }

  /** While `work` runs applications wait. */
  async duringCutover(work: Promise<void>): Promise<void> {
    this.#cutovers++;
    this.#settle();
    try {
      await work;
    } finally {
      this.#cutovers--;
      this.#settle();
    }
  }

  #settle(): void {
    const own = this.#own;
    if (own === null || own.given === null) return;
    const stepBack = this.#copies.size > 0 && this.#cutovers === 0;
    if (stepBack === this.#isBack) return;
    this.#isBack = stepBack;
    try {
      own.set(stepBack ? Math.min(own.given + STEP_BACK, constants.priority.PRIORITY_LOW) : own.given);
    } catch {
      // a system that does not want it: as good as never asked
      this.#own = null;
    }
  }
}

export const giveWay = new GiveWay();

function ownPriority(): OwnPriority {
  return { given: mayRaise() ? getPriority() : null, set: (priority) => setPriority(priority) };
}

function mayRaise(): boolean {
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
    return effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_SYS_NICE) & 1n) === 1n;
  } catch {
    return false;
  }
}
