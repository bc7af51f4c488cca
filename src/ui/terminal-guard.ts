/**
 * Gives the terminal back, however the process ends or stops: exit, uncaught error, SIGINT, SIGTERM, SIGHUP,
 * Ctrl-Z. The live view (hidden cursor) and the operator (raw mode) register here.
 */

/** Both functions may be called at any time and more than once. */
export interface TerminalUser {
  /** Puts the terminal into the state in which the shell expects it. */
  restore(): void;
  /** Takes it again after the process was stopped and continued. */
  reapply(): void;
}

const FATAL = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const users = new Set<TerminalUser>();
/** False from a stop on until the terminal was taken again. */
let continued = true;

/** From now on `user` is restored in time; the returned function ends that. */
export function guardTerminal(user: TerminalUser): () => void {
  if (users.size === 0) listen();
  users.add(user);
  return () => {
    users.delete(user);
    if (users.size === 0) unlisten();
  };
}

/** What Ctrl-Z does outside raw mode: stops the whole foreground group, so that the shell gets its terminal back. */
export function stopLikeCtrlZ(): void {
  stop(0);
}

function listen(): void {
  process.on('exit', restoreAll);
  // before the error is printed, or it lands inside the table
  process.on('uncaughtExceptionMonitor', restoreAll);
  for (const signal of FATAL) process.on(signal, onFatal);
  process.on('SIGTSTP', onStop);
  process.on('SIGCONT', onContinue);
}

function unlisten(): void {
  process.off('exit', restoreAll);
  process.off('uncaughtExceptionMonitor', restoreAll);
  for (const signal of FATAL) process.off(signal, onFatal);
  process.off('SIGTSTP', onStop);
  process.off('SIGCONT', onContinue);
}

function restoreAll(): void {
  for (const user of users) user.restore();
}

/** Our listener took the signal's default away; where nobody else handles it, the process must still die of it. */
function onFatal(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  restoreAll();
  process.off(signal, onFatal);
  process.kill(process.pid, signal);
}

function onStop(): void {
  stop(process.pid);
}

function stop(pid: number): void {
  restoreAll();
  process.off('SIGTSTP', onStop);
  process.kill(pid, 'SIGTSTP');
  // The kernel ignores SIGTSTP where no shell could continue us (an orphaned group): then no SIGCONT comes, and
  // this takes the terminal back. Where we did stop, SIGCONT is handled between the timer and the immediate.
  continued = false;
  setTimeout(() => {
    setImmediate(() => {
      if (!continued) onContinue();
    });
  }, 100);
}

function onContinue(): void {
  continued = true;
  if (users.size === 0) return;
  if (!process.listeners('SIGTSTP').includes(onStop)) process.on('SIGTSTP', onStop);
  for (const user of users) user.reapply();
}
