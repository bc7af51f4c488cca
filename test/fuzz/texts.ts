/** Under the fuzzer: short texts. Lines of the handshake, journal and run.json, checkpoint, INFO, host list, URI. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseUri } from '../../src/cli/uri.ts';
import { ServerInfo } from '../../src/client/server-info.ts';
import { CheckpointError, UsageError } from '../../src/core/errors.ts';
import type { RunOptions } from '../../src/core/options.ts';
import { parseHostList } from '../../src/fleet/host-list.ts';
import { meetings } from '../../src/fleet/pair-entries.ts';
import { type JournalEntry, RunFolder } from '../../src/migrate/run-folder.ts';
import {
  judgePsync,
  judgeStep,
  judgeSyncError,
  type PsyncOutcome,
  parseFraming,
  type StepOutcome,
} from '../../src/source/handshake.ts';
import { checkpointFields, parseCheckpoint } from '../../src/target/write/checkpoint.ts';
import { assertShown, classed, classedError, type Subject } from './subject.ts';

const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');

const TOKENS = [
  ...[
    '\r\n',
    '\n',
    '\u0000',
    '\u001b[2J',
    '\u009b',
    ' ',
    '  ',
    '-',
    '+',
    ':',
    '@',
    '%',
    '%zz',
    '#',
    '/',
    '?',
    '[',
    ']',
  ],
  ...[
    '-1',
    '2147483648',
    '4294967296',
    '9007199254740993',
    '9223372036854775807',
    '18446744073709551615',
    '1e400',
  ],
  ...['null', '{}', '[]', '""', '{', '}', ',', '"', 'NaN', '0x10', '\u00e2\u0080\u00ae'],
].map(ascii);

const REPLID = '8d1f'.repeat(10);

function checkLine(input: Buffer): void {
  const line = input.toString('latin1');
  for (const kind of ['auth', 'ping', 'option'] as const) {
    assertOutcome(judgeStep({ words: ['AUTH', 'user', 'password'], kind }, line));
  }
  const asked = judgePsync(line);
  assertOutcome(asked);
  if (asked.kind === 'full-resync') assert.ok(Number.isSafeInteger(asked.position.offset));
  assertOutcome(judgeSyncError(line));
  const framing = parseFraming(line);
  if (framing?.kind === 'length')
    assert.ok(Number.isSafeInteger(framing.bytes), 'a length that is not exact');
  if (framing?.kind === 'mark') assert.equal(framing.mark.length, 40);
}

function assertOutcome(outcome: StepOutcome | PsyncOutcome): void {
  if (outcome.kind === 'stop') {
    assertShown(outcome.error.message);
    assertShown(outcome.error.hint);
  } else if ('reason' in outcome) {
    assertShown(outcome.reason);
  }
}

export const HANDSHAKE: Subject = {
  name: 'handshake',
  seeds: [
    `+FULLRESYNC ${REPLID} 12345`,
    '+CONTINUE',
    `+CONTINUE ${REPLID}`,
    `$EOF:${'0123456789'.repeat(4)}`,
    '$1234567890123456',
    "-NOMASTERLINK Can't SYNC while not connected with my master",
    "-ERR unknown command 'PSYNC', with args beginning with: 'x' 'secret' ",
    "-ERR Error in ACL SETUSER modifier '>secret': Syntax error",
    '-NOAUTH Authentication required.',
    "-NOPERM this user has no permissions to run the 'psync' command",
    '-LOADING Redis is loading the dataset in memory',
    '+PONG',
    '-DENIED Redis is running in protected mode',
  ].map(ascii),
  tokens: TOKENS,
  cases: 6000,
  check: checkLine,
};

let madeScratch: string | null = null;

/** A folder that goes with this process. */
function scratch(): string {
  if (madeScratch !== null) return madeScratch;
  const dir = mkdtempSync(join(tmpdir(), 'cutover-fuzz-runs-'));
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  madeScratch = dir;
  return dir;
}

