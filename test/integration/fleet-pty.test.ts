/**
 * An operator's night at a real terminal: three pairs in two waves, in worker processes, with writes going on. A hook
 * holds one pair back, a wave is rolled back, the session is left and gone on with, and ends. What the screen says is
 * compared at each step with what the servers say.
 */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startTraffic } from '../../src/demo/traffic.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { Terminal, terminalOptions } from '../helpers/terminal.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers, newRunDir } from '../scenarios/support.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));

const HEADER = 'SOURCE ==> TARGET  WAVE  PHASE  SNAPSHOT/LAG  KEYS';
const CUTOVER_STEPS = [
  'Steps: hook before -> stop writes on the source -> drain -> compare the last',
  'keys -> open the target -> promote. What fails, or drains longer than 10 s, is',
  'undone.',
  'Rollback stays lossless while the way back is open.',
];
const NO = ['Anything else, or Ctrl-C, means no.', '>'];
const KEYS_BEHIND_A_WAVE = [
  '[e] enable writes  [m] make masters  [c] cut over  [w] cut over the wave',
  '[p] pause  [t] throttle  [l] clients  [v] verify  [k] kill clients',
  '[b] roll back  [u] roll back the wave  [q] quit  [?] help  [arrows] choose',
  '[o] order: as listed  on all pairs',
];
/** What can be seen, with # for ports, bytes, times, rates and keys, and columns that stand no wider than they must. */
function normalised(screen: string): string {
  return screen
    .replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:#')
    .replaceAll(/\b\d[\d.,]* (B|KB|MB|ms|s)\b(?!,| ago|, is)/g, '#')
    .replaceAll(/\b[\d.]+k? op\/s/g, '# op/s')
    .replaceAll(/\b[\d,]+ keys/g, '# keys')
    .replaceAll(/(?<= )\d+$/gm, '#')
    .replaceAll(/(?<=\S) {2,}/g, '  ')
    .replaceAll(/ +$/gm, '')
    .trimEnd();
}

