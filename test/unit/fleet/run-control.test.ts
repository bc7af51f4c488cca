/** The socket of a run folder: what it answers, who can open it, hostile input, and the commands that use it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { cutoverCommand } from '../../../src/cli/commands/cutover.ts';
import { pauseCommand } from '../../../src/cli/commands/pause.ts';
import { statusCommand } from '../../../src/cli/commands/status.ts';
import { throttleCommand } from '../../../src/cli/commands/throttle.ts';
import type { RawOptions } from '../../../src/cli/options.ts';
import { TargetError } from '../../../src/core/errors.ts';
import type { MigrationEvent } from '../../../src/core/events.ts';
import type { Phase } from '../../../src/core/phase.ts';
import type { Throttle } from '../../../src/core/throttle.ts';
import { askSession } from '../../../src/fleet/control-client.ts';
import type { ControlAnswer, SessionStatus } from '../../../src/fleet/control-messages.ts';
import { ControlServer } from '../../../src/fleet/control-server.ts';
import { controlOf } from '../../../src/fleet/run-control.ts';
import { pairSnapshot } from '../ui/fake.ts';

/** A pair that is promoted at once, unless it is to fail. */
class FakePair {
  readonly pair: { readonly name: string; readonly wave?: string };
  phase: Phase;
  promotions = 0;
  paused = false;
  limits: Throttle | null = null;
  /** What promote() waits for before it does anything. */
  gate: Promise<unknown> = Promise.resolve();

  constructor(name: string, wave: string | null = null, phase: Phase = 'in-sync') {
    this.pair = wave === null ? { name } : { name, wave };
    this.phase = phase;
  }

  async promote(): Promise<void> {
    this.promotions += 1;
    await this.gate;
    if (this.pair.name.startsWith('bad')) {
      throw new TargetError('it does not drain', { code: 'cutover-timeout', hint: 'try again' });
    }
    this.phase = 'promoted';
  }

  async pause(on: boolean): Promise<void> {
    if (this.pair.name.startsWith('bad'))
      throw new TargetError('it is cutting over', { code: 'not-now', hint: 'wait' });
    this.paused = on;
  }

  async throttle(limits: Throttle): Promise<void> {
    this.limits = limits;
  }
}

interface Scene {
  readonly dir: string;
  readonly events: MigrationEvent[];
  readonly server: ControlServer;
  /** Writes `bytes` to the socket and reads until it ends. */
  raw(bytes: string, end?: boolean): Promise<ControlAnswer[]>;
  set(phase: SessionStatus['session']): void;
}

function runFolder(t: TestContext, below = ''): string {
  const root = mkdtempSync(join(tmpdir(), 'redis-cutover-control-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const dir = join(root, below);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'run.json'), JSON.stringify({ runId: 'r', options: {}, pairs: [] }));
  return dir;
}

function socketOf(dir: string): string {
  return (JSON.parse(readFileSync(join(dir, 'control.json'), 'utf8')) as { socket: string }).socket;
}

async function scene(
  t: TestContext,
  pairs: readonly FakePair[],
  options: { dir?: string; maxFailures?: number; canaryMs?: number } = {},
): Promise<Scene> {
  const dir = options.dir ?? runFolder(t);
  const events: MigrationEvent[] = [];
  let phase: SessionStatus['session'] = 'running';
  const target = controlOf({
    pairs,
    maxFailures: options.maxFailures ?? null,
    canaryMs: options.canaryMs ?? null,
    phase: () => phase,
    snapshots: () =>
      pairs.map((one) =>
        pairSnapshot({
          pair: one.pair.name,
          wave: one.pair.wave ?? null,
          phase: one.phase,
          paused: one.paused,
        }),
      ),
    emit: (event) => events.push(event),
    report: ({ code, message, hint, recovery }, pair) =>
      events.push({ event: 'error', pair, code, message, hint, recovery }),
    stopComparing: async () => {
      events.push({ event: 'note', message: 'stopped comparing' });
    },
  });
  const server = await ControlServer.open(dir, target);
  t.after(() => server.close());
  return {
    dir,
    events,
    server,
    set: (to) => {
      phase = to;
    },
    async raw(bytes, end = true) {
      const socket = connect(socketOf(dir)).setEncoding('utf8');
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk;
      });
      socket.on('error', () => undefined);
      if (end) socket.end(bytes);
      else socket.write(bytes);
      await once(socket, 'close');
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as ControlAnswer);
    },
  };
}

function refusedWith(answer: ControlAnswer | undefined): string | undefined {
  return answer?.kind === 'refused' ? answer.error.code : undefined;
}

