/**
 * Which servers there are to test with: the ones on PATH (or REDIS_SERVER) and what `npm run servers` put
 * into .servers/. Tests across versions run what they find here, and say by name what they ran.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** One server program that starts on this machine. */
export interface Release {
  readonly kind: 'redis' | 'valkey';
  /** As the server itself says: `7.0.15`. */
  readonly version: string;
  readonly major: number;
  readonly minor: number;
  /** The program to run, as an absolute path. */
  readonly path: string;
}

const SERVERS = fileURLToPath(new URL('../../.servers', import.meta.url));
const PROGRAMS = ['redis-server', 'valkey-server'];

/**
 * The server releases of this machine: Redis before Valkey, older before newer, each version once. Programs
 * that do not start are left out.
 *
 * @param servers the folder with one folder per release, by default .servers/ of this project
 * @param env where PATH and REDIS_SERVER are read from
 */
export function serverReleases(servers: string = SERVERS, env: NodeJS.ProcessEnv = process.env): Release[] {
  const own = env['REDIS_SERVER'] === undefined ? [] : [env['REDIS_SERVER']];
  const onPath = (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const fetched = existsSync(servers) ? readdirSync(servers).filter((name) => !name.startsWith('.')) : [];
  const folders = [...onPath, ...fetched.map((name) => join(servers, name))];
  const paths = [...own, ...folders.flatMap((folder) => PROGRAMS.map((program) => join(folder, program)))];

  const byName = new Map<string, Release>();
  for (const path of paths) {
    const release = existsSync(path) ? releaseAt(path) : undefined;
    if (release === undefined) continue;
    const name = `${release.kind}-${release.version}`;
    if (!byName.has(name)) byName.set(name, release);
  }
  return [...byName.values()].sort(byKindAndAge);
}

/** What the program at `path` says that it is, or undefined when it does not start or is none of ours. */
function releaseAt(path: string): Release | undefined {
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  const [, kind, version, major, minor] =
    /^(Redis|Valkey) server v=((\d+)\.(\d+)\S*)/.exec(stdout ?? '') ?? [];
  if (kind === undefined || version === undefined) return undefined;
  return {
    kind: kind === 'Redis' ? 'redis' : 'valkey',
    version,
    major: Number(major),
    minor: Number(minor),
    path,
  };
}

function byKindAndAge(a: Release, b: Release): number {
  return a.kind.localeCompare(b.kind) || a.version.localeCompare(b.version, 'en', { numeric: true });
}
