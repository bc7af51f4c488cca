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
  const roleOf = async (port: number): Promise<unknown> => ((await ask(port, 'ROLE')) as unknown[])[0];

  await terminal.start(
    `sh ${program} migrate --hosts ${list} --feed attach --run-dir ${dir} --before-cutover 'sh ${hook}'; echo "code $?"`,
  );
  await terminal.shown(/\[s\] start {2}\[q\] quit/);
  terminal.keys('s');
  await terminal.shown(/\[w\] cut over the wave/);
  // what is told while a question stands comes between its lines: nothing more is to come by itself
  await terminal.shown(/geo: catching-up -> in-sync/);

  // the first wave: one is held back, and stays in sync
  terminal.keys('w');
  await terminal.shown(/Wave 1: cart, sess\.[\s\S]*means no\.\n>/);
  answer('wave 1');
  await terminal.shown(/Wave 1: 1 promoted, 1 returned\./);
  assert.match(terminal.screen(), /not sess/);
  assert.equal(await roleOf(cart.target.port), 'master');
  assert.equal(await roleOf(sess.target.port), 'slave');
  assert.equal(sess.traffic.stats().refused, 0);

  // again, without the veto
  rmSync(veto);
  await terminal.shown(/\[w\] cut over the wave/);
  terminal.keys('w');
  await terminal.shown(/Wave 1: sess\.[\s\S]*means no\.\n>/);
  answer('wave 1');
  await terminal.shown(/Wave 1: 2 promoted, 0 returned\./);
  assert.equal(await roleOf(sess.source.port), 'slave');

  // and back, with what was written meanwhile
  for (const { target } of [cart, sess]) await ask(target.port, 'SET', 'since', 'the cutover');
  await terminal.shown(/\[u\] roll back the wave/);
  terminal.keys('u');
  await terminal.shown(/stop writes on the new master[\s\S]*means no\.\n>/);
  answer('roll back wave 1');
  for (const { name } of [cart, sess]) await terminal.shown(new RegExp(`${name}: promoted -> rolled-back`));
  for (const { source } of [cart, sess]) {
    assert.equal(await roleOf(source.port), 'master');
    assert.equal(await ask(source.port, 'GET', 'since'), 'the cutover');
  }

  // left, and gone on with: the other wave
  terminal.keys('q');
  await terminal.shown(/^code 6$/m);
  assert.equal(await ask(geo.source.port, 'SET', 'as', 'before'), 'OK');
  await terminal.start(`sh ${program} resume ${dir}; echo "code $?"`);
  await terminal.shown(/\[s\] start {2}\[q\] quit/);
  terminal.keys('s');
  await terminal.shown(/\[w\] cut over the wave/);
  terminal.keys('w');
  await terminal.shown(/Wave 2: geo\.[\s\S]*means no\.\n>/);
  answer('wave 2');
  await terminal.shown(/Wave 2: 1 promoted, 0 returned\./);
  await terminal.shown(/\[f\] finish/);
  terminal.keys('f');
  // a wave was rolled back: that is no plain success
  await terminal.shown(/^code 6$/m);

  await until(() => geo.traffic.stats().refused > 0);
  for (const { traffic } of pairs) await traffic.stop();
  assert.equal(await roleOf(geo.target.port), 'master');
  await assertEqualServers(geo.source.port, geo.target.port);
});
