/**
 * How many commands that write this run has had executed on the target, as exactly as that can be known. Where nobody
 * can be kept off the target, migrate/foreign-writes.ts compares it with the target's own count: what is left over was
 * written by others. A command counts as one that writes where the server flags it so (COMMAND), whether it changed
 * anything or not; what a transaction or a script of ours executes counts one by one, MULTI, EXEC, EVAL and SELECT do
 * not. Pure.
 */

export class WriteTally {
  #done = 0;
  #underWay = 0;
  #inDoubt = 0;
  #begun = 0;
  #uncountable = false;

  /** `writes` commands are about to be sent: from now on they may be executed. */
  begin(writes: number): void {
    this.#underWay += writes;
    this.#begun += writes;
  }

  /** Begun ones were executed, whether with success or not. */
  done(writes: number): void {
    this.#underWay -= writes;
    this.#done += writes;
  }

  /** Of begun ones it is not known whether they were, or will be, executed. */
  lost(writes: number): void {
    this.#underWay -= writes;
    this.#inDoubt += writes;
  }

  /** What became of lost ones is known after all. */
  settle(writes: number, executed: boolean): void {
    this.#inDoubt -= writes;
    if (executed) this.#done += writes;
  }

  /** What is in doubt stays so, and a new count begins behind it: the whole of it, in doubt or not, is taken as done. */
  forgetDoubt(): void {
    this.#done += this.#inDoubt;
    this.#inDoubt = 0;
  }

  /**
   * A request of ours beside the stream that writes, such as a script.
   * @param writes how many commands that write it executes where it succeeds; one of none needs no tally
   * @throws what `request` throws; then it is not known how many were executed
   */
  async around<Value>(writes: number, request: () => Promise<Value>): Promise<Value> {
    this.begin(writes);
    let value: Value;
    try {
      value = await request();
    } catch (error) {
      this.lost(writes);
      throw error;
    }
    this.done(writes);
    return value;
  }

  /** The source's stream brings a script as it is (up to 4.0): what it will execute nobody knows. */
  meetScript(): void {
    this.#uncountable = true;
  }

  /** True where nothing can be told, since a script was among it. */
  get uncountable(): boolean {
    return this.#uncountable;
  }

  /** So many were executed for certain. */
  get least(): number {
    return this.#done;
  }

  /** More were not executed for certain. */
  get most(): number {
    return this.#done + this.#inDoubt + this.#underWay;
  }

  /** True where nothing is under way. */
  get quiet(): boolean {
    return this.#underWay === 0;
  }

  /** Commands begun since the start: tells whether anything was sent between two moments. */
  get begun(): number {
    return this.#begun;
  }
}
