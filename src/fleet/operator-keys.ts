/**
 * What the operator's keys do to the pairs of a session: which of them act now, what is shown and asked before, and
 * the work itself, pair after pair. session.ts waits for the keys and decides when the session is over.
 */
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import {
  assertNever,
  type CutoverError,
  PreflightError,
  toCutoverError,
  UsageError,
} from '../core/errors.ts';
import type { ClientInfo } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import { isOver, type Phase } from '../core/phase.ts';
import type { Operator, OperatorCommand, Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import { LEAST_MB, parseThrottle, type Throttle } from '../core/throttle.ts';
import { currentWave, type Wave, wavesOf } from './waves.ts';

/** What the keys need of a pair; Migration has it. */
export interface SteeredPair {
  readonly pair: PairSpec;
  readonly phase: Phase;
  /** True behind a cutover while a rollback is possible, which then loses nothing. */
  readonly wayBackOpen: boolean;
  /** Why a way back would need a full copy onto the old source; null: it needs none, or there is to be none. */
  readonly wayBackNeedsCopy: string | null;
  /** True while nothing goes to its target. */
  readonly paused: boolean;
  /** **e**: from `in-sync`. */
  enableWrites(): Promise<void>;
  /** **m**: from `writable`; from `in-sync` the same as cutOver(). */
  promote(): Promise<void>;
  /** **c**: from `in-sync`. */
  cutOver(): Promise<void>;
  /** **b**: from `promoted`, while wayBackOpen. */
  rollBack(): Promise<void>;
  /** **f**: closes the way back, as far as it is ours; the pair stays promoted. */
  finish(): Promise<void>;
  /** Empties the old source and copies the new master onto it. */
  openWayBackByCopy(): Promise<void>;
  /** **p**: nothing goes to the target; false: it goes on. What is so already stays so. */
  pause(on: boolean): Promise<void>;
  /** **t**: no more than that goes to the target in a second. */
  throttle(limits: Throttle): Promise<void>;
  /** The clients on the source. */
  clients(): Promise<readonly ClientInfo[]>;
  /** Returns how many connections were ended. */
  killClients(addresses: readonly string[]): Promise<number>;
}

interface KeysIo {
  readonly operator: Operator;
  readonly renderer: Renderer;
  /** Aborted by Ctrl-C and SIGTERM: nothing new is begun then. */
  readonly signal: AbortSignal;
  readonly report: (error: CutoverError, pair?: string) => void;
  /** Compares both sides of a pair that is kept in step, and shows the result. @throws AbortError */
  readonly compare: (pair: PairSpec, signal: AbortSignal) => Promise<void>;
}

/** So many clients are shown around a cutover, those that write first; **l** shows all. */
const CLIENTS_SHOWN = 20;

/** True behind a cutover while a rollback is possible. */
export function hasWayBack(pair: Pick<SteeredPair, 'phase' | 'wayBackOpen'>): boolean {
  return pair.phase === 'promoted' && pair.wayBackOpen;
}

/**
 * The keys that act now. Those towards the cutover look at the pairs before it, so that a pair whose cutover was
 * undone can be tried again while the others are through.
 *
 * @param pairs those that the keys act on: all, or the one that is chosen
 * @param clientsListed whether a client was shown that could be killed
 * @param waves whether a wave is due, and whether one can be rolled back
 */
export function allowedCommands(
  pairs: readonly Pick<SteeredPair, 'phase' | 'wayBackOpen'>[],
  clientsListed: boolean,
  waves: { readonly cutOver: boolean; readonly rollBack: boolean } = { cutOver: false, rollBack: false },
): OperatorCommand[] {
  const before = pairs.filter(({ phase }) => !isOver(phase));
  const wayBack = pairs.some(hasWayBack);
  const allBefore = (...phases: readonly Phase[]): boolean =>
    before.length > 0 && before.every(({ phase }) => phases.includes(phase));
  const acts: Record<OperatorCommand, boolean> = {
    start: false,
    'start-tuned': false,
    'check-again': false,
    'enable-writes': allBefore('in-sync'),
    promote: allBefore('in-sync', 'writable'),
    'cut-over': allBefore('in-sync'),
    'cut-over-wave': waves.cutOver,
    pause: before.length > 0,
    throttle: before.length > 0,
    clients: true,
    verify: pairs.some(({ phase }) => isFollowing(phase)),
    kill: clientsListed,
    'roll-back': wayBack,
    'roll-back-wave': waves.rollBack,
    finish: wayBack && before.length === 0,
    quit: true,
    help: true,
  };
  return (Object.keys(acts) as OperatorCommand[]).filter((command) => acts[command]);
}

/** The target gets what the source gets, and nothing else. */
function isFollowing(phase: Phase): boolean {
  return phase === 'in-sync' || phase === 'catching-up';
}

/** In sync, or with its target open: what is left is the promotion. */
function isReady(phase: Phase): boolean {
  return phase === 'in-sync' || phase === 'writable';
}

/** What lets a dangerous step happen: the pair's name; for several pairs `cut over 3`. */
function wordsToType(step: string, pairs: readonly SteeredPair[]): string {
  const [first] = pairs;
  return pairs.length === 1 && first !== undefined ? first.pair.name : `${step} ${pairs.length}`;
}

type KeysOptions = Pick<RunOptions, 'sourceFence' | 'reverse' | 'hooks' | 'cutoverTimeoutMs' | 'fleet'>;

export class OperatorKeys {
  readonly #pairs: readonly SteeredPair[];
  readonly #options: KeysOptions;
  readonly #io: KeysIo;
  #clientsListed = false;
  /** The comparison that is under way. */
  #comparing: { readonly stop: AbortController; readonly done: Promise<void> } | null = null;

  constructor(pairs: readonly SteeredPair[], options: KeysOptions, io: KeysIo) {
    this.#pairs = pairs;
    this.#options = options;
    this.#io = io;
  }

  allowed(): OperatorCommand[] {
    return allowedCommands(this.#scope(), this.#clientsListed, {
      cutOver: this.#waveToCutOver() !== null,
      rollBack: this.#waveToRollBack() !== null,
    });
  }

  /** The pairs that a key acts on: the one that is chosen on the screen, else all. */
  #scope(): readonly SteeredPair[] {
    const name = this.#io.operator.selected();
    const chosen = this.#pairs.filter(({ pair }) => pair.name === name);
    return chosen.length === 0 ? this.#pairs : chosen;
  }

  /** The first wave that is not through, where all of it that is left is in sync; null: none, or the list has no waves. */
  #waveToCutOver(): Wave<SteeredPair> | null {
    const wave = currentWave(this.#pairs);
    if (wave === null || wave.name === null) return null;
    return wave.pairs.every(({ phase }) => isOver(phase) || isReady(phase)) ? wave : null;
  }

  /** The last wave of which a pair can be rolled back. */
  #waveToRollBack(): Wave<SteeredPair> | null {
    const waves = wavesOf(this.#pairs).filter(({ name, pairs }) => name !== null && pairs.some(hasWayBack));
    return waves.at(-1) ?? null;
  }

  /** Does what the key says; errors are reported, none is thrown. `start` and `quit` are the session's own. */
  async obey(command: OperatorCommand): Promise<void> {
    try {
      await this.#do(command);
    } catch (error) {
      this.#io.report(toCutoverError(error));
    }
  }

  async #do(command: OperatorCommand): Promise<void> {
    switch (command) {
      case 'enable-writes':
        return this.#enableWrites();
      case 'promote':
        return this.#cutOver('promote', command, (pair) => pair.promote());
      case 'cut-over':
        return this.#cutOver('cut over', command, (pair) => pair.cutOver());
      case 'cut-over-wave':
        return this.#cutOverWave();
      case 'pause':
        return this.#pause();
      case 'throttle':
        return this.#throttle();
      case 'clients':
        await this.#showClients(this.#alive(), Number.POSITIVE_INFINITY);
        return;
      case 'verify':
        return this.#compare();
      case 'kill':
        return this.#killClients();
      case 'roll-back':
        return this.#rollBack(command, this.#scope().filter(hasWayBack), null);
      case 'roll-back-wave': {
        const wave = this.#waveToRollBack();
        return wave === null
          ? undefined
          : this.#rollBack(command, wave.pairs.filter(hasWayBack), `roll back wave ${wave.name}`);
      }
      case 'finish':
        return this.#each(this.#scope().filter(hasWayBack), command, (pair) => pair.finish());
      case 'help':
        for (const line of HELP) this.#io.renderer.say(line);
        return;
      case 'start':
      case 'start-tuned':
      case 'check-again':
      case 'quit':
        return;
      default:
        return assertNever(command);
    }
  }

  /** All are held back, unless all of them are already. */
  async #pause(): Promise<void> {
    const pairs = this.#scope().filter(({ phase }) => !isOver(phase));
    const on = pairs.some(({ paused }) => !paused);
    await this.#each(pairs, 'pause', (pair) => pair.pause(on));
    if (pairs.some(({ paused }) => paused)) this.#io.renderer.say('p lets it go on.');
  }

  async #throttle(): Promise<void> {
    const pairs = this.#scope().filter(({ phase }) => !isOver(phase));
    const question = [
      `At most how much a second to ${serversOf(pairs, 'target')}?`,
      'Type 1000 keys, 20 mb, both, or off',
    ];
    const answer = await this.#io.operator.ask(question.join('\n'));
    if (answer === null || answer.trim() === '') {
      this.#io.renderer.say('Nothing was changed.');
      return;
    }
    const limits = parseThrottle(answer);
    if (limits === null) {
      throw new UsageError(`"${printable(answer, 80)}" is no limit`, {
        code: 'bad-value',
        hint: `type 1000 keys, 20 mb, 1000 keys 20 mb, or off; from ${LEAST_MB} mb on`,
      });
    }
    await this.#each(pairs, 'throttle', (pair) => pair.throttle(limits));
  }

  /** @throws PreflightError `not-now`: before a question is asked that would be in vain */
  #assertNonePaused(pairs: readonly SteeredPair[]): void {
    const paused = pairs.find((pair) => pair.paused);
    if (paused === undefined) return;
    throw new PreflightError(`not now: ${printable(paused.pair.name)} is paused`, {
      code: 'not-now',
      hint: 'p lets it go on',
    });
  }

  async #enableWrites(): Promise<void> {
    const pairs = this.#scope().filter(({ phase }) => phase === 'in-sync');
    this.#assertNonePaused(pairs);
    const question = [
      `Let applications write to ${serversOf(pairs, 'target')} while the source still takes writes too.`,
      'Move them one by one: no application should write to both sides. Then press m.',
    ];
    if (!(await this.#confirm(question, wordsToType('enable writes', pairs)))) return;
    await this.stopComparing();
    await this.#each(pairs, 'enable-writes', (pair) => pair.enableWrites());
    if (pairs.some(({ phase }) => phase === 'writable')) {
      this.#io.renderer.say('The targets take writes now: move the applications, then press m.');
    }
  }

  async #cutOver(
    step: string,
    action: OperatorCommand,
    work: (pair: SteeredPair) => Promise<void>,
  ): Promise<void> {
    const pairs = this.#scope().filter(({ phase }) => isReady(phase));
    this.#assertNonePaused(pairs);
    await this.#showClients(pairs, CLIENTS_SHOWN);
    if (!(await this.#confirm(this.#cutoverQuestion(pairs), wordsToType(step, pairs)))) return;
    await this.stopComparing();
    await this.#each(pairs, action, work);
    await this.#sayPromoted(pairs);
  }

  /**
   * The wave that is due, pair after pair; with a canary only its first one: the key is pressed again for the rest. Ends
   * where more pairs fail than may. A pair that cannot drain goes back to in-sync, and the rest of the wave goes on.
   */
  async #cutOverWave(): Promise<void> {
    const wave = this.#waveToCutOver();
    if (wave === null) return;
    const { canaryMs, maxFailures } = this.#options.fleet;
    const left = wave.pairs.filter(({ phase }) => isReady(phase));
    const canary = canaryMs !== null && left.length === wave.pairs.length && left.length > 1;
    const pairs = canary ? left.slice(0, 1) : left;
    this.#assertNonePaused(pairs);
    const words = `wave ${wave.name}`;
    const names = left.map(({ pair }) => printable(pair.name)).join(', ');
    const { renderer } = this.#io;
    renderer.say(`Wave ${printable(wave.name ?? '')}: ${names}${canary ? '; the first one alone' : ''}.`);
    await this.#showClients(pairs, CLIENTS_SHOWN);
    if (!(await this.#confirm(this.#cutoverQuestion(pairs), words))) return;
    await this.stopComparing();
    let returned = 0;
    for (const pair of pairs) {
      await this.#each([pair], 'cut-over-wave', (each) => each.promote());
      if (pair.phase !== 'promoted') returned += 1;
      if (maxFailures !== null && returned > maxFailures) {
        renderer.say(
          `The rest of the wave stays in sync: ${returned} did not come through (--max-failures).`,
        );
        break;
      }
    }
    await this.#sayPromoted(pairs);
    const promoted = wave.pairs.filter(({ phase }) => phase === 'promoted').length;
    const rest = canary && promoted === 1 ? `; ${left.length - 1} wait: w when the first one is well` : '';
    renderer.say(`Wave ${printable(wave.name ?? '')}: ${promoted} promoted, ${returned} returned${rest}.`);
  }

  async #sayPromoted(pairs: readonly SteeredPair[]): Promise<void> {
    const promoted = pairs.filter(({ phase }) => phase === 'promoted');
    if (promoted.length === 0) return;
    await this.#showClients(promoted, CLIENTS_SHOWN);
    for (const pair of promoted) await this.#offerCopy(pair);
    this.#io.renderer.say(
      promoted.some(hasWayBack)
        ? 'Promoted: point the applications at the new masters. b rolls back without loss while the way back is open, f finishes.'
        : 'Promoted: point the applications at the new masters.',
    );
  }

  /** Begins to compare, beside everything else; pressed again it stops. */
  async #compare(): Promise<void> {
    if (this.#comparing !== null) {
      await this.stopComparing();
      this.#io.renderer.say('The comparison was stopped.');
      return;
    }
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#io.signal, stop.signal]);
    const pairs = this.#scope().filter(({ phase }) => isFollowing(phase));
    const work = async (): Promise<void> => {
      for (const { pair } of pairs) {
        if (signal.aborted) return;
        await this.#io.compare(pair, signal).catch((error: unknown) => {
          if (!signal.aborted) this.#io.report(toCutoverError(error), pair.name);
        });
      }
    };
    this.#io.renderer.say(`Comparing ${counted(pairs.length, 'pair')}; v stops it.`);
    const done = work().finally(() => {
      this.#comparing = null;
    });
    this.#comparing = { stop, done };
  }

  /** What changes sides must not be compared any more. */
  async stopComparing(): Promise<void> {
    this.#comparing?.stop.abort();
    await this.#comparing?.done;
  }

  #cutoverQuestion(pairs: readonly SteeredPair[]): string[] {
    const { hooks } = this.#options;
    // a pair may have options of its own: what is promised must hold for each
    const each = pairs.map(({ pair }) => ({ ...this.#options, ...pair.options }));
    const sourceFence = each.every((options) => options.sourceFence);
    const reverse = each.every((options) => options.reverse);
    const cutoverTimeoutMs = Math.max(...each.map((options) => options.cutoverTimeoutMs));
    const some = pairs.length === 1 ? '' : ' for some of them';
    const open = pairs.some(({ phase }) => phase === 'writable');
    const steps = [
      ...(hooks.before === undefined ? [] : ['hook before']),
      ...(sourceFence ? ['stop writes on the source'] : []),
      'drain',
      ...(open ? [] : ['compare the last keys', 'open the target']),
      ...(hooks.cutover === undefined ? [] : ['hook']),
      'promote',
    ];
    return [
      `Make ${serversOf(pairs, 'target')} the master${pairs.length === 1 ? '' : 's'}.`,
      `Steps: ${steps.join(' -> ')}. What fails, or drains longer than ${cutoverTimeoutMs / 1000} s, is undone.`,
      ...(sourceFence ? [] : [`The source keeps taking writes${some}: those that come late are lost.`]),
      reverse
        ? 'Rollback stays lossless while the way back is open.'
        : `No way back is kept${some} (--no-reverse): a rollback loses what was written meanwhile.`,
    ];
  }

  /** A way back that would cost the old source its data is nobody's to open but the operator's. */
  async #offerCopy(pair: SteeredPair): Promise<void> {
    const why = pair.wayBackNeedsCopy;
    if (why === null || this.#io.signal.aborted) return;
    const name = printable(pair.pair.name);
    const question = [
      `${name}: the way back needs a full copy: ${printable(why)}.`,
      `The old source ${addressOf(pair.pair.source)} will be wiped and copied anew. Without that, no rollback.`,
    ];
    const confirmed = await this.#ask(question, pair.pair.name);
    if (confirmed) await this.#each([pair], 'roll-back', () => pair.openWayBackByCopy());
    else this.#io.renderer.say(`${name}: the old source was not touched; there is no way back.`);
  }

  /** @param words what lets it happen; null: as for all pairs */
  async #rollBack(
    action: OperatorCommand,
    pairs: readonly SteeredPair[],
    words: string | null,
  ): Promise<void> {
    const question = [
      `Make ${serversOf(pairs, 'source')} the master${pairs.length === 1 ? '' : 's'} again.`,
      'Steps: stop writes on the new master -> drain -> open the old source. Nothing that was written is lost.',
      'Then point the applications back at it.',
    ];
    if (!(await this.#confirm(question, words ?? wordsToType('roll back', pairs)))) return;
    await this.#each(pairs, action, (pair) => pair.rollBack());
  }

  async #killClients(): Promise<void> {
    const found = await this.#showClients(this.#alive(), Number.POSITIVE_INFINITY);
    const count = found.reduce((sum, { addresses }) => sum + addresses.length, 0);
    if (count === 0) return;
    const words = `kill ${counted(count, 'client')}`;
    const question = [
      `End ${count === 1 ? 'this connection' : `these ${count} connections`}: a command that is on its way may be cut off.`,
      'Applications that are not moved connect again at once.',
    ];
    if (!(await this.#confirm(question, words))) return;
    await this.#each(
      found.map(({ pair }) => pair),
      'kill',
      async (pair) => {
        const addresses = found.find((entry) => entry.pair === pair)?.addresses ?? [];
        const killed = await pair.killClients(addresses);
        this.#io.renderer.say(
          `${counted(killed, 'client')} ended on ${printable(pair.pair.name)}'s source, ${addresses.length - killed} were gone`,
        );
      },
    );
    this.#clientsListed = false;
  }

  /** Pairs whose source is still worth a look. */
  #alive(): SteeredPair[] {
    return this.#scope().filter((pair) => !isOver(pair.phase) || hasWayBack(pair));
  }

  /** At most `limit` clients of each pair, and one line that counts them. A source that cannot be asked is reported. */
  async #showClients(
    pairs: readonly SteeredPair[],
    limit: number,
  ): Promise<{ readonly pair: SteeredPair; readonly addresses: readonly string[] }[]> {
    const { renderer } = this.#io;
    const found: { pair: SteeredPair; addresses: string[] }[] = [];
    await this.#each(pairs, null, async (pair) => {
      const clients = await pair.clients();
      const writing = clients.filter((client) => client.writing);
      const others = clients.filter((client) => !client.writing);
      for (const client of [...writing, ...others].slice(0, limit)) {
        renderer.event({ event: 'clients', pair: pair.pair.name, ...client });
      }
      const where = `on ${printable(pair.pair.name)}'s source`;
      const hidden = clients.length > limit ? ` (${limit} shown, l shows all)` : '';
      renderer.say(
        clients.length === 0
          ? `no clients ${where}`
          : `${counted(clients.length, 'client')} ${where}, ${writing.length} wrote in the last seconds${hidden}`,
      );
      if (clients.length > 0) found.push({ pair, addresses: clients.map(({ addr }) => addr) });
    });
    this.#clientsListed = found.length > 0;
    return found;
  }

  /**
   * One pair after the other; a failure is reported and does not keep the work from the rest.
   *
   * @param action what it is, for the audit; null: something is only looked at
   */
  async #each(
    pairs: readonly SteeredPair[],
    action: OperatorCommand | null,
    work: (pair: SteeredPair) => Promise<void>,
  ): Promise<void> {
    for (const pair of pairs) {
      if (this.#io.signal.aborted) return;
      const { name } = pair.pair;
      const done = (result: 'done' | 'failed'): void => {
        if (action === null) return;
        this.#io.renderer.event({ event: 'action', pair: name, by: 'keyboard', action, result });
      };
      try {
        await work(pair);
        done('done');
      } catch (error) {
        this.#io.report(toCutoverError(error), name);
        done('failed');
      }
    }
  }

  async #confirm(question: readonly string[], expected: string): Promise<boolean> {
    const confirmed = await this.#ask(question, expected);
    if (!confirmed && !this.#io.signal.aborted) this.#io.renderer.say('Nothing was changed.');
    return confirmed;
  }

  /** True only where `expected` was typed: `--yes` does not reach here. */
  #ask(question: readonly string[], expected: string): Promise<boolean> {
    const text = [...question, `Type "${printable(expected)}" to go on`].join('\n');
    return this.#io.operator.confirmByTyping(text, expected);
  }
}