interface Output {
  readonly exitCode: number;
  readonly out: string;
}

/** Runs a command in this process and takes what it prints. */
async function command(
  t: TestContext,
  { run }: typeof statusCommand,
  raw: RawOptions,
  dir: string,
): Promise<Output> {
  let out = '';
  const capture = t.mock.method(process.stdout, 'write', (text: string) => {
    out += text;
    return true;
  });
  const silent = t.mock.method(process.stderr, 'write', () => true);
  try {
    return { exitCode: await run(raw, [dir]), out };
  } finally {
    capture.mock.restore();
    silent.mock.restore();
  }
}

test('the socket is its owner’s alone, also in a folder that is open to others, and goes with the session', async (t) => {
  const dir = runFolder(t);
  chmodSync(dir, 0o777);
  const before = process.umask();
  const { server } = await scene(t, [new FakePair('cart')], { dir });
  assert.equal(process.umask(), before);
  assert.equal(socketOf(dir), join(dir, 'control.sock'));
  assert.equal(statSync(join(dir, 'control.sock')).mode & 0o777, 0o600);
  assert.equal(statSync(join(dir, 'control.json')).mode & 0o777, 0o600);
  await server.close();
  assert.ok(!existsSync(join(dir, 'control.sock')));
  assert.ok(!existsSync(join(dir, 'control.json')));
  await assert.rejects(askSession(dir, { kind: 'status' }), { code: 'no-session', exitCode: 1 });
});

test('a run folder too deep for a socket gets one in a private folder elsewhere', async (t) => {
  const dir = runFolder(t, `${'d'.repeat(60)}/${'e'.repeat(60)}`);
  const { server } = await scene(t, [new FakePair('cart')], { dir });
  const path = socketOf(dir);
  assert.ok(Buffer.byteLength(path) <= 103, path);
  assert.equal(statSync(dirname(path)).mode & 0o777, 0o700);
  assert.equal((await askSession(dir, { kind: 'status' })).kind, 'status');
  await server.close();
  assert.ok(!existsSync(dirname(path)));
});

test('a socket that a dead session left is told from a living one, and the next session takes its place', async (t) => {
  const dir = runFolder(t);
  const path = join(dir, 'control.sock');
  // a server that ends takes its socket away; one that is killed does not
  const dead = createServer().listen(path);
  await once(dead, 'listening');

  renameSync(path, join(dir, 'moved'));
  await new Promise((resolve) => dead.close(resolve));
  renameSync(join(dir, 'moved'), path);
  writeFileSync(join(dir, 'control.json'), JSON.stringify({ socket: path }));
  await assert.rejects(askSession(dir, { kind: 'status' }), { code: 'no-session', exitCode: 1 });
  await scene(t, [new FakePair('cart')], { dir });
  assert.equal((await askSession(dir, { kind: 'status' })).kind, 'status');
});

test('no run in the folder: exit 2; a damaged control.json: no session', async (t) => {
  const none = mkdtempSync(join(tmpdir(), 'redis-cutover-control-'));
  t.after(() => rmSync(none, { recursive: true, force: true }));
  await assert.rejects(askSession(none, { kind: 'status' }), { code: 'run-dir', exitCode: 2 });
  const dir = runFolder(t);
  for (const text of ['', '{', '{"socket":5}', '[]', 'null']) {
    writeFileSync(join(dir, 'control.json'), text);
    await assert.rejects(askSession(dir, { kind: 'status' }), { code: 'no-session' }, text);
  }
});