const ENDPOINT = { host: 'h', port: 1, username: null, password: null, tls: null };
const ENTRIES: readonly JournalEntry[] = [
  { kind: 'phase', pair: 'p', data: { to: 'stream' } },
  { kind: 'fence', pair: 'p', data: { user: 'r\u00e9dis', list: ['+@all', '-@write'] } },
  { kind: 'lease', pair: 'p', data: null },
  { kind: 'phase', pair: 'p', data: { to: 'in-sync' } },
];

/** The bytes of the two files of a run with some history. */
async function runFiles(): Promise<{ readonly journal: Buffer; readonly run: Buffer }> {
  const dir = mkdtempSync(join(scratch(), 'seed-'));
  const folder = await RunFolder.create(
    dir,
    'r1',
    [{ name: 'p', source: ENDPOINT, target: ENDPOINT }],
    // which options there are is not looked at when a folder is opened
    { feed: 'auto', cutover: 'ask', runDir: dir } as RunOptions,
  );
  for (const entry of ENTRIES) await folder.append(entry);
  await folder.close();
  return { journal: readFileSync(join(dir, 'journal.ndjson')), run: readFileSync(join(dir, 'run.json')) };
}

/** Opens a folder with these files; null where it is refused as it should be. */
async function opened(run: Buffer, journal: Buffer): Promise<RunFolder | null> {
  writeFileSync(join(scratch(), 'run.json'), run);
  writeFileSync(join(scratch(), 'journal.ndjson'), journal);
  try {
    return await RunFolder.open(scratch());
  } catch (error) {
    classed(CheckpointError, error);
    return null;
  }
}

export async function journalSubject(): Promise<Subject> {
  const { journal, run } = await runFiles();
  const known = new Set(ENTRIES.map((entry) => JSON.stringify(entry)));
  return {
    name: 'journal',
    seeds: [journal],
    tokens: [...TOKENS, ascii('{"sum":"00000000",'), ascii('{"sum":"00000000","kind":1}\n')],
    cases: 300,
    check: async (input) => {
      const folder = await opened(run, input);
      if (folder === null) return;
      try {
        const entries = await folder.readJournal();
        for (const entry of entries) assert.ok(known.has(JSON.stringify(entry)), 'a line that nobody wrote');
        // what was torn is gone: the next line does not become its tail
        await folder.append(ENTRIES[0]!);
        assert.deepEqual(await folder.readJournal(), [...entries, ENTRIES[0]]);
      } finally {
        await folder.close();
      }
    },
  };
}

export async function runFileSubject(): Promise<Subject> {
  const { journal, run } = await runFiles();
  return {
    name: 'run-file',
    seeds: [run],
    tokens: TOKENS,
    cases: 300,
    check: async (input) => {
      const folder = await opened(input, journal);
      if (folder === null) return;
      await folder.close();
      const { runId, pairs, options } = folder.run;
      assert.equal(typeof runId, 'string');
      assert.ok(options !== null && typeof options === 'object');
      for (const { name, source, target } of pairs) {
        assert.equal(typeof name, 'string');
        for (const { host, port, username, tls } of [source, target]) {
          assert.equal(typeof host, 'string');
          assert.ok(Number.isInteger(port));
          assert.ok(username === null || typeof username === 'string');
          assert.equal(typeof tls, 'object');
        }
      }
    },
  };
}

export const CHECKPOINT: Subject = {
  name: 'checkpoint',
  seeds: [
    checkpointFields({ replid: REPLID, offset: 12345, db: 3, run: 'run', phase: 'stream' }).join('\n'),
    checkpointFields({ replid: REPLID, offset: 0, db: 0, run: '', phase: 'snapshot' }).join('\n'),
  ].map(ascii),
  tokens: TOKENS,
  cases: 4000,
  check: (input) => {
    const words = input.toString('latin1').split('\n');
    for (const reply of [words, Object.fromEntries(words.map((word, i) => [word, words[i + 1]]))]) {
      classedError(CheckpointError, () => {
        const found = parseCheckpoint(reply);
        if (found === null) return;
        assert.match(found.replid, /^[0-9a-f]{40}$/i);
        assert.ok(Number.isSafeInteger(found.offset) && found.offset >= 0, `offset ${found.offset}`);
        assert.ok(Number.isSafeInteger(found.db) && found.db >= 0, `db ${found.db}`);
      });
    }
  },
};

