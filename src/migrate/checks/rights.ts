/**
 * What our own user may do in the steps that come later: each step with the commands that it takes. What a run cannot
 * begin without has checks of its own (source-no-psync, target-permissions, the two fences, feed).
 */
import type { CheckResult } from '../../core/events.ts';
import {
  type Check,
  type CheckContext,
  type CommandWords,
  forbiddenCommands,
  missingCommands,
  ok,
  warn,
} from './context.ts';

interface StepRights {
  readonly side: 'source' | 'target';
  /** What is done, for people. */
  readonly step: string;
  readonly commands: readonly CommandWords[];
  /** What happens without them. */
  readonly without: string;
  /** False: the step is not taken here. */
  readonly taken: (context: CheckContext) => boolean;
}

/** Of the comparison of the last keys: migrate/tail-check.ts. */
const COMPARED: readonly CommandWords[] = [
  ['SELECT', '0'],
  ['TYPE', 'k'],
  ['PTTL', 'k'],
  ['STRLEN', 'k'],
  ['GETRANGE', 'k', '0', '1'],
  ['HGET', 'k', 'f'],
  ['LLEN', 'k'],
  ['LINDEX', 'k', '0'],
  ['SCARD', 'k'],
  ['SISMEMBER', 'k', 'm'],
  ['ZCARD', 'k'],
  ['ZSCORE', 'k', 'm'],
];

const NO_COMPARISON = 'the last keys are not compared at the cutover';
const always = (): boolean => true;
const attached = ({ feed }: CheckContext): boolean => feed === 'attach';
const writtenWithoutAcl = ({ feed, targetFence }: CheckContext): boolean =>
  feed === 'write' && targetFence.kind !== 'acl';

/** The table. A target that is written to has a user of our own for most of it, where it has ACL. */
const STEPS: readonly StepRights[] = [
  {
    side: 'source',
    step: 'clients (l, k)',
    commands: [
      ['CLIENT', 'LIST'],
      ['CLIENT', 'KILL', '127.0.0.1:1'],
    ],
    without: 'l and k show and end no clients',
    taken: always,
  },
  {
    side: 'source',
    step: 'pause (c, m)',
    commands: [
      ['CLIENT', 'PAUSE', '1', 'WRITE'],
      ['CLIENT', 'UNPAUSE'],
    ],
    without: 'writes are refused instead of held back while a cutover drains',
    taken: ({ sourceInfo, options }) => options.sourceFence && sourceInfo.atLeast(6, 2),
  },
  {
    side: 'source',
    step: 'last keys compared (c, m)',
    commands: COMPARED,
    without: NO_COMPARISON,
    taken: ({ options }) => options.sourceFence,
  },
  {
    side: 'source',
    step: 'roles swapped (c, b)',
    commands: [
      ['REPLICAOF', 'host', '1'],
      ['CONFIG', 'GET', 'masterauth'],
      ['CONFIG', 'SET', 'masterauth', ''],
    ],
    without: 'the source cannot follow the target: the cutover fails, unless --no-reverse is given',
    taken: (context) => attached(context) && context.options.reverse && context.sourceInfo.atLeast(5, 0),
  },
  {
    side: 'source',
    step: 'settings for the run (--tune-source)',
    commands: [
      ['CONFIG', 'GET', 'rdbcompression'],
      ['CONFIG', 'SET', 'rdbcompression', 'no'],
    ],
    without: 'they are not set',
    taken: ({ options }) => options.tuneSource.length > 0,
  },
  {
    side: 'target',
    step: 'last keys compared (c, m)',
    commands: COMPARED,
    without: NO_COMPARISON,
    taken: attached,
  },
  {
    side: 'target',
    step: 'a copy begun anew',
    commands: [['FLUSHALL', 'ASYNC']],
    without: 'a copy that broke off cannot be begun anew',
    taken: attached,
  },
  {
    side: 'target',
    step: 'opened (e)',
    commands: [
      ['MULTI'],
      ['EXEC'],
      ['DEL', 'k'],
      ['HMSET', 'k', 'f', 'v'],
      ['EVAL', 'return 1', '1', 'k'],
      ['CLIENT', 'LIST'],
    ],
    without: 'e cannot open the target while it follows',
    taken: attached,
  },
  {
    side: 'target',
    step: 'writers ended behind a break',
    commands: [
      ['CLIENT', 'LIST'],
      ['CLIENT', 'KILL', '127.0.0.1:1'],
    ],
    without: 'the run ends with the first break of a connection',
    taken: writtenWithoutAcl,
  },
  {
    side: 'target',
    step: 'way back (b)',
    commands: [
      ['PSYNC', '?', '-1'],
      ['REPLCONF', 'ack', '0'],
    ],
    without: 'there is no way back: --no-reverse does without',
    taken: ({ feed, options }) => feed === 'write' && options.reverse,
  },
];

/** One finding for both sides: the steps that lack rights, and what each lacks. */
export const stepRights: Check = async (context): Promise<CheckResult> => {
  const name = 'step-rights';
  // our own fence may be what takes them away
  if (context.options.resumes !== null) return ok(name, 'checked when the run began');
  const steps = STEPS.filter(({ taken }) => taken(context));
  const lacking: string[] = [];
  const hints = new Set<string>();
  const silent = new Set<string>();
  const found = await Promise.all(steps.map((step) => lackingFor(step, context)));
  for (const [index, step] of steps.entries()) {
    const { missing, forbidden } = found[index]!;
    if (missing === null || forbidden === null) silent.add(step.side);
    const lacks = [...new Set([...(missing ?? []), ...(forbidden ?? [])])];
    if (lacks.length === 0) continue;
    lacking.push(`${step.side}, ${step.step}: no ${lacks.join(', ')} (${step.without})`);
    if (missing !== null && missing.length > 0)
      hints.add(`no rename-command on the ${step.side} for ${missing.join(', ')}`);
    else
      hints.add(
        `on the ${step.side}: ACL SETUSER <user> ${lacks.map((each) => `+${each.toLowerCase()}`).join(' ')}`,
      );
  }
  if (lacking.length > 0) return warn(name, lacking.join('; '), [...hints].join('; '));
  if (silent.size > 0) {
    return warn(
      name,
      `not checked: the ${[...silent].join(' and the ')} does not say what our user may do`,
      'let our user ask: ACL SETUSER <user> +acl +command',
    );
  }
  return ok(name, `both sides let us do all ${steps.length} steps that come later`);
};

/** Commands of a step that its server does not have, and those that it does not allow us; null: it does not say. */
async function lackingFor(
  { side, commands }: StepRights,
  context: CheckContext,
): Promise<{ missing: readonly string[] | null; forbidden: readonly string[] | null }> {
  const [session, info] =
    side === 'source' ? [context.source, context.sourceInfo] : [context.target, context.targetInfo];
  const [missing, forbidden] = await Promise.all([
    missingCommands(session, [...new Set(commands.map(([command]) => command))]),
    // before 6.0 there are no users
    info.atLeast(6, 0) ? forbiddenCommands(session, commands) : [],
  ]);
  return { missing, forbidden };
}