test('hostile input is answered by an error, and the session goes on', async (t) => {
  const cart = new FakePair('cart');
  const { raw, dir } = await scene(t, [cart]);
  const bad = [
    'GET / HTTP/1.1',
    '{',
    'null',
    '[]',
    '"status"',
    '{"kind":"stop"}',
    '{"kind":"__proto__"}',
    '{"kind":"cutover"}',
    '{"kind":"cutover","choice":null,"confirm":"cart"}',
    '{"kind":"cutover","choice":{"pairs":null},"confirm":"cart"}',
    '{"kind":"cutover","choice":{"pairs":[],"wave":null},"confirm":"cart"}',
    '{"kind":"cutover","choice":{"pairs":[1],"wave":null},"confirm":"cart"}',
    '{"kind":"cutover","choice":{"pairs":"cart","wave":null},"confirm":"cart"}',
    '{"kind":"cutover","choice":{"pairs":["cart"],"wave":7},"confirm":"cart"}',
    '{"kind":"cutover","choice":{"pairs":["cart"],"wave":null},"confirm":["cart"]}',
    '{"kind":"pause","on":true}',
    '{"kind":"pause","choice":{"pairs":null,"wave":null},"on":"yes"}',
    '{"kind":"throttle","choice":{"pairs":null,"wave":null}}',
    '{"kind":"throttle","choice":{"pairs":null,"wave":null},"limits":{"keysPerSecond":1}}',
    '{"kind":"throttle","choice":{"pairs":null,"wave":null},"limits":{"keysPerSecond":-1,"bytesPerSecond":null}}',
    '{"kind":"throttle","choice":{"pairs":null,"wave":null},"limits":{"keysPerSecond":null,"bytesPerSecond":1}}',
    '\u0000\u001b[2J',
  ];
  const answers = await raw(`${bad.join('\n')}\n{"kind":"status"}\n{"kind":"sta`);
  assert.deepEqual(
    answers.map((answer) => refusedWith(answer) ?? answer.kind),
    [...bad.map(() => 'bad-request'), 'status'],
  );
  // without a newline, and with one: let go of either way
  assert.equal(refusedWith((await raw('x'.repeat(300_000), false))[0]), 'bad-request');
  assert.equal(
    refusedWith((await raw(`${'x'.repeat(300_000)}\n{"kind":"status"}\n`, false))[0]),
    'bad-request',
  );
  const many = Array.from({ length: 1_001 }, (_, at) => `p${at}`);
  const [tooMany] = await raw(
    `${JSON.stringify({ kind: 'cutover', choice: { pairs: many, wave: null }, confirm: '' })}\n`,
  );
  assert.equal(refusedWith(tooMany), 'bad-request');
  assert.equal(cart.promotions, 0);
  assert.equal((await askSession(dir, { kind: 'status' })).kind, 'status');
});

test('more clients than allowed are let go of, and those that are in are served', async (t) => {
  const { dir } = await scene(t, [new FakePair('cart')]);
  const idle = Array.from({ length: 8 }, () => connect(socketOf(dir)));
  t.after(() => {
    for (const socket of idle) socket.destroy();
  });
  await Promise.all(idle.map((socket) => once(socket, 'connect')));
  await assert.rejects(askSession(dir, { kind: 'status' }), { code: 'no-answer', exitCode: 1 });
  const [first] = idle;
  first?.write('{"kind":"status"}\n');
  assert.match(String(await once(first!, 'data')), /"kind":"status"/);
});

test('status: lines for people, NDJSON for programs, a choice of pairs', async (t) => {
  const pairs = [
    new FakePair('cart', 'one'),
    new FakePair('users', 'two', 'failed'),
    new FakePair('evil\u001b[2J', 'two', 'snapshot'),
  ];
  const { dir } = await scene(t, pairs);
  const { exitCode, out } = await command(t, statusCommand, {}, dir);
  assert.equal(exitCode, 0);
  assert.match(out, /^cart: in-sync/m);
  assert.match(out, /^users: failed$/m);
  assert.match(out, /The session is running: 1 snapshot, 1 in-sync, 1 failed\./);
  assert.ok(!out.includes('\u001b'), 'nothing raw');
  const json = await command(t, statusCommand, { json: true, wave: 'two' }, dir);
  const events = json.out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    events.map((event) => [event['event'], event['pair'] ?? event['outcome']]),
    [
      ['progress', 'users'],
      ['progress', 'evil\u001b[2J'],
      ['summary', 'running'],
    ],
  );
  await assert.rejects(command(t, statusCommand, { pair: ['nobody'] }, dir), {
    code: 'unknown-pair',
    exitCode: 2,
  });
  await assert.rejects(command(t, statusCommand, { wave: 'nine' }, dir), {
    code: 'unknown-pair',
    exitCode: 2,
  });
});

