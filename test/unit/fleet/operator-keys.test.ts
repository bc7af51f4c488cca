/** The operator's keys over pairs that only remember: which keys act when, what is asked, what is done to whom. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { PairSpec } from '../../../src/core/endpoint.ts';
import { TargetError } from '../../../src/core/errors.ts';
import type { ClientInfo } from '../../../src/core/events.ts';
import type { RunOptions } from '../../../src/core/options.ts';
import type { Phase } from '../../../src/core/phase.ts';
import type { OperatorCommand } from '../../../src/core/ports.ts';
import { type Throttle, throttleText } from '../../../src/core/throttle.ts';
import { allowedCommands, OperatorKeys, type SteeredPair } from '../../../src/fleet/operator-keys.ts';

/** A pair that writes down what is done to it. */
class FakePair implements SteeredPair {
  readonly pair;
  readonly done: string[] = [];
  phase: Phase = 'in-sync';
  wayBackOpen = false;
  wayBackNeedsCopy: string | null = null;
  /** Whether a cutover leaves a way back. */
  reverses = true;
  needsCopyAfter: string | null = null;
  onSource: readonly ClientInfo[] = [];
  fails: string | null = null;

  constructor(name: string) {
    const endpoint = (host: string) => ({ host, port: 6379, username: null, password: null, tls: null });
    this.pair = { name, source: endpoint(`old-${name}`), target: endpoint(`new-${name}`) };
  }

  async #did(what: string): Promise<void> {
    this.done.push(what);
    if (this.fails === what) throw new TargetError('no luck', { code: 'no-luck', hint: 'try again' });
  }
  async enableWrites(): Promise<void> {
    await this.#did('enable-writes');
    this.phase = 'writable';
  }
  async promote(): Promise<void> {
    await this.#did('promote');
    this.#promoted();
  }
  async cutOver(): Promise<void> {
    await this.#did('cut-over');
    this.#promoted();
  }
  #promoted(): void {
    this.phase = 'promoted';
    this.wayBackNeedsCopy = this.needsCopyAfter;
    this.wayBackOpen = this.reverses && this.needsCopyAfter === null;
  }
  async rollBack(): Promise<void> {
    await this.#did('roll-back');
    this.phase = 'rolled-back';
  }
  async finish(): Promise<void> {
    await this.#did('finish');
    this.wayBackOpen = false;
  }
  async openWayBackByCopy(): Promise<void> {
    await this.#did('copy');
    this.wayBackNeedsCopy = null;
    this.wayBackOpen = true;
  }
  paused = false;
  async pause(on: boolean): Promise<void> {
    await this.#did(on ? 'pause' : 'go on');
    this.paused = on;
  }
  async throttle(limits: Throttle): Promise<void> {
    await this.#did(`throttle ${throttleText(limits)}`);
  }
  async clients(): Promise<readonly ClientInfo[]> {
    await this.#did('clients');
    return this.onSource;
  }
  async killClients(addresses: readonly string[]): Promise<number> {
    await this.#did(`kill ${addresses.join(' ')}`);
    return addresses.length;
  }
}

function client(addr: string, writing = false): ClientInfo {
  return { addr, name: '', user: 'app', lastCommand: writing ? 'set' : 'get', idleSeconds: 0, writing };
}

type Options = Pick<RunOptions, 'sourceFence' | 'reverse' | 'hooks' | 'cutoverTimeoutMs' | 'fleet'>;
const OPTIONS: Options = {
  sourceFence: true,
  reverse: true,
  hooks: {},
  cutoverTimeoutMs: 10_000,
  fleet: { parallelCopies: 4, workers: null, maxFailures: null, canaryMs: null },
};

/** The keys of somebody who types `answers`, one for each question; a question too many is answered with nothing. */
function steer(
  pairs: readonly FakePair[],
  answers: string[] = [],
  options: Partial<Options> = {},
  compare: (pair: PairSpec, signal: AbortSignal) => Promise<void> = async () => {},
) {
  const questions: string[] = [];
  const said: string[] = [];
  const shown: string[] = [];
  const errors: string[] = [];
  const abort = new AbortController();
  const keys = new OperatorKeys(
    pairs,
    { ...OPTIONS, ...options },
    {
      operator: {
        selected: () => null,
        next: () => new Promise(() => {}),
        confirmByTyping: async (question, expected) => {
          questions.push(question);
          return answers.shift() === expected;
        },
        ask: async (question) => {
          questions.push(question);
          return answers.shift() ?? null;
        },
        close() {},
      },
      renderer: {
        event: (event) => {
          if (event.event === 'clients') shown.push(`${event.pair} ${event.addr}`);
        },
        frame() {},
        say: (text) => said.push(text),
        step: () => () => {},
        close() {},
      },
      signal: abort.signal,
      report: (error, pair) => errors.push(`${pair} ${error.code}`),
      compare,
    },
  );
  return { keys, questions, said, shown, errors, abort };
}

