/**
 * The schedule of one round of the soak, made from its seed alone: which servers, which faults, when, and how the round
 * ends. What a fault does is told in fault-round.ts.
 */
import { type Random, randomFrom } from '../../src/demo/random.ts';
import type { Fault } from '../helpers/fault-proxy.ts';
import type { Feed } from './witness.ts';

export type Side = 'source' | 'target';

/** What breaks. `ms`: for how long; it goes on beside what comes next. */
export type Action =
  /** All connections of the tool with that side; `attach`: also those that the target has opened. */
  | { readonly kind: 'cut' | 'reset'; readonly side: Side | 'both' }
  /** Nothing passes, nothing is lost. */
  | { readonly kind: 'stall' | 'refuse' | 'slice' | 'SIGSTOP'; readonly side: Side; readonly ms: number }
  /** kill -9 and SIGTERM of the tool; the next one begins at once with `resume`. */
  | { readonly kind: 'kill the tool' | 'quit the tool' }
  /** kill -9, and started again with what its append-only file holds. */
  | { readonly kind: 'kill the target' };

/** Between which ends a byte is counted: `feed` is the port on which an attached target follows the tool. */
export type Line = Side | 'feed';

/** When it breaks. */
export type Moment =
  /** So long behind the fault before. */
  | { readonly kind: 'after'; readonly ms: number }
  /** At a byte behind texts that have passed on one connection, and so much later. */
  | {
      readonly kind: 'byte';
      readonly line: Line;
      readonly place: Omit<Fault, 'how'>;
      readonly thenMs: number;
    };

export interface Planned {
  readonly when: Moment;
  readonly what: Action;
}

export interface Plan {
  readonly seed: number;
  readonly feed: Feed;
  readonly keys: number;
  readonly ratePerSecond: number;
  readonly sourceArgs: readonly string[];
  /** While the first copy is under way; those that it is too short for never happen. */
  readonly snapshot: readonly Planned[];
  /** In this order, each waits for the one before. */
  readonly stream: readonly Planned[];
  /**
   * How it comes to the cutover: the tool is killed or quit, and the next one cuts over; or the first one does, as soon
   * as the faults let it.
   */
  readonly end: 'kill the tool' | 'quit the tool' | 'its own';
  /** Wait for their places from then on. */
  readonly cutover: readonly Planned[];
}

/** The same seed and feed give the same plan. */
export function planOf(seed: number, feed: Feed): Plan {
  const random = randomFrom(seed);
  const any = <Value>(values: readonly Value[]): Value => values[random.below(values.length)]!;
  const several = (most: number, make: () => Planned): Planned[] =>
    Array.from({ length: random.below(most + 1) }, make);
  const end = any(['kill the tool', 'quit the tool', 'its own'] as const);
  return {
    seed,
    feed,
    keys: 1_000 + random.below(12_000),
    ratePerSecond: 500 + random.below(1_500),
    sourceArgs: [
      ...['--repl-diskless-sync', any(['yes', 'no'])],
      // one in four forgets soon: then a broken link may cost a new copy
      ...['--repl-backlog-size', any(['64mb', '64mb', '64mb', '512kb'])],
    ],
    snapshot: several(2, () => ({ when: inSnapshot(random, feed), what: anyAction(random) })),
    stream: [
      ...Array.from({ length: 3 }, () => inStream(random, feed, end)),
      ...several(4, () => inStream(random, feed, end)),
    ],
    end,
    cutover: several(2, () => ({ when: inCutover(random, feed), what: anyAction(random) })),
  };
}

/** For people. */
export function nameOf(action: Action): string {
  switch (action.kind) {
    case 'cut':
    case 'reset':
    case 'stall':
    case 'refuse':
    case 'slice':
    case 'SIGSTOP':
      return `${action.kind} ${action.side}`;
    case 'kill the tool':
    case 'quit the tool':
    case 'kill the target':
      return action.kind;
  }
}

