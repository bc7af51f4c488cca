/** The matrix without its servers: what a cell says, and the page that is made of them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Comparison } from '../../../src/demo/compare.ts';
import { type Cell, cellLine, renderPage } from '../../matrix/page.ts';
import { announcedLosses, type Finding, judge, refusal, type Verdict } from '../../matrix/verdict.ts';

const finding = (name: string, status: string, detail: string): Finding => ({
  name,
  status,
  detail,
  hint: '',
});

const TTLS = finding('loss', 'warn', 'fields of 12 hashes expire, and the target knows no such expiries');
const COUNTERS = finding('loss', 'ok', 'nothing but counters of streams (entries-added, entries-read)');
const BOTH = finding('loss', 'warn', `${TTLS.detail}; and when consumers of streams were last active`);
const FUNCTIONS = finding('functions', 'warn', '1 libraries of functions: they are left out');
const NOTHING = [
  finding('functions', 'ok', '1 libraries'),
  finding('loss', 'ok', 'nothing that is known'),
  finding('versions', 'warn', 'fields of 3 hashes expire'),
];

function found(aspects: Comparison['aspects'], more: Partial<Comparison> = {}): Comparison {
  return {
    compared: 9,
    different: Object.values(aspects).reduce((sum, count) => sum + count, 0),
    aspects,
    missing: 0,
    extra: 0,
    first: null,
    digestA: null,
    digestB: null,
    ...more,
  };
}

describe('the verdict of a cell', () => {
  it('reads the losses from the lines of the preflight', () => {
    assert.deepEqual(announcedLosses(NOTHING), []);
    assert.deepEqual(announcedLosses([TTLS, FUNCTIONS]), ['field-ttls', 'functions']);
    assert.deepEqual(announcedLosses([FUNCTIONS, BOTH]), ['field-ttls', 'functions', 'stream-counters']);
  });

  it('is equal with exactly the losses that were announced', () => {
    const nothing: Verdict = { kind: 'equal', losses: [], without: [] };
    assert.deepEqual(judge(NOTHING, found({}), []), nothing);
    const verdict = judge([COUNTERS, FUNCTIONS], found({ functions: 1, 'stream-counters': 7 }), ['streams']);
    assert.deepEqual(verdict, {
      kind: 'equal',
      losses: ['functions', 'stream-counters'],
      without: ['streams'],
    });
  });

  it('tells a loss that may be allowed from another refusal', () => {
    const lossy = { ...TTLS, status: 'refuse', hint: 'let them stay: --allow-loss' };
    const cluster = { ...finding('cluster', 'refuse', 'is a cluster'), hint: 'take another' };
    const feed = finding('feed', 'refuse', 'attach cannot work: too old');
    assert.deepEqual(refusal([COUNTERS, lossy]), { kind: 'would-lose' });
    assert.deepEqual(refusal([lossy, cluster]), {
      kind: 'refused',
      reason: `${TTLS.detail}; is a cluster`,
    });
    assert.deepEqual(refusal([lossy, feed, FUNCTIONS]), { kind: 'refused', reason: 'too old' });
    assert.equal(refusal([COUNTERS]).kind, 'refused');
  });

  for (const [what, findings, comparison, reason] of [
    ['a value', NOTHING, found({ value: 1 }, { first: 'db0 "s"' }), /1 different, 0 missing.*db0 "s"/],
    ['a value beside a loss', [TTLS], found({ value: 1, 'field-ttls': 3 }), /1 different/],
    ['a missing key', NOTHING, found({}, { missing: 2 }), /2 missing/],
    ['an extra key', NOTHING, found({}, { extra: 1 }), /1 extra/],
    ['a digest', NOTHING, found({}, { digestA: 'a', digestB: 'b' }), /digests/],
    ['a loss without a word', NOTHING, found({ 'field-ttls': 1 }), /lost: nothing; found: field-ttls/],
    ['another loss', [FUNCTIONS], found({ 'field-ttls': 1 }), /lost: functions; found: field-ttls/],
    ['a loss that is none', [COUNTERS], found({}), /lost: stream-counters; found: nothing/],
  ] as const) {
    it(`fails for ${what}`, () => {
      const verdict = judge(findings, comparison, []);
      assert.equal(verdict.kind, 'failed');
      assert.match(verdict.reason, reason);
    });
  }
});

describe('the page', () => {
  const cell = (source: string, target: string, verdict: Verdict, feed: Cell['feed'] = 'write'): Cell => ({
    source,
    target,
    feed,
    verdict,
  });
  const equal: Verdict = { kind: 'equal', losses: [], without: [] };
  const cells: readonly Cell[] = [
    cell('Redis 6', 'Redis 6', equal),
    cell('Redis 6', 'Valkey 9', equal),
    cell('Valkey 9', 'Redis 6', { kind: 'equal', losses: ['field-ttls', 'functions'], without: [] }),
    cell('Valkey 9', 'Valkey 9', { kind: 'failed', reason: 'exit code 1' }),
    cell('Redis 6', 'Redis 6', equal, 'attach'),
    cell('Redis 6', 'Valkey 9', equal, 'attach'),
    cell('Valkey 9', 'Redis 6', { kind: 'refused', reason: 'the target is too old' }, 'attach'),
    cell('Valkey 9', 'Valkey 9', { kind: 'equal', losses: ['functions'], without: ['streams'] }, 'attach'),
  ];
  const facts = { releases: ['Redis 6', 'Valkey 9'], version: '1.2.3', date: '2026-01-02' };
  const page = renderPage({ ...facts, cells });
  const rows = page.split('\n').filter((line) => line.startsWith('| **'));

  it('has a table for each feed, sources down, targets across', () => {
    assert.deepEqual(rows, [
      '| **Redis 6** | = | = |',
      '| **Valkey 9** | = a, b | FAILED c |',
      '| **Redis 6** | = | = |',
      '| **Valkey 9** | write d | = b, e |',
    ]);
    assert.ok(page.indexOf('`write`\n') < page.indexOf('`attach`\n'));
    assert.match(page, /\| from, to \| Redis 6 \| Valkey 9 \|\n\|-\|-\|-\|\n/);
  });

  it('has one footnote for each letter, and counts', () => {
    const notes = page.split('\n').filter((line) => line.startsWith('- **'));
    assert.deepEqual(
      notes.map((note) => note.slice(0, 16)),
      ['- **a**: lost: e', '- **b**: lost: l', '- **c**: exit co', '- **d**: the tar', '- **e**: run wit'],
    );
    assert.match(
      page,
      /1\.2\.3, 2026-01-02: 8 runs: 6 equal \(2 of .*\), 1 refused by the preflight, 1 FAILED/,
    );
  });

  it('goes on with two letters behind z', () => {
    const releases = Array.from({ length: 28 }, (_, at) => `R${at}`);
    const many = releases.map((name) => cell('R0', name, { kind: 'refused', reason: `because of ${name}` }));
    const long = renderPage({ ...facts, releases, cells: many });
    assert.match(long, /refused z \| refused aa \| refused ab \|/);
    assert.match(long, /\*\*ab\*\*: because of R27/);
  });

  it('shows a part of the pairs', () => {
    assert.match(
      renderPage({ ...facts, cells: cells.slice(1, 2) }),
      /from, to \| Valkey 9 \|\n[^\n]*\n\| \*\*Redis 6/,
    );
  });

  it('has a line for each cell with the words of its footnotes', () => {
    assert.match(cellLine(cells[2]!), /^Valkey 9 to Redis 6 {2}write {2}= {2}lost: expiries .* {2}lost: lib/);
  });
});