/** What was done to a pair besides looking at its clients. */
function changes(pair: FakePair): string[] {
  return pair.done.filter((what) => what !== 'clients');
}

test('the keys that act now, by the phases of the pairs', () => {
  const open = { phase: 'promoted', wayBackOpen: true } as const;
  const closed = { phase: 'promoted', wayBackOpen: false } as const;
  const at = (phase: Phase) => ({ phase, wayBackOpen: false });
  const cases: [{ phase: Phase; wayBackOpen: boolean }[], string][] = [
    [[at('snapshot')], ''],
    [[at('in-sync')], 'enable-writes promote cut-over verify'],
    [[at('in-sync'), at('in-sync')], 'enable-writes promote cut-over verify'],
    [[at('in-sync'), at('catching-up')], 'verify'],
    [[at('writable')], 'promote'],
    [[at('in-sync'), at('writable')], 'promote verify'],
    // pairs that are out of it hold nobody up
    [[at('in-sync'), at('failed'), closed], 'enable-writes promote cut-over verify'],
    [[open], 'roll-back finish'],
    [[open, open, closed], 'roll-back finish'],
    [[open, at('failed'), at('rolled-back')], 'roll-back finish'],
    // the cutover of the second was undone: again, or back with the first
    [[open, at('in-sync')], 'enable-writes promote cut-over verify roll-back'],
    [[open, at('catching-up')], 'verify roll-back'],
    [[closed], ''],
  ];
  const always: OperatorCommand[] = ['clients', 'quit', 'help'];
  for (const [pairs, expected] of cases) {
    const all = allowedCommands(pairs, false);
    const held: OperatorCommand[] = ['pause', 'throttle'];
    // as long as a pair is fed
    const fed = pairs.some(({ phase }) => ['snapshot', 'catching-up', 'in-sync', 'writable'].includes(phase));
    assert.deepEqual(
      all.filter((command) => held.includes(command)),
      fed ? held : [],
    );
    const found = all.filter((command) => !held.includes(command));
    assert.equal(
      found.filter((command) => !always.includes(command)).join(' '),
      expected,
      JSON.stringify(pairs),
    );
    for (const command of always) assert.ok(found.includes(command));
    assert.deepEqual(
      allowedCommands(pairs, true).filter((command) => !all.includes(command)),
      ['kill'],
    );
  }
});

test('each dangerous key asks for the name of the pair, or for the step and the number of pairs', async () => {
  const cases = [
    ['enable-writes', 'in-sync', 'enable writes 2', 'enable-writes'],
    ['promote', 'in-sync', 'promote 2', 'promote'],
    ['promote', 'writable', 'promote 2', 'promote'],
    ['cut-over', 'in-sync', 'cut over 2', 'cut-over'],
    ['roll-back', 'promoted', 'roll back 2', 'roll-back'],
  ] as const;
  for (const [command, phase, words, done] of cases) {
    for (const names of [['cart'], ['cart', 'sess']]) {
      const expected = names.length === 1 ? 'cart' : words;
      for (const [answer, goes] of [
        [expected, true],
        ['y', false],
        ['yes', false],
        [words.slice(0, -2), false],
      ] as const) {
        const pairs = names.map((name) => Object.assign(new FakePair(name), { phase, wayBackOpen: true }));
        const { keys, questions, said } = steer(pairs, [answer]);
        await keys.obey(command);
        assert.equal(questions.length, 1, command);
        assert.ok(questions[0]?.endsWith(`\nType "${expected}" to go on`), questions[0]);
        for (const pair of pairs) assert.deepEqual(changes(pair), goes ? [done] : [], `${command} ${answer}`);
        assert.equal(said.includes('Nothing was changed.'), !goes);
      }
    }
  }
});

