/** Signals of the real process: the first asks the session to stop, a second Ctrl-C ends at once. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

const WIRING = new URL('../../../src/cli/wiring.ts', import.meta.url).href;

/** Starts a session that says `ready`, and `aborted` once it is asked to stop; `ending` says what it does then. */
function start(ending: 'return' | 'throw' | 'hang') {
  const script = `
    const { inSession } = await import(${JSON.stringify(WIRING)});
    process.exitCode = await inSession({ json: true }, 'never', ({ renderer, signal }) => new Promise((resolve, reject) => {
      const alive = setInterval(() => {}, 1000);
      signal.addEventListener('abort', () => {
        renderer.event({ event: 'note', message: 'aborted' });
        if (${JSON.stringify(ending)} === 'hang') return;
        clearInterval(alive);
        if (${JSON.stringify(ending)} === 'throw') reject(signal.reason);
        else resolve(6);
      });
      renderer.event({ event: 'note', message: 'ready' });
    }));`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', script];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const shown = async (text: string): Promise<void> => {
    while (!output.includes(text)) await once(child.stdout, 'data');
  };
  return { child, shown, output: () => output };
}

async function exitOf(child: ChildProcess): Promise<unknown> {
  const [code] = await once(child, 'close');
  return code;
}

test('SIGINT, SIGTERM and SIGHUP ask the session to stop; its exit code counts', async () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const { child, shown } = start('return');
    await shown('ready');
    child.kill(signal);
    assert.equal(await exitOf(child), 6, signal);
  }
});

test('a session that ends with an AbortError exits 130 with a summary', async () => {
  const { child, shown, output } = start('throw');
  await shown('ready');
  child.kill('SIGINT');
  assert.equal(await exitOf(child), 130);
  assert.match(output(), /"event":"summary","outcome":"interrupted","exitCode":130/);
});

test('a second Ctrl-C ends a session that hangs', async () => {
  const { child, shown } = start('hang');
  await shown('ready');
  child.kill('SIGINT');
  await shown('aborted');
  child.kill('SIGINT');
  assert.equal(await exitOf(child), 130);
});
