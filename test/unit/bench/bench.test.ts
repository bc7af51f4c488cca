/** The benchmark without its servers: figures, the page that is made of them, a peer's settings, usage of processes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it } from 'node:test';
import { fixed, median, NOTHING, renderSection, spread, thousands } from '../../bench/figures.ts';
import { updatePage } from '../../bench/page.ts';
import { shakeConfig } from '../../bench/peer.ts';
import { cpuSecondsWithChildren, ProcessMeter } from '../../bench/process-usage.ts';
import { asRound } from '../../bench/round.ts';
import { inTurns } from '../../bench/turns.ts';
import { until, within } from '../../helpers/wait.ts';

describe('figures', () => {
  it('takes the middle one, in order of size', () => {
    assert.equal(median([10, 9, 100, 2, 30]), 10);
    assert.equal(median([4, 1]), 4);
    assert.ok(Number.isNaN(median([])));
  });

  it('shows what is not there as a dash', () => {
    assert.equal(fixed(median([]) / 2), NOTHING);
    assert.equal(spread([]), NOTHING);
    assert.equal(spread([3, 1.239, 2]), '1.24-3.00');
    assert.equal(thousands(512_400), '512 k');
  });

  it('makes a table of even columns, and names what failed', () => {
    const section = {
      title: 'Strings',
      about: '3 keys.',
      columns: ['native = 1', 'way'],
      rows: [
        ['1.00', 'native'],
        ['0.70', 'a longer way'],
      ],
      failures: ['a way'],
    };
    assert.equal(
      renderSection(section, 'on this machine'),
      [
        '## Strings',
        '',
        '3 keys.',
        '',
        '| native = 1 | way          |',
        '|------------|--------------|',
        '| 1.00       | native       |',
        '| 0.70       | a longer way |',
        '',
        '- Failed: a way',
        '',
        '*on this machine*',
      ].join('\n'),
    );
  });
});

describe('the page', () => {
  const order = ['first', 'second', 'third'];
  const measured = (entries: Record<string, string>): ReadonlyMap<string, string> =>
    new Map(Object.entries(entries));

  it('puts in what was measured, in order, and keeps all else', () => {
    const first = updatePage(null, measured({ third: '## Third\n\nold' }), order);
    const byHand = first.replace(/\n$/, '\nWritten by hand: third is <!-- first --> of all.\n');
    const page = updatePage(byHand, measured({ first: '## First\n\nnew' }), order);
    const places = ['# Benchmarks', '## First', '## Third', 'old', 'Written by hand'].map((text) =>
      page.indexOf(text),
    );
    assert.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
    );
    assert.ok(places.every((place) => place >= 0));
    assert.match(page, /Written by hand: third is <!-- first --> of all\.\n$/);

    const again = updatePage(page, measured({ third: '## Third\n\nnewer' }), order);
    assert.equal(again, page.replace('old', 'newer'));
  });

  it('is the same when nothing was measured', () => {
    const page = updatePage(null, measured({ first: 'a', second: 'b' }), order);
    assert.equal(updatePage(page, measured({}), order), page);
  });
});

it('gives the peer both addresses', () => {
  const config = shakeConfig('127.0.0.1:1000', '127.0.0.1:2000');
  assert.match(config, /^\[sync_reader\]\n(?:.*\n)*address = "127\.0\.0\.1:1000"\n(?:.*\n)*\[redis_writer\]/);
  assert.match(config, /\[redis_writer\]\n(?:.*\n)*address = "127\.0\.0\.1:2000"\n/);
});

describe('turns', () => {
  const way = (name: string) => ({
    name,
    targetArgs: [],
    begin: () => ({ inSync: Promise.resolve(), meters: [], end: async () => undefined }),
  });

  it('alternates, and goes on without one that fails twice', async (t) => {
    t.mock.method(console, 'error', () => undefined);
    const calls: string[] = [];
    const [good, bad] = [way('good'), way('bad')];
    const { samples, failures } = await inTurns([bad, good], 3, async (_round, { name }) => {
      calls.push(name);
      if (name === 'bad') throw new Error('no');
      return calls.length;
    });
    assert.deepEqual(calls, ['bad', 'good', 'bad', 'good', 'good']);
    assert.deepEqual([samples.get(bad), samples.get(good)], [[], [2, 4, 5]]);
    assert.deepEqual(failures, ['bad', 'bad']);
  });
});

describe('usage of processes', { skip: process.platform !== 'linux' }, () => {
  it('reads CPU time', () => {
    const { user, system } = process.cpuUsage();
    const seconds = cpuSecondsWithChildren(process.pid);
    assert.ok(seconds > 0 && seconds >= (user + system) / 1e6 - 0.1, `${seconds} of ${user + system} us`);
    assert.ok(Number.isNaN(cpuSecondsWithChildren(2 ** 30)));
  });

  it('adds up a process and its children, those that have ended, too', () =>
    asRound(async (round) => {
      // the child has 64 MB, says so, and ends with its input
      const held = `Buffer.alloc(64 << 20, 1); process.stdin.resume().on('end', () => process.exit())`;
      const child = `const it = ${held}; console.log(1)`;
      const parent = `require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(child)}], { stdio: ['pipe', 1, 2] })`;
      const root = spawn(process.execPath, ['-e', parent], { stdio: ['pipe', 'pipe', 'inherit'] });
      round.after(() => void root.kill('SIGKILL'));
      const meter = new ProcessMeter(root.pid ?? 0);
      round.after(() => meter.stop());
      assert.equal(root.pid === undefined, false);
      await within(new Promise((resolve) => root.stdout.once('data', resolve)), 30_000, 'the child is up');
      const both = meter.read();
      assert.ok(both.peakBytes > 128e6, `${both.peakBytes}`);
      assert.ok(both.cpuSeconds > 0);
      root.kill('SIGKILL');
      await until(() => root.signalCode !== null);
      assert.ok(meter.read().peakBytes >= both.peakBytes);
    }));
});