test('c: the clients before and after, the steps and the way back in the question', async () => {
  const cart = new FakePair('cart');
  cart.onSource = [client('1:1'), client('2:2', true)];
  const { keys, questions, shown, said } = steer([cart], ['cart']);
  await keys.obey('cut-over');
  assert.deepEqual(cart.done, ['clients', 'cut-over', 'clients']);
  // those that write come first
  assert.deepEqual(shown, ['cart 2:2', 'cart 1:1', 'cart 2:2', 'cart 1:1']);
  assert.equal(said[0], "2 clients on cart's source, 1 wrote in the last seconds");
  assert.deepEqual(questions[0]?.split('\n'), [
    'Make new-cart:6379 (cart) the master.',
    'Steps: stop writes on the source -> drain -> compare the last keys -> open the target -> promote. What fails, or drains longer than 10 s, is undone.',
    'Rollback stays lossless while the way back is open.',
    'Type "cart" to go on',
  ]);
  assert.match(said.at(-1) ?? '', /^Promoted: .* b rolls back without loss while the way back is open/);
});

test('the question says what is asked for: hooks, no fence, no way back, a target that is open already', async () => {
  const asked = async (phase: Phase, options: Partial<Options> = {}): Promise<string> => {
    const { keys, questions } = steer([Object.assign(new FakePair('cart'), { phase })], [], options);
    await keys.obey('promote');
    return questions[0] ?? '';
  };
  const hooks = { before: 'a', cutover: 'b' };
  assert.match(
    await asked('in-sync', { hooks }),
    /hook before -> stop writes .* open the target -> hook -> promote\./,
  );
  const unfenced = await asked('in-sync', { sourceFence: false });
  assert.match(unfenced, /Steps: drain .*\nThe source keeps taking writes: those that come late are lost\./);
  const oneWay = await asked('in-sync', { reverse: false });
  assert.match(oneWay, /No way back is kept/);
  assert.doesNotMatch(oneWay, /lossless/);
  assert.match(await asked('writable'), /Steps: stop writes on the source -> drain -> promote\./);
});

test('a pair whose step fails is reported and holds nobody up; clients that cannot be listed neither', async () => {
  const [cart, sess] = [new FakePair('cart'), new FakePair('sess')];
  cart.fails = 'cut-over';
  sess.fails = 'clients';
  const { keys, errors } = steer([cart, sess], ['cut over 2']);
  await keys.obey('cut-over');
  assert.deepEqual(errors, ['sess no-luck', 'cart no-luck', 'sess no-luck']);
  assert.deepEqual([cart.phase, sess.phase], ['in-sync', 'promoted']);
  // the other one again: only it is asked for, by its name
  cart.fails = null;
  const again = steer([cart, sess], ['cart']);
  await again.keys.obey('cut-over');
  assert.deepEqual([changes(cart), changes(sess)], [['cut-over', 'cut-over'], ['cut-over']]);
});

test('a way back that needs a full copy is offered once, and never taken without the name', async () => {
  for (const [answer, taken] of [
    ['cart', true],
    ['', false],
  ] as const) {
    const cart = new FakePair('cart');
    cart.needsCopyAfter = 'the offsets\x1b differ';
    const { keys, questions, said } = steer([cart], ['cart', answer]);
    await keys.obey('cut-over');
    assert.equal(questions.length, 2);
    assert.match(
      questions[1] ?? '',
      /^cart: the way back needs a full copy: the offsets\\x1b differ\.\nThe old source old-cart:6379 will be wiped and copied anew\..*\nType "cart" to go on$/,
    );
    assert.deepEqual(changes(cart), taken ? ['cut-over', 'copy'] : ['cut-over']);
    assert.equal(said.includes('cart: the old source was not touched; there is no way back.'), !taken);
    assert.equal(keys.allowed().includes('roll-back'), taken);
  }
});

test('f closes every way back, without a question', async () => {
  const pairs = ['cart', 'sess'].map((name) =>
    Object.assign(new FakePair(name), { phase: 'promoted' as const, wayBackOpen: true }),
  );
  const { keys, questions } = steer(pairs);
  await keys.obey('finish');
  assert.deepEqual(questions, []);
  for (const pair of pairs) assert.deepEqual(pair.done, ['finish']);
});