export const INFO: Subject = {
  name: 'info',
  seeds: [
    [
      '# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.1.0\r\nrun_id:0123\r\nexecutable:/usr/bin/keydb-server',
      'role:slave\r\nmaster_link_status:up\r\nslave_repl_offset:12\r\nmaster_repl_offset:15\r\nconnected_slaves:1',
      'used_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nloading:0\r\ncluster_enabled:0',
      '# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\ndb15:keys=20,expires=3,avg_ttl=77,subexpiry=0\r\n',
    ].join('\r\n'),
  ].map(ascii),
  tokens: TOKENS,
  cases: 4000,
  check: (input) => {
    const info = ServerInfo.parse(input.toString('latin1'));
    const { usedMemory, maxmemory, masterReplOffset, connectedReplicas, commandLevel, keyspace } = info;
    const counts = keyspace.flatMap(({ db, keys, expires, averageTtlMs }) => [
      db,
      keys,
      expires,
      averageTtlMs,
    ]);
    for (const value of [
      usedMemory,
      maxmemory,
      masterReplOffset,
      connectedReplicas,
      ...commandLevel,
      ...counts,
    ]) {
      assert.ok(value === null || Number.isFinite(value), `${value} as a number`);
    }
    assert.equal(typeof info.family + typeof info.version, 'stringstring');
    assert.ok(info.runId === null || info.runId.length > 0);
  },
};

const HOST_LIST = [
  '# comment',
  'redis://old1:6379 redis://new1:6379 first',
  'redis://user:S3cret@old2 rediss://new2:7000 # comment',
  '',
  '[::1]:1 [::1]:2 third wave-2',
].join('\n');

const HOSTS_CSV =
  'name,source,target,wave,auth,feed\n"a ""b""",redis://user:S3cret@old,new,1,env:A,write\nb;old2,new2,,,\n';
const HOSTS_YAML =
  '- {source: old, target: new, auth: "file:/a"}\n- source: redis://user:S3cret@old2\n  target: &n new2\n  wave: one\n- *n\n';
const HOSTS_NDJSON =
  '{"source":"old","target":"new","wave":1,"flush_target":true}\n{"source":"redis://user:S3cret@h","target":null}\n';

export const HOSTS: Subject = {
  name: 'host-list',
  seeds: [HOST_LIST, HOSTS_CSV, HOSTS_YAML, HOSTS_NDJSON].map(ascii),
  tokens: TOKENS,
  cases: 3000,
  check: (input) => {
    for (const file of ['hosts', 'hosts.csv', 'hosts.yaml', 'hosts.ndjson']) {
      const { entries, faults } = parseHostList(input.toString('utf8'), file, ['feed'], parseUri);
      for (const fault of faults) assertShown(fault);
      if (faults.length > 0 || meetings(entries).length > 0) continue;
      for (const { name, source, target } of entries) {
        if (name !== null) assertShown(name);
        assert.notEqual(`${source.host} ${source.port}`, `${target.host} ${target.port}`);
      }
    }
  },
};

export const URI: Subject = {
  name: 'uri',
  seeds: ['redis://user:p%40ss@host.example:6380/0', 'rediss://:p@[2001:db8::1]:7/', '[::1]:7', 'host'].map(
    ascii,
  ),
  tokens: TOKENS,
  cases: 6000,
  check: (input) => {
    classedError(UsageError, () => {
      const { host, port } = parseUri(input.toString('utf8'), '--src');
      assertShown(host);
      assert.ok(host !== '' && Number.isInteger(port) && port > 0 && port < 65536);
    });
  },
};