test('a cutover needs its words, and cuts over what was chosen alone', async (t) => {
  const pairs = [new FakePair('cart', 'one'), new FakePair('users', 'two'), new FakePair('stock', 'two')];
  const promotions = () => pairs.map((pair) => pair.promotions);
  const { dir, events, raw } = await scene(t, pairs);
  const refused: readonly [RawOptions, string, number][] = [
    [{ pair: ['cart'] }, 'confirm', 2],
    [{ pair: ['cart'], yes: true }, 'confirm', 2],
    [{ pair: ['cart'], confirm: 'users' }, 'confirm', 2],
    [{ pair: ['cart'], confirm: '' }, 'confirm', 2],
    [{ wave: 'two', confirm: 'two' }, 'confirm', 2],
    [{ confirm: 'cut over 2' }, 'confirm', 2],
    [{ pair: ['cart', 'x'], confirm: 'cut over 2' }, 'unknown-pair', 2],
  ];
  for (const [options, code, exitCode] of refused) {
    await assert.rejects(
      command(t, cutoverCommand, options, dir),
      { code, exitCode },
      JSON.stringify(options),
    );
  }
  // the session asks for them, whoever asks
  const [answer] = await raw('{"kind":"cutover","choice":{"pairs":null,"wave":null},"confirm":""}\n');
  assert.equal(refusedWith(answer), 'confirm');
  assert.deepEqual(promotions(), [0, 0, 0]);
  assert.equal(events.length, 0);

  const one = await command(t, cutoverCommand, { pair: ['cart'], confirm: 'cart', json: true }, dir);
  assert.equal(one.exitCode, 0);
  assert.deepEqual(promotions(), [1, 0, 0]);
  assert.match(one.out, /"event":"summary","outcome":"promoted","exitCode":0/);
  assert.deepEqual(
    events.map((event) =>
      event.event === 'action' ? `${event.by} ${event.pair} ${event.result}` : event.event,
    ),
    ['control cart asked', 'note', 'control cart done'],
  );
  // what is through is left out of the rest, but not where it is named
  await assert.rejects(command(t, cutoverCommand, { pair: ['cart'], confirm: 'cart' }, dir), {
    code: 'not-now',
    exitCode: 7,
  });
  assert.equal((await command(t, cutoverCommand, { confirm: 'cut over 2' }, dir)).exitCode, 0);
  assert.deepEqual(promotions(), [1, 1, 1]);
  await assert.rejects(command(t, cutoverCommand, { confirm: 'cut over 0' }, dir), { code: 'not-now' });
});

test('one pair that is not in sync keeps the rest of the choice from the cutover', async (t) => {
  const pairs = [new FakePair('cart', 'one'), new FakePair('users', 'one', 'catching-up')];
  const { dir, set } = await scene(t, pairs);
  await assert.rejects(command(t, cutoverCommand, { wave: 'one', confirm: 'wave one' }, dir), {
    code: 'not-now',
    exitCode: 7,
    message: 'not now: users is catching-up',
  });
  set('ending');
  await assert.rejects(command(t, cutoverCommand, { pair: ['cart'], confirm: 'cart' }, dir), {
    code: 'not-now',
    message: 'not now: the session is ending',
  });
  assert.equal(pairs[0]?.promotions, 0);
});

test('a pair that fails is told with its reason, exit 7, and the rest goes on within --max-failures', async (t) => {
  const any = [new FakePair('bad'), new FakePair('cart')];
  const { dir } = await scene(t, any);
  const { exitCode, out } = await command(t, cutoverCommand, { confirm: 'cut over 2' }, dir);
  assert.equal(exitCode, 7);
  assert.match(out, /^bad: in-sync$/m);
  assert.match(out, /it does not drain/);
  assert.match(out, /^cart: promoted$/m);

  const pairs = [new FakePair('bad'), new FakePair('cart')];
  const strict = await scene(t, pairs, { maxFailures: 0 });
  const stopped = await command(t, cutoverCommand, { confirm: 'cut over 2', json: true }, strict.dir);
  assert.equal(stopped.exitCode, 7);
  assert.match(stopped.out, /"outcome":"failed"/);
  assert.equal(pairs[1]?.promotions, 0);
});