test('k: only after clients were listed; lists them anew and ends those, after kill N clients', async () => {
  const [cart, sess, gone] = [new FakePair('cart'), new FakePair('sess'), new FakePair('gone')];
  cart.onSource = [client('1:1'), client('2:2', true)];
  sess.onSource = [client('3:3')];
  gone.phase = 'failed';
  const { keys, questions, said } = steer([cart, sess, gone], ['kill 2 clients', 'kill 3 clients']);
  assert.ok(!keys.allowed().includes('kill'));
  await keys.obey('clients');
  assert.ok(keys.allowed().includes('kill'));
  await keys.obey('kill');
  assert.match(questions[0] ?? '', /\nType "kill 3 clients" to go on$/);
  assert.deepEqual([changes(cart), changes(sess)], [[], []]);
  await keys.obey('kill');
  assert.deepEqual([changes(cart), changes(sess)], [['kill 1:1 2:2'], ['kill 3:3']]);
  assert.ok(said.includes("2 clients ended on cart's source, 0 were gone"));
  assert.deepEqual(gone.done, []);
  assert.ok(!keys.allowed().includes('kill'));
});

test('nobody left to kill: no question', async () => {
  const cart = new FakePair('cart');
  const { keys, questions, said } = steer([cart]);
  await keys.obey('kill');
  assert.deepEqual([questions, said], [[], ["no clients on cart's source"]]);
});

test('around a cutover at most 20 clients are shown, l shows all', async () => {
  const cart = new FakePair('cart');
  cart.onSource = Array.from({ length: 30 }, (_, index) => client(`${index}:1`));
  const before = steer([cart]);
  await before.keys.obey('cut-over');
  assert.equal(before.shown.length, 20);
  assert.equal(
    before.said[0],
    "30 clients on cart's source, 0 wrote in the last seconds (20 shown, l shows all)",
  );
  const all = steer([cart]);
  await all.keys.obey('clients');
  assert.equal(all.shown.length, 30);
});

test('after a signal nothing new is begun, not even with the right name', async () => {
  const cart = new FakePair('cart');
  const { keys, said, abort } = steer([cart], ['cart']);
  abort.abort();
  await keys.obey('cut-over');
  assert.deepEqual([cart.done, said], [[], []]);
});

describe('waves', () => {
  const inWave = (name: string, wave: string): FakePair => {
    const pair = new FakePair(name);
    return Object.assign(pair, { pair: { ...pair.pair, wave } });
  };
  const fleet = (canaryMs: number | null = null) => ({
    fleet: { parallelCopies: 4, workers: null, maxFailures: 0, canaryMs },
  });

  test('w takes the first wave that is not through, as soon as all of it is in sync', async () => {
    const [a, b, c] = [inWave('a', '1'), inWave('b', '1'), inWave('c', '2')];
    b.phase = 'catching-up';
    const { keys, said } = steer([a, b, c], ['wave 1', 'wave 2']);
    assert.ok(!keys.allowed().includes('cut-over-wave'));
    b.phase = 'in-sync';
    assert.ok(keys.allowed().includes('cut-over-wave'));
    await keys.obey('cut-over-wave');
    assert.deepEqual([a.phase, b.phase, c.phase], ['promoted', 'promoted', 'in-sync']);
    assert.ok(said.includes('Wave 1: 2 promoted, 0 returned.'));
    await keys.obey('cut-over-wave');
    assert.equal(c.phase, 'promoted');
  });

  test('the wrong words change nothing', async () => {
    const a = inWave('a', '1');
    const { keys } = steer([a], ['wave 2']);
    await keys.obey('cut-over-wave');
    assert.equal(a.phase, 'in-sync');
  });

  test('with a canary its first pair goes alone, and the key is pressed again', async () => {
    const [a, b, c] = [inWave('a', '1'), inWave('b', '1'), inWave('c', '1')];
    const { keys, said } = steer([a, b, c], ['wave 1', 'wave 1'], fleet(0));
    await keys.obey('cut-over-wave');
    assert.deepEqual([a.phase, b.phase, c.phase], ['promoted', 'in-sync', 'in-sync']);
    assert.ok(said.some((line) => line.includes('2 wait: w when the first one is well')));
    await keys.obey('cut-over-wave');
    assert.deepEqual([b.phase, c.phase], ['promoted', 'promoted']);
  });

  test('more failures than may be: the rest stays in sync', async () => {
    const [a, b] = [inWave('a', '1'), inWave('b', '1')];
    a.fails = 'promote';
    const { keys, errors } = steer([a, b], ['wave 1'], fleet());
    await keys.obey('cut-over-wave');
    assert.deepEqual(errors, ['a no-luck']);
    assert.deepEqual([a.phase, b.phase], ['in-sync', 'in-sync']);
  });

  test('u rolls back the last wave that was cut over, and no other', async () => {
    const [a, b] = [inWave('a', '1'), inWave('b', '2')];
    const { keys } = steer([a, b], ['wave 1', 'wave 2', 'roll back wave 2']);
    await keys.obey('cut-over-wave');
    await keys.obey('cut-over-wave');
    await keys.obey('roll-back-wave');
    assert.deepEqual([a.phase, b.phase], ['promoted', 'rolled-back']);
  });

  test('a list without waves has no such keys', () => {
    assert.ok(
      !steer([new FakePair('a')])
        .keys.allowed()
        .includes('cut-over-wave'),
    );
  });
});

