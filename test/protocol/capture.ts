/** Records what a real server sends to a replica behind the handshake: payload and stream, byte by byte. */
import { connect } from 'node:net';
import { RespConnection } from '../../src/resp/connection.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

export interface CaptureOptions {
  /** What the replica says it can do; without `eof` a server sends `$<length>`. */
  readonly capabilities: readonly string[];
  readonly diskless: boolean;
  readonly ask: 'PSYNC' | 'SYNC';
}

/** The captures that the tests of the link are fed with: both framings, with and without capabilities, and SYNC. */
export const CAPTURES = {
  'diskless, to its mark': { capabilities: ['eof', 'psync2'], diskless: true, ask: 'PSYNC' },
  'from disk, with its length': { capabilities: ['eof', 'psync2'], diskless: false, ask: 'PSYNC' },
  'without capabilities': { capabilities: [], diskless: true, ask: 'PSYNC' },
  'behind SYNC': { capabilities: [], diskless: true, ask: 'SYNC' },
} as const satisfies Record<string, CaptureOptions>;

/**
 * Everything behind the replies to REPLCONF: keep-alives, the answer to PSYNC, the announcement, the RDB, the mark,
 * and a stream with SELECT, PING, MULTI/EXEC, SREM out of SPOP, SET PXAT and REPLCONF GETACK. `body` is what follows
 * the announcement.
 */
export async function captureWire(
  t: Cleanup,
  { capabilities, diskless, ask }: CaptureOptions,
): Promise<{ readonly whole: Buffer; readonly body: Buffer }> {
  const server = await testServer(t, {
    args: ['--repl-diskless-sync', diskless ? 'yes' : 'no', '--repl-ping-replica-period', '1'],
  });
  const client = await RespConnection.connect(server.port);
  await client.pipeline([
    ['SET', 'ttl', '1', 'PX', 3_600_000],
    ['ZADD', 'scores', '1.5', 'm'],
    ['SADD', 'set', 'a', 'b', 'c', '300000'],
    ['SELECT', 3],
    ['SET', 'in3', 'x'],
  ]);
  const socket = connect(server.port, '127.0.0.1');
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  for (const capability of capabilities) {
    socket.write(encodeCommand(['REPLCONF', 'capa', capability]));
    await until(() => bytes.includes('+OK\r\n'));
    bytes = Buffer.alloc(0);
  }
  socket.write(encodeCommand(ask === 'SYNC' ? ['SYNC'] : ['PSYNC', '?', '-1']));
  await until(() => loadedUpTo(bytes) !== null, { what: 'the end of the payload' });
  await client.pipeline([
    ['SELECT', 0],
    ['INCR', 'n'],
    ['SELECT', 3],
    ['SET', 'k', 'v', 'PX', 3_600_000],
    ['SELECT', 0],
    ['SPOP', 'set', 2],
    ['MULTI'],
    ['SET', 'a', '1'],
    ['INCR', 'n'],
    ['EXEC'],
    ['WAIT', 1, 10],
  ]);
  const acknowledgement = encodeCommand(['REPLCONF', 'ACK', '0']);
  const streamed = (): boolean => {
    // again and again, as replicas do: a server that has not seen the child behind the payload end does not hear it
    socket.write(acknowledgement);
    return bytes.includes('GETACK') && /ping\r\n$/i.test(bytes.toString('latin1'));
  };
  await until(streamed, { what: 'the stream' });
  socket.destroy();
  client.close();
  const announced = announcement(bytes)!;
  return { whole: bytes, body: bytes.subarray(announced.end) };
}

function announcement(bytes: Buffer): { readonly text: string; readonly end: number } | null {
  const match = /(?:^|\n)(\$[^\r\n]*)\r\n/.exec(bytes.toString('latin1'));
  return match === null ? null : { text: match[1]!, end: match.index + match[0].length };
}

/** Where the payload ends, once it is there: a server that waits for an ACK sends nothing behind its mark. */
function loadedUpTo(bytes: Buffer): number | null {
  const announced = announcement(bytes);
  if (announced === null) return null;
  const mark = /^\$EOF:(.{40})$/.exec(announced.text)?.[1];
  if (mark !== undefined)
    return bytes.subarray(announced.end).toString('latin1').endsWith(mark) ? bytes.length : null;
  const end = announced.end + Number(announced.text.slice(1));
  return bytes.length >= end ? end : null;
}