test('waves, a veto, a rollback, quit and resume', terminalOptions, async (t) => {
  const names = ['cart', 'sess', 'geo'] as const;
  const pairs = await Promise.all(
    names.map(async (name, at) => {
      const [source, target] = await Promise.all([testServer(t), testServer(t)]);
      const traffic = await startTraffic({ port: source.port, ratePerSecond: 50, seed: at + 1 });
      atEnd(t, async () => {
        await traffic.stop();
      });
      return { name, source, target, traffic };
    }),
  );
  const [cart, sess, geo] = pairs;
  assert.ok(cart && sess && geo);
  const dir = newRunDir(t);
  const folder = dirname(dir);
  const list = join(folder, 'hosts.csv');
  const lines = pairs.map(
    ({ name, source, target }, at) => `${name},${source.uri},${target.uri},${at < 2 ? 1 : 2}`,
  );
  writeFileSync(list, ['name,source,target,wave', ...lines, ''].join('\n'));
  const veto = join(folder, 'veto');
  writeFileSync(veto, '');
  const hook = join(folder, 'hook.sh');
  writeFileSync(
    hook,
    `[ "$REDIS_CUTOVER_PAIR" != sess ] || [ ! -e '${veto}' ] || { echo not sess; exit 3; }\n`,
  );
  const program = join(folder, 'program');
  writeFileSync(program, `exec '${process.execPath}' '${BIN}' "$@"\n`);
  const terminal = new Terminal(t);
  const answer = (text: string): void => {
    terminal.type(text);
    terminal.keys('Enter');
  };
  /** Waits until the screen ends with these lines, whatever the figures, and nothing is left of others below. */
  const ends = async (...lines: readonly string[]): Promise<void> => {
    const expected = lines.join('\n');
    let text = '';
    await until(() => {
      text = normalised(terminal.visible());
      return text === expected || text.endsWith(`\n${expected}`);
    }).catch(() => assert.equal(text, expected));
  };
  const roleOf = async (port: number): Promise<unknown> => ((await ask(port, 'ROLE')) as unknown[])[0];

  await terminal.start(
    `sh ${program} migrate --hosts ${list} --feed attach --run-dir ${dir} --before-cutover 'sh ${hook}'; echo "code $?"`,
  );
  await ends(
    ...['ok checking cart', 'ok checking sess', 'ok checking geo'],
    'Syncing # and # keys from 3 redises',
    '[s] start  [q] quit',
  );
  terminal.keys('s');
  await terminal.shown(/\[w\] cut over the wave/);
  // what is told while a question stands comes between its lines: nothing more is to come by itself
  await terminal.shown(/geo: catching-up -> in-sync/);
  await ends(
    HEADER,
    'cart ==> 127.0.0.1:#  1  in-sync  # #  #',
    'sess ==> 127.0.0.1:#  1  in-sync  # #  #',
    'geo ==> 127.0.0.1:#  2  in-sync  # #  #',
    '3 pairs: 3 in-sync  lag # #  # keys  # op/s',
    '[e] enable writes  [m] make masters  [c] cut over  [w] cut over the wave',
    '[p] pause  [t] throttle  [l] clients  [v] verify  [q] quit  [?] help',
    '[arrows] choose  [o] order: as listed  on all pairs',
  );

  // the first wave: one is held back, and stays in sync
  terminal.keys('w');
  await terminal.shown(/Wave 1: cart, sess\.[\s\S]*means no\.\n>/);
  await ends('Make 2 targets the masters.', ...CUTOVER_STEPS, 'Type "wave 1" to go on', ...NO);
  answer('wave 1');
  await terminal.shown(/Wave 1: 1 promoted, 1 returned\./);
  assert.match(terminal.screen(), /not sess/);
  const wayBack = '  rollback lossless: the old source follows, # behind';
  await ends(
    'Wave 1: 1 promoted, 1 returned.',
    HEADER,
    ...['cart ==> 127.0.0.1:#  1  promoted  #', wayBack],
    'sess ==> 127.0.0.1:#  1  in-sync  # #  #',
    'geo ==> 127.0.0.1:#  2  in-sync  # #  #',
    '3 pairs: 1 promoted, 2 in-sync  lag # #  # keys  # op/s',
    ...KEYS_BEHIND_A_WAVE,
  );
  assert.equal(await roleOf(cart.target.port), 'master');
  assert.equal(await roleOf(sess.target.port), 'slave');
  assert.equal(sess.traffic.stats().refused, 0);

  // again, without the veto
  rmSync(veto);
  await terminal.shown(/\[w\] cut over the wave/);
  terminal.keys('w');
  await terminal.shown(/Wave 1: sess\.[\s\S]*means no\.\n>/);
  await ends('Make 127.0.0.1:# (sess) the master.', ...CUTOVER_STEPS, 'Type "wave 1" to go on', ...NO);
  answer('wave 1');
  await terminal.shown(/Wave 1: 2 promoted, 0 returned\./);
  await ends(
    'Wave 1: 2 promoted, 0 returned.',
    HEADER,
    ...['cart ==> 127.0.0.1:#  1  promoted  #', wayBack],
    ...['sess ==> 127.0.0.1:#  1  promoted  #', wayBack],
    'geo ==> 127.0.0.1:#  2  in-sync  # #  #',
    '3 pairs: 2 promoted, 1 in-sync  lag # #  # keys  # op/s',
    ...KEYS_BEHIND_A_WAVE,
  );
  assert.equal(await roleOf(sess.source.port), 'slave');

  // and back, with what was written meanwhile
  for (const { target } of [cart, sess]) await ask(target.port, 'SET', 'since', 'the cutover');
  await terminal.shown(/\[u\] roll back the wave/);
  terminal.keys('u');
  await terminal.shown(/stop writes on the new master[\s\S]*means no\.\n>/);
  await ends(
    'Make 2 sources the masters again.',
    'Steps: stop writes on the new master -> drain -> open the old source. Nothing',
    'that was written is lost.',
    'Then point the applications back at it.',
    'Type "roll back wave 1" to go on',
    ...NO,
  );
  answer('roll back wave 1');
  for (const { name } of [cart, sess]) await terminal.shown(new RegExp(`${name}: promoted -> rolled-back`));
  for (const { source } of [cart, sess]) {
    assert.equal(await roleOf(source.port), 'master');
    assert.equal(await ask(source.port, 'GET', 'since'), 'the cutover');
  }

  // left, and gone on with: the other wave
  await ends(
    HEADER,
    'cart ==> 127.0.0.1:#  1  rolled-back  #',
    'sess ==> 127.0.0.1:#  1  rolled-back  #',
    'geo ==> 127.0.0.1:#  2  in-sync  # #  #',
    '3 pairs: 2 rolled-back, 1 in-sync  lag # #  # keys  # op/s',
    '[e] enable writes  [m] make masters  [c] cut over  [w] cut over the wave',
    '[p] pause  [t] throttle  [l] clients  [v] verify  [k] kill clients  [q] quit',
    '[?] help  [arrows] choose  [o] order: as listed  on all pairs',
  );
  terminal.keys('q');
  await terminal.shown(/^code 6$/m);
  await terminal.shown(/^geo: stopped, [\s\S]*^cancelled \(exit code 6: cancelled or rolled back\)$/m);
  assert.doesNotMatch(terminal.screen(), /a rollback loses/, 'said of pairs that were rolled back');
  assert.equal(await ask(geo.source.port, 'SET', 'as', 'before'), 'OK');
  const rolledBack = ['cart', 'sess'].map(
    (name) => `${name} ==> 127.0.0.1:#  1  rolled-back  it was rolled back be…`,
  );
  await terminal.start(`sh ${program} resume ${dir}; echo "code $?"`);
  await terminal.shown(/\[s\] start {2}\[q\] quit/);
  terminal.keys('s');
  await terminal.shown(/\[w\] cut over the wave/);
  await ends(
    HEADER,
    ...rolledBack,
    'geo ==> 127.0.0.1:#  2  in-sync  # #  #',
    '3 pairs: 2 rolled-back, 1 in-sync  lag # #  # keys  # op/s',
    '[e] enable writes  [m] make masters  [c] cut over  [w] cut over the wave',
    '[p] pause  [t] throttle  [l] clients  [v] verify  [q] quit  [?] help',
    '[arrows] choose  [o] order: as listed  on all pairs',
  );
  terminal.keys('w');
  await terminal.shown(/Wave 2: geo\.[\s\S]*means no\.\n>/);
  await ends('Make 127.0.0.1:# (geo) the master.', ...CUTOVER_STEPS, 'Type "wave 2" to go on', ...NO);
  answer('wave 2');
  await terminal.shown(/Wave 2: 1 promoted, 0 returned\./);
  await ends(
    'Wave 2: 1 promoted, 0 returned.',
    HEADER,
    ...rolledBack,
    ...['geo ==> 127.0.0.1:#  2  promoted  #', wayBack],
    '3 pairs: 2 rolled-back, 1 promoted  # keys',
    '[l] clients  [k] kill clients  [b] roll back  [u] roll back the wave  [f] finish',
    '[q] quit  [?] help  [arrows] choose  [o] order: as listed  on all pairs',
  );
  terminal.keys('f');
  // a wave was rolled back: that is no plain success
  await terminal.shown(/^code 6$/m);

  await until(() => geo.traffic.stats().refused > 0);
  for (const { traffic } of pairs) await traffic.stop();
  assert.equal(await roleOf(geo.target.port), 'master');
  await assertEqualServers(geo.source.port, geo.target.port);
});
