/** Brings a snapshot to a real server the way the write feed does it: reader, writer, an older form where it must be. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { TargetCapabilities } from '../../src/target/write/capabilities.ts';
import { TargetConnection } from '../../src/target/write/connection.ts';
import { Losses } from '../../src/target/write/losses.ts';
import { SnapshotWriter } from '../../src/target/write/snapshot-writer.ts';
import { Feeding } from '../unit/rdb/records.ts';
import { ANSWER_MS } from './client.ts';
import { until } from './wait.ts';

export interface LoadedSnapshot {
  /** What the server refused. */
  readonly refusals: readonly string[];
  /** What people are told. */
  readonly notes: readonly string[];
}

/**
 * Loads the snapshot that `chunks` are together into the server on loopback `port`; resolves when all is answered. What
 * can be lost on the way to an older server may be lost.
 * @throws RdbFormatError, TargetError as the reader and the writer throw them
 */
export async function loadSnapshot(
  port: number,
  capabilities: TargetCapabilities,
  chunks: readonly Buffer[],
): Promise<LoadedSnapshot> {
  const refusals: string[] = [];
  const notes: string[] = [];
  let lost: Error | null = null;
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  const connection = new TargetConnection(socket, {
    reply: (_, line) => void (line !== null && refusals.push(line)),
    nestedError: () => {},
    progress: () => {},
    lost: (error) => {
      lost = error;
    },
  });
  try {
    const listener = { aux: () => {}, note: (message: string) => void notes.push(message) };
    const writer = new SnapshotWriter(capabilities, listener, null, null, new Losses(true));
    writer.attach(connection);
    const feeding = new Feeding(Buffer.concat(chunks), 1 << 20, { sink: writer });
    let received = 0;
    for (const chunk of chunks) {
      received += chunk.length;
      feeding.arrive(received);
    }
    assert.ok(feeding.reader.done, 'the snapshot ends too early');
    connection.out.flush();
    await until(() => lost !== null || connection.unanswered === 0, {
      timeoutMs: ANSWER_MS,
      what: 'all answers',
    });
    if (lost !== null) throw lost;
  } finally {
    connection.close();
  }
  return { refusals, notes };
}
