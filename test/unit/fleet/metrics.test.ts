/** Metrics: the text by a strict reader of the exposition format, hostile names, and the server on loopback. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import type { RawOptions } from '../../../src/cli/options.ts';
import { inSession } from '../../../src/cli/wiring.ts';
import type { PairSnapshot } from '../../../src/core/events.ts';
import { PHASES } from '../../../src/core/phase.ts';
import { metricsText, serveMetrics } from '../../../src/fleet/metrics.ts';
import { pairSnapshot } from '../ui/fake.ts';

const SESSION = { startedAt: new Date(1_770_000_000_500), version: '1.2.3' };

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/**
 * The text format 0.0.4, read strictly: HELP and TYPE once and before the samples of their family, families in one
 * piece, no series twice, escapes only where they are allowed, a newline at the end.
 */
function parse(text: string): Sample[] {
  assert.ok(text.endsWith('\n'), 'ends with a newline');
  const samples: Sample[] = [];
  const families = new Set<string>();
  const series = new Set<string>();
  let helped: string | null = null;
  let open: string | null = null;
  for (const line of text.slice(0, -1).split('\n')) {
    assert.doesNotMatch(
      line,
      /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/,
      line,
    );
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name = '', rest = ''] = comment;
      if (kind === 'HELP') {
        assert.ok(!families.has(name), `${name} comes in two pieces`);
        families.add(name);
        assert.doesNotMatch(rest, /\\(?![\\n])/);
        helped = name;
        open = null;
      } else {
        assert.equal(name, helped, 'TYPE behind its HELP');
        assert.equal(rest, 'gauge');
        open = name;
      }
      continue;
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    assert.ok(sample !== null, `neither comment nor sample: ${line}`);
    const [, name = '', inner = '', number = ''] = sample;
    assert.equal(name, open, 'a sample stands in its family');
    assert.match(number, /^-?\d+(\.\d+)?(e[+-]?\d+)?$/);
    const key = `${name}{${inner}}`;
    assert.ok(!series.has(key), `twice: ${key}`);
    series.add(key);
    samples.push({ name, labels: labelsOf(inner), value: Number(number) });
  }
  return samples;
}

function labelsOf(inner: string): Record<string, string> {
  const labels: Record<string, string> = {};
  let rest = inner;
  while (rest !== '') {
    const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,(?=.)|$)/.exec(rest);
    assert.ok(label !== null, `a broken label: ${rest}`);
    const [whole, name = '', value = ''] = label;
    assert.ok(!(name in labels), `label ${name} twice`);
    labels[name] = value.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
    rest = rest.slice(whole.length);
  }
  return labels;
}

function figureOf(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}) {
  return samples.find(
    (sample) =>
      sample.name === `redis_cutover_${name}` &&
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  )?.value;
}

function text(...pairs: PairSnapshot[]): Sample[] {
  return parse(metricsText(SESSION, pairs));
}

test('a session without pairs has its own figures', () => {
  const samples = text();
  assert.equal(figureOf(samples, 'up'), 1);
  assert.equal(figureOf(samples, 'build_info', { version: '1.2.3' }), 1);
  assert.equal(figureOf(samples, 'session_start_time_seconds'), 1_770_000_000.5);
  assert.equal(figureOf(samples, 'pairs', { phase: 'in-sync' }), 0);
});

test('each pair has its figures, and is in one phase', () => {
  const samples = text(
    pairSnapshot({
      pair: 'cart',
      phase: 'in-sync',
      lagBytes: 1e21,
      lagSeconds: 0.25,
      divergences: 3,
      wave: 'one',
    }),
    pairSnapshot({ pair: 'users', phase: 'failed', snapshotTotal: null, keysTotal: null, feed: null }),
  );
  for (const phase of PHASES) {
    assert.equal(figureOf(samples, 'pair_phase', { pair: 'cart', phase }), phase === 'in-sync' ? 1 : 0);
    assert.equal(figureOf(samples, 'pair_phase', { pair: 'users', phase }), phase === 'failed' ? 1 : 0);
  }
  assert.equal(figureOf(samples, 'pair_up', { pair: 'cart' }), 1);
  assert.equal(figureOf(samples, 'pair_up', { pair: 'users' }), 0);
  assert.equal(figureOf(samples, 'pair_lag_bytes', { pair: 'cart' }), 1e21);
  assert.equal(figureOf(samples, 'pair_lag_seconds', { pair: 'cart' }), 0.25);
  assert.equal(figureOf(samples, 'pair_divergences', { pair: 'cart' }), 3);
  assert.equal(figureOf(samples, 'pair_snapshot_bytes', { pair: 'cart' }), 306_000_000);
  assert.equal(figureOf(samples, 'pair_snapshot_total_bytes', { pair: 'cart' }), 588_000_000);
  assert.equal(figureOf(samples, 'pair_snapshot_total_bytes', { pair: 'users' }), undefined, 'not known');
  assert.equal(figureOf(samples, 'pair_keys', { pair: 'cart' }), 1_600_000);
  assert.equal(figureOf(samples, 'pair_source_keys', { pair: 'users' }), undefined);
  assert.equal(figureOf(samples, 'pair_commands_per_second', { pair: 'cart' }), 0);
  assert.equal(figureOf(samples, 'pairs', { phase: 'failed' }), 1);
  const info = samples.find(
    ({ name, labels }) => name === 'redis_cutover_pair_info' && labels['pair'] === 'cart',
  );
  assert.deepEqual(info?.labels, {
    pair: 'cart',
    source: '10.0.0.1:6379',
    target: '10.0.0.2:6379',
    wave: 'one',
    feed: 'write',
  });
});

