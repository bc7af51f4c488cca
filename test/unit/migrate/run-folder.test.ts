/** The run folder: what is written, what is not, and what survives a crash. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Secret } from '../../../src/core/endpoint.ts';
import type { RunOptions } from '../../../src/core/options.ts';
import { RunFolder, safeFileName } from '../../../src/migrate/run-folder.ts';
import { RUN_OPTIONS } from '../../helpers/run-options.ts';

const CANARY = 'S3cretCanary';
let parent: string;
let dir: string;
const opened: RunFolder[] = [];

const options = (): RunOptions => ({ ...RUN_OPTIONS, cutover: 'ask', runDir: dir, spoolMemoryBytes: 1 });

const endpoint = {
  host: 'h',
  port: 1,
  username: 'u',
  password: new Secret(CANARY),
  tls: { ca: null, cert: Buffer.from(CANARY), key: Buffer.from(CANARY), sni: 'n', insecure: false },
};

async function create(): Promise<RunFolder> {
  const folder = await RunFolder.create(
    dir,
    'r1',
    [{ name: 'p', source: endpoint, target: endpoint }],
    options(),
  );
  opened.push(folder);
  return folder;
}

async function reopen(): Promise<RunFolder> {
  const folder = await RunFolder.open(dir);
  opened.push(folder);
  return folder;
}

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'redis-cutover-run-'));
  dir = join(parent, 'a', 'run');
});
afterEach(async () => {
  for (const folder of opened.splice(0)) await folder.close().catch(() => {});
  rmSync(parent, { recursive: true });
});

describe('RunFolder', () => {
  it('is private, and holds no secret', async () => {
    const folder = await create();
    await folder.append({ kind: 'fence-set', pair: 'p', data: { x: 1 } }, 'durable');
    assert.equal(statSync(dir).mode & 0o777, 0o700);
    for (const name of readdirSync(dir)) {
      assert.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name);
      const text = readFileSync(join(dir, name), 'utf8');
      assert.ok(!text.includes(CANARY) && !text.includes(Buffer.from(CANARY).toString('base64')), name);
    }
    const { run } = folder;
    assert.deepEqual(run.pairs[0]?.source, {
      host: 'h',
      port: 1,
      username: 'u',
      tls: { sni: 'n', insecure: false },
    });
    assert.equal(run.options.spoolLimitBytes, null);
  });

  it('keeps what the host list says of a pair: resume needs it', async () => {
    const more = { wave: 'canary', options: { reverse: false }, auth: { source: 'env:CART' } };
    const pair = { name: 'p', source: endpoint, target: endpoint, ...more };
    await (await RunFolder.create(dir, 'r1', [pair], options())).close();
    const { run } = await reopen();
    assert.deepEqual(
      run.pairs.map(({ wave, options, auth }) => ({ wave, options, auth })),
      [more],
    );
  });

  it('gives back what was written, also after a line was torn', async () => {
    const folder = await create();
    const entries = ['one\n"', 'zwö', 'three'].map((text) => ({
      kind: 'k',
      pair: 'p',
      data: { text, list: [1, null] },
    }));
    await Promise.all(entries.map((entry) => folder.append(entry)));
    assert.deepEqual(await folder.readJournal(), entries);
    await folder.close();
    const path = join(dir, 'journal.ndjson');
    const whole = readFileSync(path);
    for (const cut of [1, 2, 20, whole.length]) {
      writeFileSync(path, Buffer.concat([whole, whole.subarray(0, cut - 1)]).subarray(0, whole.length + cut));
      appendFileSync(path, cut === 20 ? 'garbage\n' : '{"sum":"0');
      const again = await reopen();
      const kept = (await again.readJournal()).length;
      assert.ok(kept >= 3, `${kept} lines after a cut of ${cut}`);
      await again.append({ kind: 'k', pair: 'p', data: 'next' });
      assert.equal((await again.readJournal()).length, kept + 1);
      await again.close();
    }
    writeFileSync(path, Buffer.from(whole.toString().replace('zwö', 'zwei')));
    await assert.rejects(RunFolder.open(dir), { code: 'run-dir-damaged' });
  });

  it('is not given to two at once, but taken over from the dead', async () => {
    const folder = await create();
    await assert.rejects(RunFolder.open(dir), { code: 'run-dir-locked', exitCode: 1 });
    await folder.close();
    await (await reopen()).close();
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    for (const [pid, host, code] of [
      [dead, hostname(), null],
      [process.pid, hostname(), null],
      [process.ppid, hostname(), 'run-dir-locked'],
      [dead, 'elsewhere', 'run-dir-locked'],
    ] as const) {
      writeFileSync(join(dir, 'lock'), `${pid} ${host}\n`);
      if (code === null) await (await reopen()).close();
      else await assert.rejects(RunFolder.open(dir), { code });
    }
  });

  it('is taken over from a process that was killed before it had written into its lock', async () => {
    await (await create()).close();
    writeFileSync(join(dir, 'lock'), '');
    await (await reopen()).close();
    // one that is about to write is left its time
    writeFileSync(join(dir, 'lock'), '');
    setTimeout(() => writeFileSync(join(dir, 'lock'), `${process.ppid} ${hostname()}\n`), 20);
    await assert.rejects(RunFolder.open(dir), { code: 'run-dir-locked' });
  });

  it('refuses what is no folder for this run', async () => {
    await assert.rejects(RunFolder.open(dir), { code: 'run-dir', exitCode: 2 });
    await (await create()).close();
    await assert.rejects(create(), { code: 'run-dir-used', exitCode: 2 });
    await (await reopen()).close();
    writeFileSync(join(dir, 'run.json'), '{"runId":');
    await assert.rejects(RunFolder.open(dir), { code: 'run-dir-damaged' });
    const server = { host: 'h', port: 1, username: null, tls: null };
    const pair = { name: 'p', source: server, target: server };
    const good = { runId: 'r1', startedAt: '', pairs: [pair], options: {} };
    const endpointWith = (part: object): object => ({
      ...good,
      pairs: [{ ...pair, source: { ...server, ...part } }],
    });
    writeFileSync(join(dir, 'run.json'), JSON.stringify(good));
    await (await reopen()).close();
    for (const run of [
      null,
      [],
      { ...good, runId: 1 },
      { ...good, options: null },
      { ...good, pairs: {} },
      { ...good, pairs: [null] },
      { ...good, pairs: [{ ...pair, name: 1 }] },
      { ...good, pairs: [{ ...pair, target: null }] },
      { ...good, pairs: [{ ...pair, wave: 1 }] },
      { ...good, pairs: [{ ...pair, options: [] }] },
      { ...good, pairs: [{ ...pair, auth: 'env:CART' }] },
      endpointWith({ host: undefined }),
      endpointWith({ port: '1' }),
      endpointWith({ port: 1.5 }),
      endpointWith({ username: undefined }),
      endpointWith({ tls: true }),
      endpointWith({ tls: undefined }),
    ]) {
      writeFileSync(join(dir, 'run.json'), JSON.stringify(run));
      await assert.rejects(RunFolder.open(dir), { code: 'run-dir-damaged' }, JSON.stringify(run));
    }
    dir = join(dir, 'run.json', 'below-a-file');
    await assert.rejects(create(), { code: 'run-dir', exitCode: 2 });
  });
});

describe('safeFileName', () => {
  it('gives each name of a pair a file of its own, also where capitals do not count, and inside its folder', () => {
    const long = 'n'.repeat(250);
    const names = [
      'cart',
      'Cart',
      'a/b',
      'a_b',
      'a:b',
      '日本',
      '中国',
      '.',
      '..',
      '',
      `${long}1`,
      `${long}2`,
    ];
    const files = names.map(safeFileName);
    assert.equal(new Set(files.map((file) => file.toLowerCase())).size, names.length, files.join(' '));
    for (const file of files) assert.match(file, /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,120}$/);
    assert.equal(safeFileName('cart'), 'cart');
  });
});
