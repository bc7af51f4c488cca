/** The other end of control-server.ts: asks the session that works in a run folder one thing. */
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { EXIT, SourceError, UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { readRunFolder } from '../migrate/run-folder.ts';
import type { ControlAnswer, ControlRequest } from './control-messages.ts';
import { CONTROL_FILE } from './control-server.ts';

/**
 * Sends one request and waits for the answer, a cutover's as long as that takes.
 *
 * @param dir absolute path of the run folder
 * @throws UsageError `run-dir` where there is no run; SourceError `no-session` where no session works in it, or none
 *   that this user may ask, `no-answer` where it ended meanwhile; CheckpointError `run-dir-damaged`
 */
export async function askSession(dir: string, request: ControlRequest): Promise<ControlAnswer> {
  const socket = await connected(dir).catch((error: unknown) => {
    throw noSession(dir, error);
  });
  try {
    socket.write(`${JSON.stringify(request)}\n`);
    let text = '';
    for await (const chunk of socket.setEncoding('utf8') as AsyncIterable<string>) {
      text += chunk;
      if (chunk.includes('\n')) return JSON.parse(text) as ControlAnswer;
    }
  } catch (cause) {
    throw noAnswer(dir, request, cause);
  } finally {
    socket.destroy();
  }
  throw noAnswer(dir, request);
}

/** @throws where there is none, or it is not ours */
async function connected(dir: string): Promise<Socket> {
  const { socket: path } = JSON.parse(await readFile(join(dir, CONTROL_FILE), 'utf8')) as { socket: unknown };
  if (typeof path !== 'string') throw new TypeError(`${CONTROL_FILE} names no socket`);
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.once('error', reject);
  });
}

function noSession(dir: string, cause: unknown): UsageError | SourceError {
  if (readRunFolder(dir) === null) {
    return new UsageError(`there is no run in ${printable(dir)}`, {
      code: 'run-dir',
      hint: 'give the folder that the run printed when it began',
    });
  }
  const forbidden = (cause as NodeJS.ErrnoException).code === 'EACCES';
  const where = printable(dir, 1000);
  return new SourceError(
    forbidden ? `the session in ${where} is another user's` : `no session works in ${where}`,
    {
      code: 'no-session',
      hint: forbidden
        ? 'ask it as the user that runs it'
        : `it has not begun, or is over; to go on with a run that was cut off: redis-cutover resume ${where}`,
      recovery: 'none',
      cause,
    },
  );
}

function noAnswer(dir: string, { kind }: ControlRequest, cause?: unknown): SourceError {
  return new SourceError(`the session in ${printable(dir, 1000)} gave no answer`, {
    code: 'no-answer',
    hint:
      kind !== 'cutover'
        ? 'it has ended, or too many ask it at the same time: try once more'
        : 'it may have cut over all the same: redis-cutover status, or the report in the run folder, says so',
    recovery: 'none',
    exitCode: kind !== 'cutover' ? EXIT.failed : EXIT.attention,
    cause,
  });
}