function anyAction(random: Random): Action {
  const side = (['source', 'target'] as const)[random.below(2)] ?? 'source';
  const ms = 100 + random.below(1_500);
  switch (random.below(13)) {
    case 0:
    case 1:
      return { kind: 'cut', side };
    case 2:
    case 3:
      return { kind: 'reset', side };
    case 4:
      return { kind: random.below(2) === 0 ? 'cut' : 'reset', side: 'both' };
    case 5:
      return { kind: 'stall', side, ms };
    case 6:
      return { kind: 'refuse', side, ms: ms / 2 };
    case 7:
      return { kind: 'slice', side, ms };
    case 8:
      return { kind: 'SIGSTOP', side, ms };
    case 9:
    case 10:
      return { kind: 'kill the tool' };
    case 11:
      return { kind: 'quit the tool' };
    default:
      return { kind: 'kill the target' };
  }
}

/** As the link sends it; the preflight names it, too, in other commands. */
const PSYNC = '*3\r\n$5\r\nPSYNC\r\n';

function inSnapshot(random: Random, feed: Feed): Moment {
  const bytes = random.below(300_000);
  if (random.below(2) === 0) {
    const after: Fault['after'] = [
      { direction: 'to-server', text: PSYNC },
      { direction: 'to-client', text: 'REDIS0' },
    ];
    return { kind: 'byte', line: 'source', place: { after, direction: 'to-client', bytes }, thenMs: 0 };
  }
  if (feed === 'attach') {
    const after: Fault['after'] = [{ direction: 'to-client', text: 'FULLRESYNC' }];
    return { kind: 'byte', line: 'feed', place: { after, direction: 'to-client', bytes }, thenMs: 0 };
  }
  const after: Fault['after'] = [{ direction: 'to-server', text: 'RESTORE\r\n' }];
  return { kind: 'byte', line: 'target', place: { after, direction: 'to-server', bytes }, thenMs: 0 };
}

function inStream(random: Random, feed: Feed, end: Plan['end']): Planned {
  const what = anyAction(random);
  // a tool that cuts over by itself does so soon
  const most = end === 'its own' ? 500 : 1_200;
  if (random.below(2) === 0) return { when: { kind: 'after', ms: random.below(most) }, what };
  const text = ['MULTI\r\n', 'EXEC\r\n', 'SELECT\r\n', 'RPUSH\r\n', 'INCR\r\n'][random.below(5)] ?? '';
  const bytes = random.below(2_000);
  if (random.below(2) === 0) {
    const after: Fault['after'] = [{ direction: 'to-client', text }];
    return {
      when: { kind: 'byte', line: 'source', place: { after, direction: 'to-client', bytes }, thenMs: 0 },
      what,
    };
  }
  if (feed === 'attach') {
    const after: Fault['after'] = [{ direction: 'to-client', text }];
    return {
      when: { kind: 'byte', line: 'feed', place: { after, direction: 'to-client', bytes }, thenMs: 0 },
      what,
    };
  }
  // behind what we send, or within the answer to it: nobody knows then whether it was executed
  const direction = random.below(2) === 0 ? 'to-server' : 'to-client';
  const after: Fault['after'] = [{ direction: 'to-server', text }];
  return {
    when: {
      kind: 'byte',
      line: 'target',
      place: { after, direction, bytes: direction === 'to-client' ? bytes % 50 : bytes },
      thenMs: 0,
    },
    what,
  };
}

/**
 * What the tool sends in a cutover: first the pause, on whose connection all that concerns the source follows; a role or
 * rights given back on the target; and at the end users of ours deleted.
 */
const CUTOVER_TEXTS: Readonly<Record<Side, Readonly<Record<Feed, readonly string[]>>>> = {
  source: { attach: ['PAUSE', 'PAUSE', 'UNPAUSE'], write: ['PAUSE', 'PAUSE', 'UNPAUSE'] },
  target: { attach: ['$2\r\nNO\r\n', 'DELUSER'], write: ['+@all', 'DELUSER'] },
};

function inCutover(random: Random, feed: Feed): Moment {
  const line = random.below(3) === 0 ? 'target' : 'source';
  const texts = CUTOVER_TEXTS[line][feed];
  const text = texts[random.below(texts.length)] ?? '';
  const direction = random.below(2) === 0 ? 'to-server' : 'to-client';
  // 0: the command gets through, its answer does not
  const bytes = random.below(2) === 0 ? 0 : random.below(1_000);
  const thenMs = [0, 0, 1, 3, 10, 30][random.below(6)] ?? 0;
  return {
    kind: 'byte',
    line,
    place: { after: [{ direction: 'to-server', text }], direction, bytes },
    thenMs,
  };
}
