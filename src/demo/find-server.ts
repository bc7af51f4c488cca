/**
 * Where the demo gets a redis-server from: REDIS_SERVER, PATH, or (as root) the system's package manager.
 * Used by server.ts. scripts/setup.mjs does the same for a fresh clone before anything is built.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { UsageError } from '../core/errors.ts';

interface PackageManager {
  readonly name: string;
  readonly commands: readonly (readonly string[])[];
}

const PACKAGE_MANAGERS: readonly PackageManager[] = [
  {
    name: 'apt-get',
    commands: [
      ['apt-get', 'update', '-q'],
      ['apt-get', 'install', '-q', '-y', '--no-install-recommends', 'redis-server'],
    ],
  },
  { name: 'dnf', commands: [['dnf', 'install', '-q', '-y', 'redis']] },
  { name: 'apk', commands: [['apk', 'add', '--quiet', 'redis']] },
];

/** Debian starts a server when it installs one, unless this file says no (exit code 101: forbidden by policy). */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

/**
 * The path of a redis-server (or valkey-server) that can be run; installs one when there is none and we are root.
 * `say` is told before an installation starts. Throws UsageError `no-redis-server`, saying how to get one.
 */
export function findServer(say: (text: string) => void = () => {}): string {
  const named = process.env['REDIS_SERVER'];
  if (named !== undefined && named !== '') {
    if (isExecutable(named)) return named;
    throw noServer('REDIS_SERVER does not name a program that can be run');
  }
  const found = onPath('redis-server') ?? onPath('valkey-server');
  if (found !== null) return found;
  install(say);
  const installed = onPath('redis-server') ?? onPath('valkey-server');
  if (installed === null) throw noServer('no redis-server after the installation');
  return installed;
}

function install(say: (text: string) => void): void {
  const manager = PACKAGE_MANAGERS.find((candidate) => onPath(candidate.name) !== null);
  if (process.getuid?.() !== 0 || manager === undefined) throw noServer('no redis-server found on PATH');
  say(`No redis-server found: installing one with ${manager.name} …`);
  const ownPolicy = manager.name === 'apt-get' && !existsSync(SERVICE_POLICY);
  if (ownPolicy) writeFileSync(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    for (const [program = '', ...args] of manager.commands) {
      // The package manager's output goes to stderr: stdout may carry NDJSON
      const result = spawnSync(program, args, {
        stdio: ['ignore', 2, 2],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      });
      if (result.status !== 0) throw noServer(`${program} ${args[0] ?? ''} failed`);
    }
  } finally {
    if (ownPolicy) rmSync(SERVICE_POLICY, { force: true });
  }
}

function onPath(program: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const candidate = join(folder, program);
    if (folder !== '' && isExecutable(candidate)) return candidate;
  }
  return null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function noServer(reason: string): UsageError {
  return new UsageError(`the demo needs a redis-server: ${reason}`, {
    code: 'no-redis-server',
    hint:
      'install one (sudo apt-get install redis-server, sudo dnf install redis, apk add redis, ' +
      'brew install redis), or set REDIS_SERVER=/path/to/redis-server',
  });
}
