import assert from 'node:assert/strict';
import { test } from 'node:test';
import stringWidth from 'string-width';
import { formatTotals } from '../../../src/ui/format.ts';
import { ansiPaint, noPaint } from '../../../src/ui/paint.ts';
import { tableLines, wrapWords } from '../../../src/ui/table.ts';
import { pairSnapshot } from './fake.ts';

const FOOTER = '[s] start  [l] clients  [q] quit  [?] help';

const HOSTILE = [
  pairSnapshot({ pair: '\x1b]52;c;QUFB\x07evil\x1b[2J', reason: 'a\nb\r\x9b31m\u202etxt' }),
  pairSnapshot({
    pair: '購物車👩‍👩‍👧',
    source: '主機-1:6379',
    target: '主機-2:6379',
    phase: 'in-sync',
    reason: '等待'.repeat(40),
  }),
  pairSnapshot({
    pair: `${'h'.repeat(200)}:6379`,
    phase: 'failed',
    reason: 'the target refused a command '.repeat(9),
  }),
  pairSnapshot({ phase: 'checking', reason: '' }),
  pairSnapshot({
    phase: 'catching-up',
    lagBytes: 9.99e14,
    lagSeconds: 86_000,
    commandsPerSecond: Number.NaN,
  }),
  pairSnapshot({ snapshotTotal: null, etaSeconds: Number.POSITIVE_INFINITY, keys: 1e15, divergences: 3 }),
];

test('no line is wider than the screen and none acts on the terminal, at any size', () => {
  for (const columns of [1, 5, 20, 21, 35, 40, 64, 79, 80, 81, 100, 111, 132, 200]) {
    for (const rows of [1, 3, 6, 10, 24, 60]) {
      const lines = tableLines(HOSTILE, FOOTER, { columns, rows }, noPaint);
      assert.ok(lines.length <= Math.max(1, rows - 1), `${lines.length} lines at ${columns}x${rows}`);
      for (const line of lines) {
        assert.ok(stringWidth(line) <= columns, `${columns}: ${JSON.stringify(line)}`);
        assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
      }
    }
  }
});

test('colour changes no width', () => {
  for (const columns of [20, 40, 80, 200]) {
    const size = { columns, rows: 24 };
    const plain = tableLines(HOSTILE, FOOTER, size, noPaint);
    const painted = tableLines(HOSTILE, FOOTER, size, ansiPaint);
    assert.notDeepEqual(painted, plain);
    assert.deepEqual(
      painted.map((line) => line.replace(/\x1b\[\d+m/g, '').trimEnd()),
      plain,
    );
  }
});

test('80 columns: an everyday pair is whole, with what matters in its phase', () => {
  const lines = tableLines(
    [
      pairSnapshot(),
      pairSnapshot({
        phase: 'in-sync',
        keys: 3_000_000,
        lagBytes: 2_100,
        lagSeconds: 0.04,
        commandsPerSecond: 12_300,
      }),
    ],
    FOOTER,
    { columns: 80, rows: 24 },
    noPaint,
  );
  assert.deepEqual(lines, [
    'SOURCE ==> TARGET                PHASE        SNAPSHOT/LAG    KEYS    RATE',
    '10.0.0.1:6379 ==> 10.0.0.2:6379  snapshot     52% 306 MB      1.60M   61.0 MB/s',
    '10.0.0.1:6379 ==> 10.0.0.2:6379  in-sync      2.10 kB 40 ms   3.00M   12.3k op/s',
    '2 pairs: 1 snapshot, 1 in-sync  fleet 76%  lag 2.10 kB 40 ms  4,600,000 keys',
    '61.0 MB/s  ETA 21 s  12.3k op/s',
    FOOTER,
  ]);
});

test('200 columns: everything in one line, the reason last', () => {
  const lines = tableLines(
    [pairSnapshot({ reason: 'a 2 GB key', divergences: 1 })],
    FOOTER,
    { columns: 200, rows: 24 },
    noPaint,
  );
  assert.match(
    lines[1] ?? '',
    /^10\.0\.0\.1:6379 ==> 10\.0\.0\.2:6379 {2}snapshot +write +52% 306 MB +1,600,000 +61\.0 MB\/s +21 s +1 command refused by the target; a 2 GB key$/,
  );
});

test('a total that is unknown shows bytes and neither percent nor ETA', () => {
  const text = tableLines(
    [pairSnapshot({ snapshotTotal: null })],
    '',
    { columns: 200, rows: 24 },
    noPaint,
  ).join('\n');
  assert.match(text, /306 MB/);
  assert.doesNotMatch(text, /%|ETA \d/);
});

test('20 columns: name and state, and every key of the footer', () => {
  const lines = tableLines([pairSnapshot({ pair: 'cart' })], FOOTER, { columns: 20, rows: 24 }, noPaint);
  assert.match(lines[1] ?? '', /^cart +load 52%/);
  const shown = lines.slice(3).join('  ');
  for (const key of ['[s] start', '[l] clients', '[q] quit', '[?] help']) assert.ok(shown.includes(key), key);
  const low = tableLines([pairSnapshot({ pair: 'cart' })], FOOTER, { columns: 20, rows: 8 }, noPaint);
  assert.equal(low.at(-1), '[s]  [l]  [q]  [?]');
});

test('a long host is cut inside, its port stays; a name of its own is shown', () => {
  const far = pairSnapshot({
    pair: 'cart-cache-one.internal.example.com:6379',
    source: 'cart-cache-one.internal.example.com:6379',
    target: 'cart-cache-two.internal.example.com:6380',
  });
  const [, cut] = tableLines([far], '', { columns: 80, rows: 24 }, noPaint);
  assert.match(cut ?? '', /^cart-\S*…:6379 ==> cart-\S*…:6380 {2}snapshot/);
  const [, named] = tableLines([pairSnapshot({ pair: 'cart' })], '', { columns: 200, rows: 24 }, noPaint);
  assert.match(named ?? '', /^cart: 10\.0\.0\.1:6379 ==> 10\.0\.0\.2:6379/);
});

test('20 pairs are whole at 80x24; of 21, what is hidden is summed up', () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) =>
      pairSnapshot({
        pair: `p${index}:1`,
        source: `p${index}:1`,
        phase: index === 20 ? 'failed' : 'in-sync',
      }),
    );
  const size = { columns: 80, rows: 24 };
  const twenty = tableLines(many(20), '[q] quit', size, noPaint);
  assert.equal(twenty.length, 23);
  assert.equal(twenty.filter((line) => line.includes('==> 10')).length, 20);
  const more = tableLines(many(21), '[q] quit', size, noPaint);
  assert.equal(more.length, 23);
  assert.ok(more.includes('rows 1-19 of 21, hidden: 1 in-sync, 1 failed'));
});

