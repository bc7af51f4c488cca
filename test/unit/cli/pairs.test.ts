/** The pairs of a host list, complete: own options, passwords by reference or asked for, and all faults at once. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  PAIR_COLUMNS,
  type RawOptions,
  resolveRunOptions,
  type Surroundings,
} from '../../../src/cli/options.ts';
import { resolveFormerPairs, resolvePairs } from '../../../src/cli/pairs.ts';
import { type PairSpec, Secret } from '../../../src/core/endpoint.ts';
import { UsageError } from '../../../src/core/errors.ts';
import { optionsOfPair } from '../../../src/core/options.ts';
import { LIST_COLUMNS } from '../../../src/fleet/host-list.ts';
import { HostListError } from '../../../src/fleet/pair-entries.ts';
import type { RunFile } from '../../../src/migrate/run-folder.ts';

const CANARY = 'cAnArY';
const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-pairs-'));
after(() => rmSync(folder, { recursive: true }));

function around(changes: Partial<Surroundings> = {}): Surroundings {
  return {
    env: {},
    cwd: folder,
    now: new Date(),
    terminal: false,
    readStdin: async () => '',
    askPassword: null,
    warn: (message) => assert.fail(`no warning expected: ${message}`),
    ...changes,
  };
}

function file(name: string, text: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function csv(...lines: readonly string[]): string {
  return file('hosts.csv', lines.join('\n'));
}

async function faultsOf(raw: RawOptions, surroundings: Surroundings): Promise<readonly string[]> {
  try {
    await resolvePairs(raw, surroundings);
  } catch (error) {
    assert.ok(error instanceof HostListError, String(error));
    assert.equal(error.exitCode, 2);
    assert.doesNotMatch(error.message, new RegExp(CANARY));
    return error.faults.map((fault) => fault.replaceAll(`${folder}/hosts`, 'hosts'));
  }
  return [];
}

function passwords(pairs: readonly PairSpec[]): (string | undefined)[][] {
  return pairs.map(({ source, target }) => [source.password?.reveal(), target.password?.reveal()]);
}

test('options of one pair count for it alone, over the command line', async () => {
  const hosts = csv(
    'source,target,wave,feed,flush-target,no-reverse,listen,cutover-timeout,psync-command',
    'a,x,1,write,yes,no,,2.5,aws_psync',
    'b,y,2,,,,:7001,,',
    'c,z,2,,no,yes,h:7001,,',
    'd,w,,,,,,,',
  );
  const raw: RawOptions = { hosts, feed: 'attach', reverse: false, advertise: 'us' };
  const pairs = await resolvePairs(raw, around());
  assert.deepEqual(
    pairs.map(({ name, wave, options }) => ({ name, wave, options })),
    [
      {
        name: 'a:6379',
        wave: '1',
        options: {
          feed: 'write',
          flushTarget: true,
          cutoverTimeoutMs: 2500,
          reverse: true,
          commandNames: { psync: 'aws_psync', sync: 'SYNC', replconf: 'REPLCONF' },
        },
      },
      { name: 'b:6379', wave: '2', options: { listen: { host: null, port: 7001, advertise: 'us' } } },
      {
        name: 'c:6379',
        wave: '2',
        options: {
          flushTarget: false,
          reverse: false,
          listen: { host: 'h', port: 7001, advertise: 'us' },
        },
      },
      { name: 'd:6379', wave: undefined, options: undefined },
    ],
  );
  const run = resolveRunOptions(raw, around());
  const own = pairs.map((pair) => optionsOfPair(pair, run));
  assert.deepEqual(
    own.map(({ feed, flushTarget, reverse, cutoverTimeoutMs }) => [
      feed,
      flushTarget,
      reverse,
      cutoverTimeoutMs,
    ]),
    [
      ['write', true, true, 2500],
      ['attach', false, false, 10_000],
      ['attach', false, false, 10_000],
      ['attach', false, false, 10_000],
    ],
  );
});

test('passwords by reference: the URI first, then the list, then what is for all', async () => {
  const secret = file('secret', 'from file\n');
  const hosts = csv(
    'source,target,auth,src-auth,dst-auth',
    `redis://:uri@a,redis://app@x,env:CART,,`,
    'b,y,env:CART,,file:secret',
    `c,z,,env:CART,`,
    `d,w,,,`,
  );
  const env = { CART: 'from env', ALL: 'of all', REDISCLI_AUTH: 'cli' };
  const pairs = await resolvePairs({ hosts, dstAuthEnv: 'ALL' }, around({ env }));
  assert.deepEqual(passwords(pairs), [
    ['uri', 'from env'],
    ['from env', 'from file'],
    ['from env', 'of all'],
    ['cli', 'of all'],
  ]);
  assert.equal(pairs[0]?.target.username, 'app');
  assert.deepEqual(
    pairs.map(({ auth }) => auth),
    [
      { source: 'env:CART', target: 'env:CART' },
      { source: 'env:CART', target: `file:${secret}` },
      { source: 'env:CART' },
      undefined,
    ],
  );
  assert.doesNotMatch(JSON.stringify(pairs), /from env|from file|of all/);
});

test('files with passwords that others can read give one warning each', async () => {
  const open = file('open', 'p', 0o640);
  const lists: [string, number, number][] = [
    [`redis://:p@a,x,\nb,y,file:${open}\nc,z,file:${open}`, 0o644, 2],
    [`redis://:p@a,x,`, 0o600, 0],
    [`redis://user@a,x,file:${open}`, 0o644, 1],
    [`a,x,`, 0o644, 0],
  ];
  for (const [lines, mode, expected] of lists) {
    const hosts = file('hosts.csv', `source,target,auth\n${lines}`, mode);
    const warnings: string[] = [];
    await resolvePairs({ hosts }, around({ warn: (message) => warnings.push(message) }));
    assert.equal(warnings.length, expected, warnings.join());
    for (const warning of warnings) assert.match(warning, /can be read by other users .*: chmod 600 /);
  }
});

test('all faults of a list at once: form, servers, options, passwords, pairs that meet', async () => {
  file('empty', '\n');
  file('lines', `old:6379 ${CANARY}\nnew:6379 ${CANARY}`);
  const hosts = file(
    'hosts.yaml',
    [
      '- {source: a, target: x, feed: both, listen: "h:70000"}',
      '- source: b',
      '  target: y',
      '  flush-target: yes',
      '  allow-nonempty: yes',
      '- {source: c, target: z:0}',
      '- {source: d, target: w, auth: env:UNSET}',
      `- {source: e, target: v, auth: ${CANARY}}`,
      `- {source: f, target: u, auth: file:${folder}/none, dst-auth: file:${folder}/empty}`,
      `- {source: g, target: t, auth: file:${folder}/lines}`,
      '- {source: redis://app@h, target: s}',
      '- {source: i, target: A, forward-publish: maybe}',
      '- {source: j, target: r, listen: ":7001"}',
      '- {source: k, target: q, listen: ":7001"}',
      `- {source: l, target: p, auth: "env:${CANARY}"}`,
    ].join('\n'),
  );
  const faults = await faultsOf({ hosts }, around());
  const expected = [
    /^hosts\.yaml:6: target z:0: the port/,
    /^hosts\.yaml:8: the auth must be env:NAME or file:PATH/,
    /^hosts\.yaml:1: --feed "both" is unknown/,
    /^hosts\.yaml:1: --listen "h:70000" is no address/,
    /^hosts\.yaml:2: --flush-target and --allow-nonempty cannot be given together/,
    /^hosts\.yaml:7: auth: the environment variable UNSET is not set/,
    /^hosts\.yaml:9: auth .*none cannot be read/,
    /^hosts\.yaml:9: auth .*empty must hold one line/,
    /^hosts\.yaml:10: auth .*lines must hold one line/,
    /^hosts\.yaml:12: --forward-publish "maybe" must be yes or no/,
    /^hosts\.yaml:15: auth: the environment variable is not set/,
    /^hosts\.yaml:1: the source a:6379 is the target at hosts\.yaml:12/,
    /^hosts\.yaml:14: listen :7001 is used already at hosts\.yaml:13/,
    /^hosts\.yaml:11: the URI of h:6379 names a user, and there is no password/,
  ];
  assert.equal(faults.length, expected.length, faults.join('\n'));
  for (const [index, pattern] of expected.entries()) assert.match(faults[index] ?? '', pattern);
});

test('what is wrong with the command line is not told as a fault of the list', async () => {
  const hosts = csv('source,target,feed', 'a,x,write', 'b,y,');
  await assert.rejects(resolvePairs({ hosts, feed: 'both' }, around()), { code: 'bad-value' });
  await assert.rejects(resolvePairs({ hosts, listen: 'h:7000' }, around()), { code: 'listen-shared' });
  const own = csv('source,target,listen', 'a,x,:7001', 'b,y,');
  assert.equal((await resolvePairs({ hosts: own, listen: 'h:7000' }, around())).length, 2);
  const conflict = csv('source,target,allow-nonempty', 'a,x,yes');
  const faults = await faultsOf({ hosts: conflict, flushTarget: true }, around());
  assert.match(faults.join(), /^hosts\.csv:2: --flush-target and --allow-nonempty/);
});

test('--askpass: one password a side, for the servers that have no other', async () => {
  const asked: string[] = [];
  const person = (answer: string) =>
    around({
      env: { REDISCLI_AUTH: 'cli', CART: 'env' },
      askPassword: async (question) => {
        asked.push(question);
        return new Secret(`${answer}${asked.length}`);
      },
    });
  const pairs = { src: ['redis://:own@a', 'b'], dst: ['x', 'redis://app@y'] };
  assert.deepEqual(passwords(await resolvePairs({ ...pairs, askpass: true }, person('typed'))), [
    ['own', 'typed2'],
    ['typed1', 'typed2'],
  ]);
  assert.deepEqual(asked, ['Password of the sources (empty: none)', 'Password of the targets (empty: none)']);

  asked.length = 0;
  const listed = { hosts: csv('source,target,src-auth', 'a,x,env:CART'), askpass: true } as const;
  assert.deepEqual(passwords(await resolvePairs(listed, person('typed'))), [['env', 'typed1']]);
  assert.deepEqual(asked, ['Password of the targets (empty: none)']);

  // nothing typed: no password, as redis-cli has it
  const silent = around({ env: { REDISCLI_AUTH: 'cli' }, askPassword: async () => new Secret('') });
  assert.deepEqual(passwords(await resolvePairs({ src: ['a'], dst: ['x'], askpass: true }, silent)), [
    [undefined, undefined],
  ]);

  asked.length = 0;
  assert.equal(
    (await faultsOf({ hosts: csv('source,target', 'a,', 'redis://app@b,y'), askpass: true }, person('p')))
      .length,
    1,
  );
  assert.deepEqual(asked, [], 'a list that has to be mended first');
  for (const [raw, surroundings] of [
    [{ ...pairs, askpass: true }, around()],
    [{ ...pairs, askpass: true, input: false }, person('p')],
  ] as const) {
    await assert.rejects(
      resolvePairs(raw, surroundings),
      (error) => error instanceof UsageError && error.code === 'no-terminal',
    );
  }
});

test('resume: waves, references and own options of the list, unless they are given anew', async () => {
  const hosts = csv(
    'source,target,wave,auth,flush-target,allow-loss,listen,cutover-timeout,no-reverse',
    'a,x,one,env:CART,yes,no,:7001,3,no',
  );
  const env = { CART: 'secret' };
  const pairs = await resolvePairs({ hosts }, around({ env }));
  const stored: unknown = JSON.parse(JSON.stringify(pairs));
  const run = { runId: 'r', startedAt: '', pairs: stored, options: {} } as unknown as RunFile;
  assert.doesNotMatch(JSON.stringify(run), /secret/);

  const former = async (raw: RawOptions) => (await resolveFormerPairs(run, raw, around({ env })))[0];
  const same = await former({ reverse: true, sourceFence: true });
  assert.deepEqual([same?.wave, same?.source.password?.reveal()], ['one', 'secret']);
  assert.deepEqual(same?.options, {
    allowLoss: false,
    cutoverTimeoutMs: 3000,
    reverse: true,
    listen: { host: null, port: 7001, advertise: null },
  });
  const anew = await former({ reverse: false, allowLoss: true, cutoverTimeout: '9', advertise: 'us' });
  assert.deepEqual(anew?.options, { listen: { host: null, port: 7001, advertise: 'us' } });
  assert.deepEqual((await former({ listen: 'h' }))?.options?.listen, undefined);
  await assert.rejects(resolveFormerPairs(run, {}, around()), { code: 'auth-env' });
});

test('TLS files and hooks of one pair, also when its run is gone on with', async () => {
  const [own, common] = [file('own.pem', 'own'), file('common.pem', 'common')];
  const hosts = csv(
    'source,target,cacert,sni,on-start,on-cutover',
    'rediss://a,x,own.pem,inside,,move a',
    'rediss://b,rediss://y,,,look at b,',
  );
  const raw: RawOptions = { hosts, cacert: common, sni: 'outside', onStart: 'look' };
  const pairs = await resolvePairs(raw, around());
  const tlsOf = (all: readonly PairSpec[]) =>
    all.map(({ source, target }) =>
      [source.tls, target.tls].map((tls) => tls && [tls.ca?.toString(), tls.sni]),
    );
  assert.deepEqual(tlsOf(pairs), [
    [['own', 'inside'], null],
    [
      ['common', 'outside'],
      ['common', 'outside'],
    ],
  ]);
  assert.deepEqual(pairs[0]?.tls, { cacert: own, sni: 'inside' }, 'paths that hold in any folder');
  const hooks = pairs.map(({ options }) => options?.hooks);
  assert.deepEqual(hooks, [{ start: 'look', cutover: 'move a' }, { start: 'look at b' }]);

  const stored = pairs.map(({ source, target, ...rest }) => {
    const at = ({ host, port, tls }: typeof source) => ({
      host,
      port,
      username: null,
      tls: tls === null ? null : { sni: tls.sni, insecure: tls.insecure },
    });
    return { ...rest, source: at(source), target: at(target) };
  });
  const run = { runId: 'r', startedAt: '', pairs: stored, options: {} as RunFile['options'] };
  const former = await resolveFormerPairs(run, { sni: 'anew', onStart: 'again' }, around());
  assert.deepEqual(tlsOf(former), [
    [['own', 'anew'], null],
    [
      [undefined, 'anew'],
      [undefined, 'anew'],
    ],
  ]);
  assert.deepEqual(former[0]?.options?.hooks, { start: 'again', cutover: 'move a' });

  const faulty = csv(
    'source,target,cacert,cert,on-start',
    'a,x,own.pem,,',
    'rediss://b,y,none.pem,,',
    'rediss://c,z,,own.pem,',
  );
  const faults = await faultsOf({ hosts: faulty }, around());
  for (const [index, fault] of [
    /:2: cacert without effect/,
    /:3: --cacert .*none/,
    /:4: --cert and --key/,
  ].entries()) {
    assert.match(faults[index] ?? '', fault);
  }
});

test('the README names every column', () => {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
  const table = /\| column \| holds \|[\s\S]*?\n\n/.exec(readme)?.[0] ?? '';
  for (const column of [...LIST_COLUMNS.map(({ name }) => name), ...PAIR_COLUMNS]) {
    assert.ok(table.includes(`\`${column}\``), column);
  }
});
