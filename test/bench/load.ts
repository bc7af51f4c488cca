/**
 * Drives a server as hard as it goes: SETs of 100 B to random keys, eight connections, 256 commands in one request, the
 * next request when the last one is answered (as redis-benchmark does it with -P and -c). The commands lie ready as bytes,
 * in which only the keys are changed, so that the driver leaves the machine to those that are measured.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Values } from './data-sets.ts';

const CONNECTIONS = 8;
const PIPELINE = 256;
const VALUE_BYTES = 100;
const KEY_DIGITS = 9;
const OK = '+OK\r\n';

/** Resolves when `count` SETs have been answered. Throws when the server refuses one, or hangs up. */
export async function drive(port: number, count: number, values: Values): Promise<void> {
  let left = count;
  const take = (): number => {
    const commands = Math.min(PIPELINE, left);
    left -= commands;
    return commands;
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, () => driveOne(port, values, take)));
}

/** @param take how many commands the next request has; 0: no more */
async function driveOne(port: number, values: Values, take: () => number): Promise<void> {
  const head = Buffer.from(`*3\r\n$3\r\nSET\r\n$${4 + KEY_DIGITS}\r\nkey:`);
  const rest = (): Buffer =>
    Buffer.concat([Buffer.from(`\r\n$${VALUE_BYTES}\r\n`), values.noise(VALUE_BYTES), CRLF]);
  const commands = Array.from({ length: PIPELINE }, () => [head, Buffer.alloc(KEY_DIGITS), rest()]).flat();
  const request = Buffer.concat(commands);
  const commandBytes = request.length / PIPELINE;

  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(socket, 'connect');
  await new Promise<void>((resolve, reject) => {
    let awaited = 0;
    const send = (): void => {
      const count = take();
      if (count === 0) {
        resolve();
        return;
      }
      for (let i = 0; i < count; i++) writeKey(request, i * commandBytes + head.length, values);
      awaited = count * OK.length;
      socket.write(request.subarray(0, count * commandBytes));
    };
    socket.on('data', (replies) => {
      if (replies.includes(MINUS))
        reject(new Error(`a SET was refused: ${replies.toString('latin1', 0, 100)}`));
      awaited -= replies.length;
      if (awaited === 0) send();
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the server hung up')));
    send();
  }).finally(() => socket.destroy());
}

const CRLF = Buffer.from('\r\n');
const MINUS = 0x2d;
const ZERO = 0x30;

function writeKey(request: Buffer, at: number, values: Values): void {
  let number = values.between(0, 10 ** KEY_DIGITS - 1);
  for (let digit = KEY_DIGITS - 1; digit >= 0; digit--) {
    request[at + digit] = ZERO + (number % 10);
    number = Math.floor(number / 10);
  }
}
