import assert from 'node:assert/strict';
import { test } from 'node:test';
import stringWidth from 'string-width';
import { detailLines, sparkline } from '../../../src/ui/detail.ts';
import { ansiPaint, noPaint } from '../../../src/ui/paint.ts';
import { LAG_STEP_MS, PairHistory } from '../../../src/ui/pair-history.ts';
import { pageOf, tableLines } from '../../../src/ui/table.ts';
import {
  FIRST_VIEW,
  footerFor,
  sorted,
  type TableView,
  type ViewKey,
  viewAfter,
} from '../../../src/ui/view.ts';
import { readViewKeys } from '../../../src/ui/view-keys.ts';
import { pairSnapshot } from './fake.ts';

const SIZE = { columns: 80, rows: 24 };
const fleet = (count: number) =>
  Array.from({ length: count }, (_, index) =>
    pairSnapshot({ pair: `p${index}:1`, source: `p${index}:1`, phase: 'in-sync', lagBytes: index }),
  );

/** The view behind these keys, for pairs named p0:1, p1:1 and so on. */
function press(count: number, page: number, keys: readonly ViewKey[], from = FIRST_VIEW): TableView {
  const names = fleet(count).map(({ pair }) => pair);
  return keys.reduce((view, key) => viewAfter(view, key, names, page), from);
}

test('arrows choose, and stop at the ends; Esc lets go and leaves the rows where they are', () => {
  assert.equal(press(3, 10, ['down']).chosen, 'p0:1');
  assert.equal(press(3, 10, ['down', 'up']).chosen, 'p0:1');
  assert.equal(press(3, 10, ['down', 'down', 'down', 'down', 'down']).chosen, 'p2:1');
  const far = press(500, 10, ['down', 'end']);
  assert.deepEqual([far.chosen, far.top], ['p499:1', 490]);
  const back = press(500, 10, ['leave'], far);
  assert.deepEqual([back.chosen, back.top], [null, 490]);
  // the next arrow begins with a row that can be seen
  assert.equal(press(500, 10, ['up'], back).chosen, 'p490:1');
  assert.equal(press(0, 10, ['down', 'page-down', 'end', 'details']).chosen, null);
});

test('where none is chosen, pages and ends scroll; else they move the choice, which stays on the screen', () => {
  assert.deepEqual(press(500, 10, ['page-down', 'page-down']), { ...FIRST_VIEW, top: 20 });
  assert.equal(press(25, 10, ['page-down', 'page-down', 'page-down']).top, 15);
  assert.equal(press(25, 10, ['end', 'page-up']).top, 5);
  assert.equal(press(25, 10, ['end', 'home']).top, 0);
  const down = press(25, 10, ['down', 'page-down']);
  assert.deepEqual([down.chosen, down.top], ['p10:1', 1]);
  const up = press(25, 10, ['page-up', 'page-up'], down);
  assert.deepEqual([up.chosen, up.top], ['p0:1', 0]);
});

test('Enter opens the details of the chosen pair, of the only one, and of none else; Enter and Esc leave', () => {
  assert.equal(press(2, 10, ['details']).detail, false);
  assert.deepEqual(press(1, 10, ['details']), { ...FIRST_VIEW, chosen: 'p0:1', detail: true });
  assert.deepEqual(press(2, 10, ['down', 'details', 'down']), {
    ...FIRST_VIEW,
    chosen: 'p1:1',
    detail: true,
  });
  for (const leave of ['details', 'leave'] as const) {
    assert.deepEqual(press(2, 10, ['down', 'details', leave]), { ...FIRST_VIEW, chosen: 'p0:1' });
  }
});

test('the orders: what needs a person, the greatest lag, the least progress first; else as listed', () => {
  const pairs = [
    pairSnapshot({ pair: 'live', phase: 'in-sync', lagBytes: 5 }),
    pairSnapshot({ pair: 'half' }),
    pairSnapshot({ pair: 'far', phase: 'catching-up', lagBytes: 900 }),
    pairSnapshot({ pair: 'bad', phase: 'failed', snapshotBytes: 0 }),
    pairSnapshot({ pair: 'keys', snapshotTotal: null, keys: 1, keysTotal: 10 }),
  ];
  const names = (sort: TableView['sort']) => sorted(pairs, sort).map(({ pair }) => pair);
  assert.deepEqual(names('as listed'), ['live', 'half', 'far', 'bad', 'keys']);
  assert.deepEqual(names('state'), ['bad', 'half', 'keys', 'far', 'live']);
  assert.deepEqual(names('lag'), ['far', 'live', 'half', 'bad', 'keys']);
  assert.deepEqual(names('progress'), ['bad', 'keys', 'half', 'live', 'far']);
  const seen = (['sort', 'sort', 'sort', 'sort'] as const).map(
    (_, index) => press(2, 10, Array<ViewKey>(index + 1).fill('sort')).sort,
  );
  assert.deepEqual(seen, ['state', 'lag', 'progress', 'as listed']);
});