test('a second cutover meanwhile is refused; the end of the session still gives the first its answer', async (t) => {
  const cart = new FakePair('cart');
  let open = (): void => undefined;
  cart.gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { dir, server } = await scene(t, [cart, new FakePair('users')]);
  const request = (name: string) =>
    ({ kind: 'cutover', choice: { pairs: [name], wave: null }, confirm: name }) as const;
  const first = askSession(dir, request('cart'));
  while (cart.promotions === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(refusedWith(await askSession(dir, request('users'))), 'not-now');
  const closed = server.close();
  open();
  assert.deepEqual(await first, {
    kind: 'cutover',
    results: [{ pair: 'cart', phase: 'promoted', error: null }],
  });
  await closed;
});

test('an asker that goes away leaves the cutover to the session', async (t) => {
  const cart = new FakePair('cart');
  let open = (): void => undefined;
  cart.gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { dir, server } = await scene(t, [cart]);
  const socket = connect(socketOf(dir));
  socket.write('{"kind":"cutover","choice":{"pairs":["cart"],"wave":null},"confirm":"cart"}\n');
  while (cart.promotions === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  socket.destroy();
  open();
  while (cart.phase !== 'promoted') await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal((await askSession(dir, { kind: 'status' })).kind, 'status');
  await server.close();
});

test('pause and throttle: of all that is left, of some, twice; what a pair refuses is told, and the rest does it', async (t) => {
  const pairs = [
    new FakePair('cart', 'one'),
    new FakePair('bad', 'two'),
    new FakePair('users', 'two', 'snapshot'),
    new FakePair('done', 'two', 'promoted'),
  ];
  const [cart, , users, done] = pairs;
  const { dir, events, set } = await scene(t, pairs);
  const all = await command(t, pauseCommand, {}, dir);
  assert.equal(all.exitCode, 7);
  assert.match(all.out, /^cart: paused: nothing goes to its target until pause --off$/m);
  assert.match(all.out, /^bad: error: it is cutting over \[not-now\]$/m);
  assert.deepEqual([cart!.paused, users!.paused, done!.paused], [true, true, false]);
  assert.equal((await command(t, pauseCommand, { pair: ['cart'] }, dir)).exitCode, 0);
  const cutover = { kind: 'cutover', choice: { pairs: ['cart'], wave: null }, confirm: 'cart' } as const;
  const refused = await askSession(dir, cutover);
  assert.ok(
    refused.kind === 'refused' && /cart is paused/.test(refused.error.message),
    JSON.stringify(refused),
  );
  assert.equal((await command(t, pauseCommand, { wave: 'one', off: true, json: true }, dir)).exitCode, 0);
  assert.deepEqual([cart!.paused, users!.paused], [false, true]);

  const limited = await command(t, throttleCommand, { pair: ['users'], keys: '5', mb: '1.5' }, dir);
  assert.equal(limited.out, 'users: at most 5 keys/s and 1.5 MB/s\n');
  assert.deepEqual(users!.limits, { keysPerSecond: 5, bytesPerSecond: 1.5 * 1024 * 1024 });
  await command(t, throttleCommand, { off: true }, dir);
  assert.deepEqual(users!.limits, { keysPerSecond: null, bytesPerSecond: null });
  assert.equal(done!.limits, null);
  for (const raw of [{}, { off: true, mb: '1' }, { keys: '0' }, { mb: 'fast' }] as const) {
    await assert.rejects(command(t, throttleCommand, raw, dir), { code: 'bad-value', exitCode: 2 });
  }
  await assert.rejects(command(t, pauseCommand, { pair: ['nobody'] }, dir), {
    code: 'unknown-pair',
    exitCode: 2,
  });
  const audit = events.filter((event) => event.event === 'action');
  assert.ok(
    audit.some((event) => event.action === 'throttle 5 keys/s and 1.5 MB/s' && event.result === 'done'),
  );
  assert.ok(audit.some((event) => event.action === 'pause' && event.result === 'failed'));
  set('ending');
  await assert.rejects(command(t, pauseCommand, {}, dir), { code: 'not-now' });
});

test('--canary: of a wave its first pair alone, the others when the wave is asked for again', async (t) => {
  const pairs = ['cart', 'users', 'stock'].map((name) => new FakePair(name, 'two'));
  const promotions = () => pairs.map((pair) => pair.promotions);
  const { dir } = await scene(t, [...pairs, new FakePair('geo', 'three')], { canaryMs: 60_000 });
  const wave = (confirm: string) => command(t, cutoverCommand, { wave: 'two', confirm }, dir);
  const first = await wave('wave two');
  assert.equal(first.exitCode, 0);
  assert.match(first.out, /ask again for the other 2 when it is well/);
  assert.deepEqual(promotions(), [1, 0, 0]);
  const rest = await wave('wave two');
  assert.equal(rest.exitCode, 0);
  assert.doesNotMatch(rest.out, /ask again/);
  assert.deepEqual(promotions(), [1, 1, 1]);
  // a wave of one, and pairs that are named, have none
  const alone = await command(t, cutoverCommand, { wave: 'three', confirm: 'wave three' }, dir);
  assert.doesNotMatch(alone.out, /ask again/);
});

test('clients that say nothing, half a line, or never read harm nobody', async (t) => {
  const { dir } = await scene(t, [new FakePair('cart')]);
  const open = () => connect(socketOf(dir)).on('error', () => undefined);
  const [silent, half, deaf] = [open(), open(), open()];
  t.after(() => [silent, half, deaf].forEach((socket) => void socket.destroy()));
  half.end('{"kind":"sta');
  deaf.pause();
  for (let asked = 0; asked < 2_000; asked += 1) deaf.write('{"kind":"status"}\n');
  const gone = open();
  gone.write('{"kind":"cutover","choice":{"pairs":["cart"],"wave":null},"confirm":"ca');
  gone.destroy();
  for (let look = 0; look < 20; look += 1) {
    assert.equal((await askSession(dir, { kind: 'status' })).kind, 'status');
  }
});
