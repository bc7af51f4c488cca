/**
 * RedisShake 4, where `REDIS_SHAKE_BIN` names its binary: one process for each pair, the settings that it comes with,
 * source by PSYNC, target by commands. It says nowhere that a target has everything, so a key is written to the source
 * while the snapshot is made: it comes behind it, and when the target has it, all before it is there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { printable } from '../../src/core/text.ts';
import type { Cleanup } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { atAnyEnd, scratchFolder } from './scratch.ts';
import { connected, type Pair } from './servers.ts';
import { COPY_LIMIT_MS, metered, type Way } from './way.ts';

const MARK = 'bench:mark';
const OUTPUT = 'output.log';

/** None where the environment names no binary. */
export function peerWays(): readonly Way[] {
  const binary = process.env['REDIS_SHAKE_BIN'];
  if (binary === undefined || binary === '') return [];
  return [
    {
      name: 'RedisShake',
      targetArgs: [],
      begin: (round, pairs) => {
        const begun = pairs.map((pair) => begin(round, path.resolve(binary), pair));
        return {
          inSync: Promise.all(begun.map(({ inSync }) => inSync)).then(() => undefined),
          meters: begun.map(({ pid }) => metered(round, pid)),
          end: async () => undefined,
        };
      },
    },
  ];
}

/**
 * Its configuration: `sync_reader` and `redis_writer` of version 4, all else as it comes.
 * @param source `host:port`
 * @param target `host:port`
 */
export function shakeConfig(source: string, target: string): string {
  return [
    '[sync_reader]',
    'cluster = false',
    `address = "${source}"`,
    'sync_rdb = true',
    'sync_aof = true',
    '',
    '[redis_writer]',
    'cluster = false',
    `address = "${target}"`,
    'off_reply = false',
    '',
    '[advanced]',
    'dir = "data"',
    'log_file = "shake.log"',
    '',
  ].join('\n');
}

function begin(round: Cleanup, binary: string, pair: Pair): { pid: number; inSync: Promise<void> } {
  const folder = scratchFolder(round);
  const { source, sourceHost, target } = pair;
  writeFileSync(
    path.join(folder, 'shake.toml'),
    shakeConfig(`${sourceHost}:${source.port}`, `127.0.0.1:${target.port}`),
  );
  const output = openSync(path.join(folder, OUTPUT), 'w');
  const child = spawn(binary, ['shake.toml'], { cwd: folder, stdio: ['ignore', output, output] });
  closeSync(output);
  // it takes SIGTERM for nothing
  atAnyEnd(round, () => child.kill('SIGKILL'));
  return { pid: child.pid ?? 0, inSync: Promise.race([copied(pair, child), endedEarly(child, folder)]) };
}

/** Rejects when it ends, which it does by itself at an error only. */
async function endedEarly(child: ChildProcess, folder: string): Promise<never> {
  const [code] = await once(child, 'exit');
  const said = readFileSync(path.join(folder, OUTPUT), 'utf8').trim().slice(-300);
  throw new Error(`the peer ended with ${code}: ${printable(said)}`);
}

async function copied({ source, target }: Pair, child: ChildProcess): Promise<void> {
  const limit = { timeoutMs: COPY_LIMIT_MS };
  let over = false;
  for (const event of ['exit', 'error']) child.once(event, () => (over = true));
  await connected(source, async (to) => {
    await until(async () => over || snapshotBegun(String(await to.call('INFO'))), limit);
    await to.call('SET', MARK, '1');
  });
  await connected(target, (to) =>
    until(async () => over || (await to.call('EXISTS', MARK)) === 1, {
      ...limit,
      what: 'the mark has come',
    }),
  );
  await connected(source, (to) => to.call('DEL', MARK));
}

/** What is written from now on is not in the snapshot. `info`: the source's INFO. */
function snapshotBegun(info: string): boolean {
  return /rdb_bgsave_in_progress:1|slave0:.*state=(?:send_bulk|online)/.test(info);
}