test('the chosen pair is seen, marked and alone in the footer, in any order and at any size', () => {
  const pairs = fleet(500);
  for (const sort of ['as listed', 'state', 'lag', 'progress'] as const) {
    for (const rows of [8, 10, 24, 60]) {
      for (const chosen of ['p0:1', 'p7:1', 'p250:1', 'p499:1']) {
        const view: TableView = { sort, chosen, top: 40, detail: false };
        const footer = footerFor('[c] cut over  [q] quit', view, pairs.length);
        const lines = tableLines(pairs, footer, { columns: 80, rows }, noPaint, view);
        assert.equal(lines.length, rows - 1);
        assert.equal(lines.filter((line) => line.startsWith(`${chosen} ==>`)).length, 1);
        assert.equal(lines.filter((line) => /==> \S+ *< in-sync/.test(line)).length, 1);
        assert.ok(lines.some((line) => line.startsWith(`on ${chosen} alone:`)));
        const page = pageOf(pairs, footer, { columns: 80, rows });
        assert.equal(lines.filter((line) => line.includes(' ==> 10')).length, page);
      }
    }
  }
  const view = { ...FIRST_VIEW, top: 480 };
  const text = tableLines(pairs, '', SIZE, noPaint, view).join('\n');
  assert.match(text, /^p480:1 ==>[\s\S]*^p499:1 ==>[\s\S]*^rows 481-500 of 500, hidden: 480 in-sync$/m);
});