describe('comparing', () => {
  test('goes on beside the keys, pair after pair, and v stops it', async () => {
    const pairs = [new FakePair('a'), new FakePair('b'), new FakePair('c')];
    const [, , promoted] = pairs;
    assert.ok(promoted);
    promoted.phase = 'promoted';
    const compared: string[] = [];
    const compare = async (pair: PairSpec, signal: AbortSignal): Promise<void> => {
      compared.push(pair.name);
      if (pair.name !== 'b') return;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      signal.throwIfAborted();
    };
    const { keys, errors, said } = steer(pairs, [], {}, compare);
    await keys.obey('verify');
    await keys.obey('verify');
    assert.deepEqual(compared, ['a', 'b']);
    assert.deepEqual(errors, []);
    assert.ok(said.includes('The comparison was stopped.'));
  });

  test('a cutover ends it first', async () => {
    const pair = new FakePair('a');
    let stopped = false;
    const compare = (_: PairSpec, signal: AbortSignal): Promise<void> =>
      new Promise((resolve) =>
        signal.addEventListener('abort', () => {
          stopped = pair.phase === 'in-sync';
          resolve();
        }),
      );
    const { keys } = steer([pair], ['a'], {}, compare);
    await keys.obey('verify');
    await keys.obey('cut-over');
    assert.ok(stopped, 'it was not stopped before the cutover');
    assert.equal(pair.phase, 'promoted');
  });

  test('what goes wrong is reported, and the next pair is compared', async () => {
    const compared: string[] = [];
    const compare = async ({ name }: PairSpec): Promise<void> => {
      compared.push(name);
      throw new TargetError('no luck', { code: 'no-luck', hint: 'try again' });
    };
    const { keys, errors } = steer([new FakePair('a'), new FakePair('b')], [], {}, compare);
    await keys.obey('verify');
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(compared, ['a', 'b']);
    assert.deepEqual(errors, ['a no-luck', 'b no-luck']);
  });
});

test('p holds all back unless all are, then lets all go on; a paused pair is not cut over, and no question is asked', async () => {
  const pairs = [
    new FakePair('cart'),
    new FakePair('sess'),
    Object.assign(new FakePair('old'), { phase: 'failed' }),
  ];
  const [cart, sess, old] = pairs;
  const { keys, questions, errors } = steer(pairs);
  cart!.paused = true;
  await keys.obey('pause');
  assert.deepEqual([cart!.paused, sess!.paused, changes(old!)], [true, true, []]);
  for (const command of ['enable-writes', 'promote', 'cut-over'] as const) await keys.obey(command);
  assert.deepEqual([errors, questions], [Array(3).fill('undefined not-now'), []]);
  await keys.obey('pause');
  assert.deepEqual([cart!.paused, sess!.paused], [false, false]);
});

test('t asks for a figure; nothing, or nonsense, changes nothing', async () => {
  const cart = new FakePair('cart');
  const { keys, questions, errors, said } = steer([cart], ['1000 keys 20 mb', '', 'fast', 'off']);
  for (let times = 0; times < 4; times++) await keys.obey('throttle');
  assert.deepEqual(changes(cart), ['throttle 1000 keys/s and 20 MB/s', 'throttle ']);
  assert.deepEqual([said, errors], [['Nothing was changed.'], ['undefined bad-value']]);
  assert.match(questions[0] ?? '', /^At most how much a second to new-cart:6379 \(cart\)\?/);
});