test('hostile names break neither the format nor a terminal, and no two are one', () => {
  const names = [
    'a"} 1\nredis_cutover_up 0',
    'back\\slash\\',
    '\u001b[2J\u202egnp.exe',
    '\\x1b[2J\\u202egnp.exe',
    `${'x'.repeat(5000)}1`,
    `${'x'.repeat(5000)}2`,
    '<b>&amp;</b>',
    '',
  ];
  const samples = text(
    ...names.map((name) => pairSnapshot({ pair: name, source: name, target: name, wave: name })),
  );
  const shown = samples
    .filter(({ name }) => name === 'redis_cutover_pair_up')
    .map(({ labels }) => labels['pair']);
  assert.equal(new Set(shown).size, names.length);
  assert.equal(shown[0], 'a"} 1\\nredis_cutover_up 0');
  assert.equal(shown[1], 'back\\slash\\');
  assert.equal(shown[3], `${shown[2]} #2`);
  assert.equal(figureOf(samples, 'up'), 1);
});

test('the server answers GET /metrics alone, on loopback alone, with the last frame', async (t) => {
  const metrics = await serveMetrics(0, '1.2.3');
  t.after(() => metrics.close());
  assert.match(metrics.url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
  const calls: string[] = [];
  const renderer = metrics.watch({
    event: () => calls.push('event'),
    frame: (_, footer) => calls.push(footer),
    say: (said) => calls.push(said),
    step: () => () => calls.push('stepped'),
    close: () => calls.push('close'),
  });
  renderer.frame([pairSnapshot({ pair: 'cart' })], 'frame');
  renderer.event({ event: 'note', message: 'x' });
  renderer.say('say');
  renderer.step('x')('ok');
  renderer.close();
  assert.deepEqual(calls, ['frame', 'event', 'say', 'stepped', 'close'], 'all is passed on');

  const answer = await fetch(metrics.url);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  assert.equal(figureOf(parse(await answer.text()), 'pair_up', { pair: 'cart' }), 1);
  assert.equal((await fetch(metrics.url.replace('/metrics', '/'))).status, 404);
  assert.equal((await fetch(metrics.url.replace('/metrics', '/metrics/../run.json'))).status, 404);
  assert.equal((await fetch(metrics.url, { method: 'POST', body: 'x' })).status, 405);
});

/** The status of what comes back for these bytes; '' where the connection ends without a word. */
async function statusFor(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1').setEncoding('utf8');
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? '';
}

test('only who calls this machine by a name of its own gets the figures', async (t) => {
  const metrics = await serveMetrics(0, '1.2.3');
  t.after(() => metrics.close());
  const statusOf = (head: string) => statusFor(metrics.url, `GET ${head}\r\nConnection: close\r\n\r\n`);
  for (const host of ['localhost', 'LocalHost:80', '127.0.0.1', '127.0.0.1:9121', '[::1]:1']) {
    assert.equal(await statusOf(`/metrics HTTP/1.1\r\nHost: ${host}`), '200', host);
  }
  const strangers = [
    'evil.example',
    'evil.example:9121',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evil.example#localhost',
    'x@localhost',
    '0.0.0.0',
    'localhost:9121:9121',
    '',
  ];
  for (const host of strangers) {
    assert.equal(await statusOf(`/metrics HTTP/1.1\r\nHost: ${host}`), '421', host);
  }
  assert.equal(await statusOf('/metrics HTTP/1.0'), '421', 'no name at all');
  assert.equal(await statusOf('http://localhost/metrics HTTP/1.1\r\nHost: evil.example'), '421');
});

test('garbage, and requests without end, are let go of; the figures go on', {
  timeout: 60_000,
}, async (t) => {
  const metrics = await serveMetrics(0, '1.2.3');
  t.after(() => metrics.close());
  for (const bytes of ['\u0000\u001b[2J\r\n\r\n', 'GET\r\n\r\n', '*1\r\n$4\r\nPING\r\n']) {
    assert.equal(await statusFor(metrics.url, bytes), '400', JSON.stringify(bytes));
  }
  const long = `GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`;
  assert.equal(await statusFor(metrics.url, long), '431');
  // as many as are let in, none of which ever says its last line
  const slow = Array.from({ length: 16 }, () => statusFor(metrics.url, 'GET /metrics HTTP/1.1\r\nHost: loc'));
  assert.deepEqual(new Set(await Promise.all(slow)), new Set(['408']));
  assert.equal((await fetch(metrics.url)).status, 200);
});

test('a port that is taken is said before anything begins', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  t.after(() => other.close());
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address() as AddressInfo;
  await assert.rejects(serveMetrics(port, '1'), { code: 'metrics-port', exitCode: 2 });
});

test('--metrics: the session says where they are, and they end with it', async (t) => {
  const said: string[] = [];
  t.mock.method(process.stderr, 'write', (line: string) => said.push(line) > 0);
  let url = '';
  const raw: RawOptions = { json: true, metrics: '0' };
  const exitCode = await inSession(raw, 'never', async ({ renderer }) => {
    renderer.frame([pairSnapshot({ pair: 'cart', phase: 'in-sync' })], '');
    url = /http:\S+/.exec(said.join(''))?.[0] ?? '';
    const samples = parse(await (await fetch(url)).text());
    return figureOf(samples, 'pairs', { phase: 'in-sync' }) === 1 ? 0 : 1;
  });
  assert.equal(exitCode, 0);
  await assert.rejects(fetch(url), 'closed');

  for (const metrics of ['-1', '65536', '1.5', 'x']) {
    await assert.rejects(
      inSession({ json: true, metrics }, 'never', async () => 0),
      { code: 'bad-value', exitCode: 2 },
      metrics,
    );
  }
});