test('choosing moves no column; with colour the chosen one is inverse', () => {
  const view = { ...FIRST_VIEW, chosen: 'p1:1' };
  const plain = tableLines(fleet(2), '', SIZE, noPaint);
  const marked = tableLines(fleet(2), '', SIZE, noPaint, view);
  assert.deepEqual(
    marked.map((line) => line.replace('< ', '  ')),
    plain,
  );
  assert.match(tableLines(fleet(2), '', SIZE, ansiPaint, view).join('\n'), /\x1b\[7mp1:1 ==>/);
});

test('the footer says for whom the keys act; for a single pair, or where nobody is asked, nothing is added', () => {
  assert.equal(footerFor('[q] quit', FIRST_VIEW, 1), '[q] quit');
  assert.equal(footerFor('', FIRST_VIEW, 9), '');
  assert.equal(
    footerFor('[q] quit', FIRST_VIEW, 9),
    '[q] quit  [arrows] choose  [o] order: as listed  on all pairs',
  );
  assert.equal(
    footerFor('[q] quit', { ...FIRST_VIEW, chosen: 'a\x1b[2J', sort: 'lag' }, 9),
    'on a\\x1b[2J alone:  [Enter] details  [Esc] all pairs  [o] order: lag  on all: [q] quit',
  );
  // a wave and the session are more than the pair
  assert.equal(
    footerFor(
      '[c] cut over  [w] cut over the wave  [u] roll back the wave  [f] finish  [q] quit  [?] help',
      { ...FIRST_VIEW, chosen: 'a', detail: true },
      9,
    ),
    'on a alone:  [c] cut over  [f] finish  [Esc] leave  on all: [w] cut over the wave  [u] roll back the wave  [q] quit  [?] help',
  );
});

test('waves and comparisons have columns only where there are any', () => {
  const pairs = [
    pairSnapshot({ pair: 'cart', wave: 'one' }),
    pairSnapshot({ pair: 'sess', phase: 'failed', reason: 'gone' }),
  ];
  const none = () => null;
  assert.doesNotMatch(tableLines(fleet(2), '', SIZE, noPaint)[0] ?? '', /WAVE|VERIFY/);
  const waves = tableLines(pairs, '', SIZE, noPaint, FIRST_VIEW, none);
  assert.match(waves[0] ?? '', / WAVE +PHASE/);
  assert.match(waves[1] ?? '', / one +snapshot/);
  assert.match(waves[2] ?? '', / {6}failed +gone$/);
  const counts = { compared: 9, different: 1, missing: 1, extra: 0 };
  const verified = (name: string) =>
    name === 'cart' ? counts : { ...counts, different: 0, missing: 0, unsettled: 4 };
  const wide = tableLines(
    pairs.map((pair) => ({ ...pair, reason: null })),
    '',
    { columns: 160, rows: 24 },
    noPaint,
    FIRST_VIEW,
    verified,
  );
  assert.match(wide[0] ?? '', / VERIFY$/);
  assert.match(wide[1] ?? '', / 2 bad$/);
  assert.match(wide[2] ?? '', / 4 open$/);
  // on the narrowest screens the state comes first
  assert.match(tableLines(pairs, '', { columns: 20, rows: 24 }, noPaint)[0] ?? '', /^PAIR +STATE$/);
});

test('totals: how many in which state, and how much of the fleet is there, weighed by keys', () => {
  const pairs = [
    pairSnapshot({ snapshotBytes: 50, snapshotTotal: 100, keysTotal: 2_999 }),
    pairSnapshot({ phase: 'promoted', keysTotal: 999 }),
    // not checked yet: how much is to come, nobody knows
    pairSnapshot({ phase: 'checking', keysTotal: null }),
    // what ended is no part of what is to be reached
    pairSnapshot({ phase: 'failed', keysTotal: 1e9, snapshotBytes: 0 }),
  ];
  const text = tableLines(pairs, '', { columns: 200, rows: 24 }, noPaint).at(-1) ?? '';
  assert.match(text, /^4 pairs: 1 snapshot, 1 promoted, 1 checking, 1 failed {2}fleet 62% {2}/);
  assert.doesNotMatch(text, /ETA/);
});

test('the ETA of a fleet counts what waits for its turn: by its keys, at the rate of all that load now', () => {
  const loading = {
    snapshotBytes: 300,
    snapshotTotal: 500,
    keys: 30,
    keysTotal: 50,
    bytesPerSecond: 10,
    etaSeconds: 20,
  };
  const waits = {
    phase: 'checking',
    snapshotBytes: 0,
    snapshotTotal: null,
    keys: 0,
    bytesPerSecond: 0,
  } as const;
  const eta = (...pairs: Parameters<typeof pairSnapshot>[0][]): string | undefined =>
    / ETA ([^ ]+ [^ ]+)/.exec(
      tableLines(
        pairs.map((pair) => pairSnapshot(pair)),
        '',
        { columns: 200, rows: 24 },
        noPaint,
      ).at(-1) ?? '',
    )?.[1];
  assert.equal(eta(loading, loading), '20 s');
  // 10 bytes a key: 200 that load and 400 that wait, at 10 a second
  assert.equal(eta(loading, { ...waits, keysTotal: 40 }), '1m 00s');
  // two load at once, twice as fast: the slowest one of them still is the least
  assert.equal(eta(loading, { ...loading, etaSeconds: 90 }, { ...waits, keysTotal: 1 }), '1m 30s');
  assert.equal(eta(loading, { ...waits, keysTotal: null }), undefined);
  assert.equal(eta({ ...loading, snapshotTotal: null }, { ...waits, keysTotal: 40 }), undefined);
});

test('arrows and their like, whole, in a row and in parts', () => {
  for (const [text, keys, rest] of [
    ['\x1b[A', ['up'], ''],
    ['\x1bOB', ['down'], ''],
    ['\x1b[B\x1b[B\x1b[6~', ['down', 'down', 'page-down'], ''],
    ['\x1b[5~', ['page-up'], ''],
    ['\x1b[H\x1b[F\x1b[1~\x1b[4~', ['home', 'end', 'home', 'end'], ''],
    ['\x1b[B\x1b[', ['down'], '\x1b['],
    ['\x1b[5', [], '\x1b[5'],
    ['\x1bO', [], '\x1bO'],
    ['\x1b', [], '\x1b'],
    // Ctrl-arrow, a mouse, the answer of a terminal, Alt-m, a paste: none of it acts
    ['\x1b[1;5A', [], ''],
    ['\x1b[<0;1;1m', [], ''],
    ['\x1b]11;rgb:0/0/0\x07', [], ''],
    ['\x1bm', [], ''],
    ['\x1b[Aq', ['up'], ''],
    [`\x1b[${'1'.repeat(100)}`, [], ''],
  ] as const) {
    assert.deepEqual(readViewKeys(text), { keys, rest }, JSON.stringify(text));
  }
});

test('the past of a pair: the highest lag of each step, five minutes of it, and the last ten events', () => {
  const history = new PairHistory();
  const at = (step: number, lagBytes: number, phase: 'in-sync' | 'snapshot' = 'in-sync') =>
    history.frame([pairSnapshot({ pair: 'a', phase, lagBytes })], step * LAG_STEP_MS);
  at(0, 99, 'snapshot');
  at(1, 5);
  at(1.5, 70);
  at(1.9, 2);
  at(2, 1);
  assert.deepEqual(history.of('a').lag, [null, 70, 1]);
  for (let step = 3; step < 500; step += 1) at(step, step);
  assert.equal(history.of('a').lag.length, 75);
  assert.equal(history.of('a').lag.at(-1), 499);
  for (let index = 0; index < 30; index += 1) {
    history.event({ event: 'note', pair: 'a', message: `n${index}\x1b[2J` }, Date.now());
  }
  history.event({ event: 'note', message: 'of nobody' }, 0);
  const { events } = history.of('a');
  assert.equal(events.length, 10);
  assert.match(events.at(-1) ?? '', /^\d\d:\d\d:\d\d {2}n29\\x1b\[2J$/);
  assert.deepEqual(history.of('b').events, []);
});

test('the sparkline: a bar for each figure, a blank where there was none', () => {
  assert.equal(sparkline([null, 0, 1, 7, 3.5]), ' ▁▂█▅');
  assert.equal(sparkline([0, 0]), '▁▁');
  assert.equal(sparkline([Number.NaN]).length, 1);
});

test('details: all figures, the lag, the events, and no line too many or too wide, at any size', () => {
  const history = new PairHistory();
  const name = 'cart\x1b[2J\u202e';
  const pair = pairSnapshot({
    pair: name,
    wave: '2',
    phase: 'catching-up',
    reason: 'slow\x1b]0;x\x07',
    sourceOffset: 12_345,
    appliedOffset: 12_000,
    lagBytes: 345,
    divergences: 2,
  });
  for (let step = 0; step < 100; step += 1) {
    history.frame([{ ...pair, lagBytes: step * 1000 }], step * LAG_STEP_MS);
    history.event({ event: 'note', pair: name, message: `event ${step} ${'x'.repeat(300)}` }, 0);
  }
  history.event({ event: 'verify', pair: name, compared: 7, different: 1, missing: 0, extra: 0 }, 0);
  const footer = footerFor('[c] cut over  [q] quit', { ...FIRST_VIEW, chosen: name, detail: true }, 9);
  for (const columns of [1, 5, 20, 40, 80, 200]) {
    for (const rows of [1, 3, 6, 10, 24, 60]) {
      const lines = detailLines(pair, history.of(name), footer, { columns, rows }, noPaint);
      assert.ok(lines.length <= Math.max(1, rows - 1), `${lines.length} lines at ${columns}x${rows}`);
      for (const line of lines) {
        assert.ok(stringWidth(line) <= columns, `${columns}: ${JSON.stringify(line)}`);
        assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
      }
    }
  }
  const text = detailLines(pair, history.of(name), footer, SIZE, noPaint).join('\n');
  for (const part of [
    /^cart\\x1b\[2J\\u202e: 10\.0\.0\.1:6379 ==> 10\.0\.0\.2:6379$/m,
    /^phase +catching-up {2}\(write\)$/m,
    /^wave +2$/m,
    /^reason +2 commands refused by the target; slow\\x1b\]0;x\\x07$/m,
    /^snapshot +52% {2}306 MB of 588 MB$/m,
    /^keys +1,600,000 \(3,000,000 on the source at the start\)$/m,
    /^lag +345 B/m,
    /^position +12,000 applied, the source is at 12,345$/m,
    /^verify +compared 7 keys: 1 different, 0 missing, 0 extra$/m,
    /^lag over the last 5m 00s, at most 99\.0 kB\n[▁▂▃▄▅▆▇█]{75}$/m,
    /^last events\n[\s\S]*event 99/m,
    /^on cart\\x1b\[2J\\u202e alone:.*\[Esc\] leave/m,
  ]) {
    assert.match(text, part);
  }
});
