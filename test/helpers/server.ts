/** Real servers for tests: like src/demo/server.ts, stopped when the test ends. */
import { type DemoServer, type ServerOptions, startServer } from '../../src/demo/server.ts';

/** A test's context `t`, or anything else that runs what it is given at the end. */
export interface Cleanup {
  after(end: () => void | Promise<void>): void;
}

/** Per test: what is to be done at its end. */
const endings = new WeakMap<Cleanup, (() => void | Promise<void>)[]>();

/**
 * Does `end` when the test ends; what was begun last ends first: the program before the proxy and the servers that it
 * talks to. Node's own hooks run in the order in which they were given, and the first that throws is the last to run:
 * a program that is not ended then keeps the whole file from ending. Here all of them run.
 */
export function atEnd(t: Cleanup, end: () => void | Promise<void>): void {
  const known = endings.get(t);
  if (known !== undefined) {
    known.push(end);
    return;
  }
  const ends = [end];
  endings.set(t, ends);
  t.after(async () => {
    const errors: unknown[] = [];
    for (const each of ends.reverse()) {
      try {
        await each();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `at the end of the test: ${errors.join('; ')}`);
  });
}

/** Starts a server that ends with the test `t`. */
export async function testServer(t: Cleanup, options: ServerOptions = {}): Promise<DemoServer> {
  endWithRunner();
  const server = await startServer(options);
  atEnd(t, () => server.stop());
  return server;
}

let signalsSet = false;

/** The test runner ends files by SIGTERM (time limit) or SIGINT: 'exit' must run then, it ends the servers. */
function endWithRunner(): void {
  if (signalsSet) return;
  signalsSet = true;
  process.once('SIGTERM', () => process.exit(143));
  process.once('SIGINT', () => process.exit(130));
}