test('a reason that does not fit beside gets its own line where there is room', () => {
  const pair = pairSnapshot({ reason: 'the source keeps the snapshot back until its fork is done' });
  const lines = tableLines([pair], '', { columns: 80, rows: 24 }, noPaint);
  assert.equal(lines[2], '  the source keeps the snapshot back until its fork is done');
  const failed = tableLines([{ ...pair, phase: 'failed' }], '', { columns: 80, rows: 24 }, noPaint);
  assert.match(failed[1] ?? '', /failed +the source keeps the snapsho/);
});

test('where there is room the feed is shown; the way back stands below a promoted pair', () => {
  const wayBack = 'rollback lossless: the old source follows, 0 B behind';
  const pair = pairSnapshot({ phase: 'promoted', feed: 'attach', wayBack });
  const wide = tableLines([pair], '', { columns: 200, rows: 24 }, noPaint);
  assert.match(wide[0] ?? '', /PHASE +FEED +SNAPSHOT/);
  assert.match(
    wide[1] ?? '',
    /promoted +attach .* {2}rollback lossless: the old source follows, 0 B behind$/,
  );
  const narrow = tableLines([pair], '', { columns: 80, rows: 24 }, noPaint);
  assert.doesNotMatch(narrow[1] ?? '', /attach/);
  assert.equal(narrow[2], `  ${wayBack}`);
  // before the preflight has decided it there is no feed
  const early = tableLines([{ ...pair, feed: null }], '', { columns: 200, rows: 24 }, noPaint);
  assert.doesNotMatch(early[1] ?? '', /null/);
});

test('the totals before the start', () => {
  assert.equal(
    formatTotals({ bytes: 588_000_000, keys: 3_000_000, sources: 2 }),
    'Syncing 588 MB and 3,000,000 keys from 2 redises',
  );
  assert.match(formatTotals({ bytes: 0, keys: 0, sources: 1 }), /from 1 redis$/);
});

test('prose is broken between words; what may be copied stays one line', () => {
  const prose = 'the targets take writes now';
  assert.deepEqual(wrapWords(prose, 27), [prose]);
  assert.deepEqual(wrapWords(prose, 26), ['the targets take writes', 'now']);
  assert.deepEqual(wrapWords(prose, 3), ['the', 'targets', 'take', 'writes', 'now']);
  assert.deepEqual(wrapWords(`${ansiPaint('red', 'error')}: gone`, 11), [
    `${ansiPaint('red', 'error')}: gone`,
  ]);
  const command = `    ACL SETUSER app ${'+set '.repeat(30)}`;
  assert.deepEqual(wrapWords(command, 80), [command]);
});
