/**
 * The table of a fleet on a real terminal: choosing, scrolling, order, details. Once with pairs that are made up, where
 * run with PTY_CHILD set this same file is the program on that terminal; once with servers, to see that a key acts on
 * the chosen pair alone. Needs tmux and redis-server.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { PairSnapshot } from '../../src/core/events.ts';
import { liveRenderer } from '../../src/ui/live.ts';
import { keysFooter, terminalOperator } from '../../src/ui/operator.ts';
import { testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';
import { ask, newRunDir } from '../scenarios/support.ts';
import { pairSnapshot } from '../unit/ui/fake.ts';

const here = fileURLToPath(import.meta.url);
const root = fileURLToPath(new URL('../..', import.meta.url));
const BIN = join(root, 'bin/redis-cutover.js');
const HOSTILE = '\x1b]0;owned\x07\x1b[2J\u202eevil';

if (process.env['PTY_CHILD'] === undefined) defineTests();
else await runChild();

/** 60 pairs, and one line said for each key that acts. */
async function runChild(): Promise<void> {
  const live = liveRenderer(process.stdout);
  const operator = terminalOperator(process.stdin, process.stdout, { screen: live, onInterrupt: () => {} });
  const allowed = ['cut-over', 'quit'] as const;
  let ticks = 0;
  const ticker = setInterval(() => {
    ticks += 1;
    live.frame(madeUpPairs(ticks), keysFooter(allowed));
  }, 50);
  live.event({ event: 'note', pair: 'p01', message: `it said ${HOSTILE}` });
  for (;;) {
    const command = await operator.next(allowed);
    live.say(`${command} for ${operator.selected() ?? 'all'}`);
    if (command === 'quit') break;
  }
  clearInterval(ticker);
  operator.close();
  live.close();
}

function madeUpPairs(ticks: number): PairSnapshot[] {
  return Array.from({ length: 60 }, (_, index) =>
    pairSnapshot({
      pair: `p${String(index + 1).padStart(2, '0')}`,
      source: index === 1 ? HOSTILE : index === 2 ? 'h'.repeat(300) : `old-${index + 1}:1`,
      target: `new-${index + 1}:1`,
      wave: index < 30 ? 'one' : 'two',
      phase: index === 44 ? 'failed' : 'in-sync',
      reason: index === 44 ? HOSTILE : null,
      lagBytes: index === 50 ? 9_000 : 1,
      keys: ticks,
    }),
  );
}