/** `10.0.0.2:6379 (cart)`, or `3 targets`. */
function serversOf(pairs: readonly SteeredPair[], side: 'source' | 'target'): string {
  const [first] = pairs;
  return pairs.length === 1 && first !== undefined
    ? `${addressOf(first.pair[side])} (${printable(first.pair.name)})`
    : `${pairs.length} ${side}s`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

const HELP = [
  's  start: keep others from writing to the targets, and begin to sync',
  'e  enable writes on the targets, when all are in sync; then move the applications',
  'm  make the targets masters: the sources are fenced, the rest is drained, the links end',
  'c  cut over in one go: the same from in sync, with nobody writing to both sides',
  'w  cut over the next wave of the host list, when all of it is in sync; with --canary its first pair before the rest',
  'p  pause: nothing goes to the targets, what the sources send waits; once more goes on',
  't  throttle: so many keys or megabytes a second go to each target, at most',
  'l  list the clients that are still on the sources',
  'v  compare both sides, key by key, while they are kept in step; once more stops it',
  'k  kill the clients that were listed',
  'b  roll back: the old sources are the masters again, with all that was written since',
  'u  roll back the last wave that was cut over',
  'f  finish: the targets stay the masters; a way back of ours is closed, one of the servers goes on',
  'q  quit: before the cutover the sources stay as they are, the targets are given back; behind it as f',
];
