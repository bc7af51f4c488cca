/**
 * `npm run fuzz [-- --minutes 5 --seed S --only rdb,stream]`: parsers are fed with damaged captures until the time is
 * up. A parser must end well or throw an error of its class; the same for every way in which the bytes are cut; never
 * hang, nor allocate what a length merely claims. The first case that breaks a rule is kept in a file:
 *
 *     npm run fuzz -- --only rdb --input FILE      that case again
 *     npm run fuzz -- --cases 1                    as `npm test` runs it, so many times as many cases
 *
 * The cases run in a process of their own, which writes each one to the file before it begins: what hangs or runs out
 * of memory leaves its input there, too. Next to read: subject.ts.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asRound } from '../bench/round.ts';
import { mutated, Random } from './mutate.ts';
import { containersSubject, elementsSubject, rdbSubject, rdbWriterSubject } from './rdb.ts';
import { rdbSeeds, streamSeeds } from './seeds.ts';
import type { Subject } from './subject.ts';
import { CHECKPOINT, HANDSHAKE, HOSTS, INFO, journalSubject, runFileSubject, URI } from './texts.ts';
import { DIALOGUE, REPLIES, streamSubject, streamWriterSubject } from './wire.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    only: { type: 'string' },
    cases: { type: 'string' },
    input: { type: 'string' },
    /** Set by this program for its second process: the file for the case in hand. */
    child: { type: 'string' },
  },
});

/** A case takes milliseconds; a machine that is busy may stand still for some seconds. */
const HANG_MS = 60_000;
/** Of the second process; what all seeds and V8 need is below 200 MB. */
const HEAP_MB = 512;
/** No parser needs a buffer above this, but for what the input itself holds, or its LZF makes of it. */
const FREE_BYTES = 3 << 20;
const BYTES_PER_INPUT_BYTE = 300;
/** For one subject, before the next has its turn. */
const TURN_MS = 100;

async function subjects(): Promise<Subject[]> {
  return asRound(async (t) => {
    const files = await rdbSeeds(t, Number(values.seed));
    const streams = await streamSeeds(t);
    const all = [
      rdbSubject(files),
      rdbWriterSubject(files),
      elementsSubject(files),
      containersSubject(files),
      streamSubject(streams),
      streamWriterSubject(streams),
      REPLIES,
      DIALOGUE,
      HANDSHAKE,
      await journalSubject(),
      await runFileSubject(),
      CHECKPOINT,
      INFO,
      HOSTS,
      URI,
    ];
    const wanted = values.only?.split(',');
    const chosen = all.filter(({ name }) => wanted === undefined || wanted.includes(name));
    if (chosen.length === 0) throw new Error(`--only takes ${all.map(({ name }) => name).join(', ')}`);
    return chosen;
  });
}

let mostBytes = Number.POSITIVE_INFINITY;

/** From now on a buffer above `mostBytes` is an error. */
function guardAllocations(): void {
  for (const name of ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const) {
    const allocate = Buffer[name].bind(Buffer);
    Buffer[name] = (size: number, ...rest: []) => {
      if (size > mostBytes) throw new Error(`a buffer of ${size} bytes, more than ${mostBytes}`);
      return allocate(size, ...rest);
    };
  }
}

async function checkOne(subject: Subject, input: Buffer): Promise<void> {
  mostBytes = FREE_BYTES + BYTES_PER_INPUT_BYTE * input.length;
  try {
    await subject.check(input);
  } finally {
    mostBytes = Number.POSITIVE_INFINITY;
  }
}

/** The second process: runs cases, the one in hand in `file`. */
async function runCases(file: string): Promise<void> {
  process.once('disconnect', () => process.exit(1));
  const chosen = await subjects();
  guardAllocations();
  if (values.input !== undefined) {
    for (const subject of chosen) await checkOne(subject, readFileSync(values.input));
    process.exit(0);
  }
  const out = openSync(file, 'w');
  const endAt = Date.now() + Number(values.minutes) * 60_000;
  const turns = chosen.map((subject) => ({
    subject,
    // a generator of its own: what is found comes again with --only
    random: new Random(Number(values.seed)),
    left:
      values.cases === undefined ? Number.POSITIVE_INFINITY : Math.ceil(subject.cases * Number(values.cases)),
    done: 0,
  }));
  const isOver = (): boolean =>
    values.cases === undefined ? Date.now() > endAt : turns.every(({ left }) => left === 0);
  while (!isOver()) {
    for (const turn of turns) {
      for (const turnEnd = Date.now() + TURN_MS; Date.now() < turnEnd && turn.left > 0; ) {
        const { subject, random } = turn;
        const input = mutated(subject.seeds, subject.tokens, random);
        ftruncateSync(out, 0);
        writeSync(out, input, 0, input.length, 0);
        turn.left--;
        turn.done++;
        try {
          await checkOne(subject, input);
        } catch (error) {
          console.error(`fuzz: ${subject.name}, case ${turn.done}:`, error);
          process.exit(1);
        }
      }
      process.send?.(turn.subject.name);
      // lets the message go, and hears it when the first process has ended
      await setImmediate();
    }
  }
  closeSync(out);
  const { maxRSS } = process.resourceUsage();
  const counts = turns.map(({ subject, done }) => `${subject.name} ${done}`);
  console.log(
    `fuzz: no rule broken; cases: ${counts.join(', ')}; most memory ${Math.round(maxRSS / 1024)} MB`,
  );
  // not by itself: the way to the first process is open
  process.exit(0);
}

/** Runs the second process and watches over it; true where no rule was broken. */
async function watch(): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), 'cutover-fuzz-case-'));
  const file = join(dir, 'input');
  console.log(`fuzz: seed ${values.seed}`);
  let subject = values.only ?? 'the first';
  let heardAt = Date.now();
  let hung = false;
  const child = spawn(
    process.execPath,
    [
      ...[`--max-old-space-size=${HEAP_MB}`, '--import', 'tsx', fileURLToPath(import.meta.url)],
      ...process.argv.slice(2),
      ...['--seed', values.seed, '--child', file],
    ],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  child.on('message', (name) => {
    subject = String(name);
    heardAt = Date.now();
  });
  const timer = setInterval(() => {
    // a turn of many cases is one message: the file tells of each
    const writtenAt = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (Date.now() - Math.max(heardAt, writtenAt) < HANG_MS) return;
    hung = true;
    child.kill('SIGKILL');
  }, 1000);
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  clearInterval(timer);
  if (code === 0) {
    rmSync(dir, { recursive: true });
    return true;
  }
  if (hung) console.error(`fuzz: a case hangs; the last turn that ended was that of ${subject}`);
  if (values.input === undefined && statSync(file, { throwIfNoEntry: false }) !== undefined) {
    const kept = join(tmpdir(), `cutover-fuzz-${values.seed}-${process.pid}.bin`);
    copyFileSync(file, kept);
    console.error(`fuzz: the input is kept in ${kept}; again: npm run fuzz -- --only NAME --input ${kept}`);
  }
  rmSync(dir, { recursive: true });
  return false;
}

if (values.child !== undefined) await runCases(values.child);
else process.exitCode = (await watch()) ? 0 : 1;