function defineTests(): void {
  test('60 pairs at 80x24: arrows, pages, order, details, a resize', terminalOptions, async (t) => {
    const terminal = new Terminal(t);
    await terminal.start(`cd '${root}' && PTY_CHILD=1 '${process.execPath}' --import tsx '${here}'`);
    await terminal.shown(/^p01: .*[\s\S]*^rows 1-1\d of 60, hidden: \d+ in-sync, 1 failed$/m);
    assert.match(terminal.visible(), / WAVE +PHASE/);
    assert.match(terminal.visible(), /^60 pairs: 59 in-sync, 1 failed/m);
    assert.match(terminal.visible(), /on all pairs/);

    terminal.keys('Enter');
    await terminal.shown(/^\[Enter\] does nothing now/m);
    terminal.keys('c');
    await terminal.shown(/^cut-over for all$/m);
    terminal.keys('Down', 'Down');
    await terminal.shown(/^on p02 alone:/m);
    assert.match(terminal.visible(), /^p02.*< one +in-sync/m);
    terminal.keys('c');
    await terminal.shown(/^cut-over for p02$/m);

    // the name of its source acts on nothing, and the details fit
    terminal.keys('Enter');
    await terminal.shown(/^p02: \\x1b\]0;owned\\x07\\x1b\[2J\\u202eevil ==> new-2:1$/m);
    terminal.keys('Up');
    const detail = await terminal.shown(
      /^p01: old-1:1 ==> new-1:1\nphase +in-sync {2}\(write\)[\s\S]*^lag over the last .*\n[▁█]/m,
    );
    assert.match(detail, /^last events\n\d\d:\d\d:\d\d {2}it said \\x1b\]0;owned/m);
    assert.match(terminal.visible(), /^on p01 alone:.*\[Esc\] leave {2}on all: \[q\] quit$/m);
    terminal.keys('Escape');
    await terminal.shown(/^on p01 alone:.*\[Enter\] details/m);

    terminal.keys('NPage');
    await terminal.shown(/^p1\d.*< one/m);
    terminal.keys('End');
    await terminal.shown(/^p60: .*< two[\s\S]*^rows \d\d-60 of 60/m);
    terminal.keys('Escape');
    await terminal.shown(/on all pairs/);
    assert.match(terminal.visible(), /^p60: old-60:1 ==> new-60:1 +two/m);
    terminal.keys('Home');
    await terminal.shown(/^p01: old-1:1 ==>/m);
    terminal.keys('o');
    await terminal.shown(/PHASE.*\np45: \S+ ==> \S+ +two +failed +\\x1b\]0;owned[\s\S]*order: state/m);
    terminal.keys('o');
    await terminal.shown(/PHASE.*\np51: .*==> [\s\S]*order: lag/m);

    // a sequence in two parts is one key, and none of its letters is
    terminal.type('\x1b[');
    terminal.type('B');
    await terminal.shown(/^on p51 alone:/m);
    for (const [columns, rows] of [
      ['50', '10'],
      ['132', '50'],
      ['80', '24'],
    ] as const) {
      terminal.tmux('resize-window', '-x', columns, '-y', rows);
      const last = { 10: 4, 24: 18, 50: 45 }[rows];
      // one whole table of the new size, and nothing of the old one
      await until(() => {
        const text = terminal.visible();
        return (
          /^on p51 alone:/m.test(text) &&
          text.includes(`rows 1-${last} of 60`) &&
          text.match(/ of 60/g)?.length === 1 &&
          text.match(/^p51/gm)?.length === 1
        );
      });
    }
    terminal.keys('q');
    await terminal.shown(/^quit for p51$/m);
    await terminal.assertRestored();
  });

  test('a chosen pair is cut over alone', terminalOptions, async (t) => {
    const servers = await Promise.all([testServer(t), testServer(t), testServer(t), testServer(t)]);
    const [a, b, toA, toB] = servers;
    assert.ok(a && b && toA && toB);
    const run = `migrate --src ${a.uri} ${b.uri} --dst ${toA.uri} ${toB.uri} --feed attach --run-dir ${newRunDir(t)}`;
    const terminal = new Terminal(t);
    await terminal.start(`clear; '${process.execPath}' '${BIN}' ${run}; echo "code $?"`);
    await terminal.shown(/\[s\] start {2}\[q\] quit/);
    terminal.keys('s');
    await terminal.shown(/\[c\] cut over/);
    terminal.keys('Down', 'Down');
    await terminal.shown(new RegExp(`on 127.0.0.1:${b.port} alone:`));
    terminal.keys('c');
    await terminal.shown(
      new RegExp(
        `Make 127.0.0.1:${toB.port} .*the master\\.[\\s\\S]*Type "127.0.0.1:${b.port}".*\\n.*means no\\.\\n>`,
      ),
    );
    terminal.type(`127.0.0.1:${b.port}`);
    terminal.keys('Enter');
    await terminal.shown(new RegExp(`127.0.0.1:${b.port}: writable -> promoted`));
    await terminal.shown(new RegExp(`on 127.0.0.1:${b.port} alone:.*\\[b\\] roll back`));
    // the keys follow the choice: what is left can be cut over
    terminal.keys('Escape');
    await until(() => /\[c\] cut over[\s\S]*on all pairs/.test(terminal.visible()));
    const roles = await Promise.all(
      servers.map(async ({ port }) => ((await ask(port, 'ROLE')) as unknown[])[0]),
    );
    assert.deepEqual(roles, ['master', 'slave', 'slave', 'master']);
    terminal.keys('q');
    await terminal.shown(/^code 6$/m);
    await terminal.assertRestored();
  });
}
