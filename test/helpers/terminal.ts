/**
 * A real terminal for tests: a tmux of our own, keys sent to it, its screen read back. The shell is plain sh: bash
 * would put terminal modes right by itself, and hide what a program left behind.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cleanup } from './server.ts';

const SHOWN_TIMEOUT_MS = 20_000;

/** For `test(name, terminalOptions, …)`: skipped, with the reason, where there is no tmux. */
export const terminalOptions: { readonly skip?: string } = ['tmux', 'sh'].some(
  (program) => spawnSync(program, ['-c', ':'], { stdio: 'ignore' }).error,
)
  ? { skip: 'needs tmux and sh' }
  : {};

/** 80 columns, 24 rows, one shell, from the first start() on; ended with the test. */
export class Terminal {
  readonly #folder = mkdtempSync(join(tmpdir(), 'redis-cutover-pty-'));
  #running = false;
  #marks = 0;

  constructor(t: Cleanup) {
    t.after(() => {
      if (this.#running) this.tmux('kill-server');
      rmSync(this.#folder, { recursive: true, force: true });
    });
  }

  /** Any tmux command, on a server of its own, so that nobody else's session is touched. */
  tmux(...args: string[]): string {
    const socket = join(this.#folder, 'socket');
    return execFileSync('tmux', ['-S', socket, '-f', '/dev/null', ...args], { encoding: 'utf8' });
  }

  /** Keys by tmux' names: `Enter`, `C-c`, `x`. */
  keys(...names: string[]): void {
    this.tmux('send-keys', ...names);
  }

  type(text: string): void {
    this.tmux('send-keys', '-l', '--', text);
  }

  /** What can be seen now. */
  visible(): string {
    return this.tmux('capture-pane', '-p');
  }

  /** The screen with what scrolled off it. */
  screen(): string {
    return this.tmux('capture-pane', '-p', '-S', '-');
  }

  /** Waits until screen() matches, and returns it. */
  async shown(pattern: RegExp): Promise<string> {
    for (let waited = 0; ; waited += 50) {
      const text = this.screen();
      if (pattern.test(text)) return text;
      assert.ok(waited < SHOWN_TIMEOUT_MS, `never saw ${pattern} on:\n${text}`);
      await sleep(50);
    }
  }

  /** A fresh shell on an empty screen that starts `command`. */
  async start(command: string): Promise<void> {
    if (this.#running) this.tmux('respawn-pane', '-k');
    else this.tmux('new-session', '-d', '-x', '80', '-y', '24', 'env -u NO_COLOR -u ENV PS1="ready> " sh -i');
    this.#running = true;
    this.tmux('resize-window', '-x', '80', '-y', '24');
    await this.shown(/ready> ?$/m);
    this.tmux('clear-history');
    this.type(`clear && ${command}`);
    this.keys('Enter');
  }

  /** Runs one command in the shell, and thereby proves that the shell has its terminal back. */
  async runInShell(command: string): Promise<string> {
    this.#marks += 1;
    await this.shown(/ready> ?$/m);
    this.type(`${command}; echo "mark"-${this.#marks}`);
    this.keys('Enter');
    const text = await this.shown(new RegExp(`^mark-${this.#marks}$`, 'm'));
    return text.slice(text.lastIndexOf(command));
  }

  /** Modes and cursor as a shell expects them. */
  async assertRestored(): Promise<void> {
    const text = await this.runInShell('stty -a');
    for (const flag of ['icanon', 'echo', 'isig', 'icrnl'])
      assert.match(text, new RegExp(`(?<!-)\\b${flag}\\b`));
    assert.equal(this.tmux('display-message', '-p', '#{cursor_flag}').trim(), '1', 'the cursor is hidden');
  }
}
