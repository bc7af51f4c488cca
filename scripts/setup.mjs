/**
 * Makes a fresh clone ready: packages, a redis-server, the build. `npm test`, `npm run demo` and
 * `npm run bench` run it first, so it does only what is missing and costs nothing when nothing is.
 * Plain Node without dependencies: at this point there may be no node_modules.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

/**
 * Debian's package starts a service on port 6379, which would stand in the way of the operator's own servers.
 * A policy-rc.d that answers 101 forbids that while the package is installed; the trap takes it away again,
 * also after Ctrl-C. Where systemd runs, the service is also kept from starting at the next boot.
 */
const APT_INSTALL = `
set -e
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq redis-server
if [ -d /run/systemd/system ]; then systemctl disable --now redis-server; fi
`;

/** The first package manager found is used. brew refuses to run as root, the others need it. */
const PACKAGE_MANAGERS = [
  { command: 'apt-get', script: APT_INSTALL, asRoot: true, byHand: 'sudo apt-get install redis-server' },
  { command: 'dnf', script: 'dnf install -y redis', asRoot: true, byHand: 'sudo dnf install redis' },
  { command: 'apk', script: 'apk add --no-cache redis', asRoot: true, byHand: 'sudo apk add redis' },
  { command: 'brew', script: 'brew install redis', asRoot: false, byHand: 'brew install redis' },
];

/** Says what is being done, on stderr: stdout belongs to the command that comes after. */
function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/** Ends the set-up with one line that says how to go on. */
function giveUp(text) {
  say(text);
  process.exit(1);
}

/** Runs a command with its output on stderr and nothing to read; true when it ended well. */
function run(command, args) {
  return spawnSync(command, args, { stdio: ['ignore', 2, 2] }).status === 0;
}

/** The path of an executable on PATH, or undefined. */
function findOnPath(name) {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** When the file changed, in ms since 1970; 0 when it is not there. */
function changedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/**
 * True when node_modules holds what package-lock.json asks for. npm leaves a record of what it installed in
 * node_modules/.package-lock.json; versions are compared, since a checkout gives files any time it likes.
 */
function packagesInstalled() {
  try {
    const wanted = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages;
    const installed = JSON.parse(readFileSync('node_modules/.package-lock.json', 'utf8')).packages;
    return Object.entries(wanted).every(
      // '' is this project; optional packages are the builds for other systems.
      ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
    );
  } catch {
    return false;
  }
}

function ensurePackages() {
  if (packagesInstalled()) return;
  say('installing packages (npm ci)');
  if (!run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund'])) giveUp('npm ci failed, see above');
}

function ensureRedisServer() {
  const chosen = process.env.REDIS_SERVER;
  if (chosen) {
    if (spawnSync(chosen, ['--version'], { stdio: 'ignore' }).status === 0) return;
    giveUp(`REDIS_SERVER is ${chosen}, which does not start: unset it, or set it to a redis-server`);
  }
  if (findOnPath('redis-server')) return;

  const manager = PACKAGE_MANAGERS.find(({ command }) => findOnPath(command));
  const byHand = manager?.byHand ?? 'install redis-server';
  const isRoot = process.getuid?.() === 0;
  if (!manager || manager.asRoot !== isRoot) {
    giveUp(`redis-server was not found: ${byHand}, or set REDIS_SERVER=/path/to/redis-server`);
  }
  say(`installing redis-server (${manager.command})`);
  if (!run('sh', ['-c', manager.script]) || !findOnPath('redis-server')) {
    giveUp(
      `${manager.command} could not install redis-server: ${byHand}, or set REDIS_SERVER=/path/to/redis-server`,
    );
  }
}

/** True when every source is older than the build. Folders count too: they tell of removed files. */
function buildIsFresh() {
  const builtAt = changedAt('dist/cli/main.js');
  const sources = readdirSync('src', { recursive: true }).map((name) => join('src', name));
  return ['src', ...sources, 'tsconfig.json', 'tsconfig.build.json', 'scripts/bundle.mjs'].every(
    (path) => changedAt(path) < builtAt,
  );
}

function ensureBuild() {
  if (buildIsFresh()) return;
  say('building (npm run build)');
  if (run('npm', ['run', '--silent', 'build'])) return;
  // What was written before it failed must not pass for a build next time.
  rmSync('dist', { recursive: true, force: true });
  giveUp('the build failed, see above');
}

ensurePackages();
ensureRedisServer();
ensureBuild();
