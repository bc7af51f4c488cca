/** Settings of the source that are changed for a run: journal first, put back only what is still ours. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ReplyError } from '../../../src/client/reply-error.ts';
import type { ServerSession } from '../../../src/client/session.ts';
import { SourceError } from '../../../src/core/errors.ts';
import { leftoversOf } from '../../../src/migrate/leftovers.ts';
import { configLine, propose, SourceTuning, type TunedSetting } from '../../../src/migrate/source-tuning.ts';

const BUFFER = 'client-output-buffer-limit';

/** A source that keeps settings, and what was said and noted, in the order in which it was. */
class Scene {
  readonly config: Map<string, string>;
  readonly log: string[] = [];
  readonly journal: { kind: string; pair: string; data: unknown }[] = [];
  /** What CONFIG is answered; null: as it should be. */
  failing: Error | null = null;

  constructor(config: Record<string, string>) {
    this.config = new Map(Object.entries(config));
  }

  tuning(left: readonly TunedSetting[] = []): SourceTuning {
    const source = { call: async (...words: string[]) => this.#call(words) } as unknown as ServerSession;
    return new SourceTuning(
      {
        source,
        journal: async (kind, data = null) => {
          this.journal.push({ kind, pair: 'a', data });
          this.log.push(`journal ${kind}`);
        },
        note: (message) => void this.log.push(`note ${message}`),
        remember: (...notes) => void this.log.push(...notes.map((note) => `summary ${note}`)),
      },
      left,
    );
  }

  get left(): readonly TunedSetting[] {
    return leftoversOf(this.journal, 'a').tuned;
  }

  #call([command, verb, name = '', value = '']: string[]): unknown {
    assert.equal(command, 'CONFIG');
    if (this.failing !== null && (verb === 'SET' || !(this.failing instanceof ReplyError)))
      throw this.failing;
    if (verb === 'GET') return this.config.has(name) ? [name, this.config.get(name)] : [];
    this.log.push(`set ${name} ${value}`);
    // one class is set, and the others stay
    const [first = ''] = value.split(' ');
    const merged = this.config.get(name)?.replace(new RegExp(`${first} \\d+ \\d+ \\d+`), value);
    this.config.set(name, name === BUFFER ? (merged ?? value) : value);
    return 'OK';
  }
}

const proposals = [
  propose('output-buffer', 'slave 9 8 7').proposal,
  propose('backlog', '4096').proposal,
  propose('compression', 'no').proposal,
];
const STANDARD = {
  [BUFFER]: 'normal 0 0 0 slave 3 2 1 pubsub 4 4 4',
  'repl-backlog-size': '1024',
  rdbcompression: 'yes',
};
const denied = new ReplyError(
  'CONFIG',
  'source a:1',
  "NOPERM this user has no permissions to run 'config|set'",
);

describe('settings of the source', () => {
  it('stand in the journal before they are set, and are put back when nothing needs them any more', async () => {
    const scene = new Scene(STANDARD);
    const tuning = scene.tuning();
    await tuning.set(proposals, true);
    assert.deepEqual(scene.log.slice(0, 3), [
      'journal tuned',
      `set ${BUFFER} slave 9 8 7`,
      `note on the source, for the run, ${BUFFER}: was slave 3 2 1, set to slave 9 8 7`,
    ]);
    assert.equal(scene.config.get(BUFFER), 'normal 0 0 0 slave 9 8 7 pubsub 4 4 4');
    assert.deepEqual(
      scene.left.map(({ tuning: name }) => name),
      ['output-buffer', 'backlog', 'compression'],
    );
    await tuning.copyMade();
    assert.equal(scene.config.get('rdbcompression'), 'yes');
    assert.equal(scene.config.get('repl-backlog-size'), '4096', 'needed until the end');
    await tuning.end();
    assert.deepEqual(Object.fromEntries(scene.config), STANDARD);
    assert.deepEqual(scene.left, []);
    const written = scene.log.length;
    await tuning.end();
    assert.equal(scene.log.length, written, 'a second end has nothing to do');
  });

  it('for a copy are not set where none is due', async () => {
    const scene = new Scene(STANDARD);
    await scene.tuning().set(proposals, false);
    assert.equal(scene.config.get('rdbcompression'), 'yes');
    assert.equal(scene.config.get('repl-backlog-size'), '4096');
  });

  it('are left to somebody else who has changed them meanwhile, and that is said', async () => {
    const scene = new Scene(STANDARD);
    const tuning = scene.tuning();
    await tuning.set(proposals, true);
    scene.config.set('repl-backlog-size', '5555');
    scene.config.set('rdbcompression', 'yes');
    await tuning.end();
    assert.equal(scene.config.get('repl-backlog-size'), '5555');
    assert.ok(scene.log.some((line) => /^summary repl-backlog-size .*5555 by somebody else/.test(line)));
    assert.ok(
      !scene.log.some((line) => /^summary rdbcompression/.test(line)),
      'put back by somebody: no news',
    );
    assert.deepEqual(scene.left, []);
  });

  it('of an earlier process are put back to what they were before it', async () => {
    const scene = new Scene(STANDARD);
    await scene.tuning().set(proposals, true);
    const later = scene.tuning(scene.left);
    await later.set([propose('backlog', '8192').proposal], true);
    assert.equal(scene.config.get('repl-backlog-size'), '4096', 'the first value of before is kept');
    await later.end();
    assert.deepEqual(Object.fromEntries(scene.config), STANDARD);
  });

  it('that the source refuses are named with the line to type, and nothing is left to put back', async () => {
    const scene = new Scene(STANDARD);
    scene.failing = denied;
    const tuning = scene.tuning();
    await tuning.set(proposals, true);
    assert.ok(scene.log.some((line) => /^summary .*CONFIG SET repl-backlog-size 4096$/.test(line)));
    assert.deepEqual(scene.left, []);
    scene.failing = null;
    await tuning.end();
    assert.deepEqual(Object.fromEntries(scene.config), STANDARD);
  });

  it('that cannot be put back: all are tried, the end fails, and says what to type', async () => {
    const scene = new Scene(STANDARD);
    const tuning = scene.tuning();
    await tuning.set(proposals, true);
    scene.failing = new SourceError('gone', { code: 'source-closed', hint: 'is it up?' });
    await tuning.copyMade();
    assert.ok(!scene.log.some((line) => line.startsWith('summary')), 'the end tries again');
    await assert.rejects(tuning.end(), { code: 'source-closed' });
    assert.equal(scene.log.filter((line) => /^summary .* on the source: CONFIG SET/.test(line)).length, 3);
    assert.equal(scene.left.length, 3);
    scene.failing = null;
    await tuning.end();
    assert.deepEqual(Object.fromEntries(scene.config), STANDARD);
  });

  it('that the source does not have, or has already so, are not touched', async () => {
    const scene = new Scene({ 'repl-backlog-size': '4096' });
    await scene.tuning().set(proposals, true);
    assert.deepEqual(scene.log, []);
  });
});

it('a line to type is quoted where it has blanks, and safe to show', () => {
  assert.equal(configLine('rdbcompression', 'no'), 'CONFIG SET rdbcompression no');
  assert.equal(configLine(BUFFER, 'replica 1 2 3'), `CONFIG SET ${BUFFER} "replica 1 2 3"`);
  assert.equal(configLine('x', 'a\x1b[2J'), 'CONFIG SET x "a\\x1b[2J"');
});
