/**
 * What an error reply of the target means. The only place that looks at the text of replies; everybody else
 * branches on the verdict. protocol.md 2.3 (errors on replay), 4.1.
 */

export type ReplyVerdict =
  /** The target cannot take it now: pause, then send the same again. */
  | 'retry'
  /** The target can never take it: stop, a person must decide. */
  | 'fatal';

/** Conditions that pass by themselves or by an operator's hand on the target. */
const RETRYABLE = new Set([
  'OOM',
  'LOADING',
  'READONLY',
  'BUSY',
  'MISCONF',
  'NOREPLICAS',
  'CLUSTERDOWN',
  'TRYAGAIN',
  'MASTERDOWN',
]);

/** First word of an error line: `OOM`, `WRONGTYPE`, `ERR`, … */
export function errorPrefix(line: string): string {
  return /^[A-Z][A-Z0-9_-]*(?= |$)/.exec(line)?.[0] ?? 'ERR';
}

/** The server has no such command at all; all releases say it in these words (run on 2.8 to 8.2, Valkey 8.1 and 9.1). */
export function isUnknownCommand(line: string): boolean {
  return /^ERR unknown command\b/.test(line);
}

/** RESTORE: the value is damaged, or its type or module is not known (2.6 and later; run on 6.2 to 8.2, Valkey 8.1). */
export function isBadValue(line: string): boolean {
  return line === 'ERR Bad data format';
}

/** For the answer to a command of the snapshot, or to one that was being queued behind MULTI. */
export function judgeReply(line: string): ReplyVerdict {
  return RETRYABLE.has(errorPrefix(line)) ? 'retry' : 'fatal';
}

/**
 * For the answer to an EXEC as a whole. `queueError` is the first error at queueing, where there was one.
 * From 7.0 on the server names the reason: `EXECABORT Transaction discarded because of: OOM command not allowed…`.
 */
export function judgeExec(line: string, queueError: string | null): ReplyVerdict {
  if (queueError !== null) return judgeReply(queueError);
  const because = /^EXECABORT .*because of: (.*)$/.exec(line);
  // 4.0 and 5.0, where it became a replica behind MULTI
  if (/ now a read-only slave\. EXEC aborted/.test(line)) return 'retry';
  return judgeReply(because?.[1] ?? line);
}

/** A line for people on what to do about a condition that is being waited out. */
export function retryHint(line: string): string {
  switch (errorPrefix(line)) {
    case 'OOM':
      return 'the target is out of memory: CONFIG SET maxmemory higher, it goes on by itself';
    case 'READONLY':
      return 'the target is a replica now: make it a master again, it goes on by itself';
    case 'MISCONF':
      return 'the target cannot persist: see its log, or CONFIG SET stop-writes-on-bgsave-error no';
    case 'NOREPLICAS':
      return 'the target wants more replicas: see its min-replicas-to-write';
    default:
      return 'it goes on by itself as soon as the target takes writes again';
  }
}
