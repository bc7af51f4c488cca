/** Real servers for tests: like src/demo/server.ts, stopped when the test ends. */
import { type DemoServer, type ServerOptions, startServer } from '../../src/demo/server.ts';

/** A test's context `t`, or anything else that runs what it is given at the end. */
export interface Cleanup {
  after(end: () => void | Promise<void>): void;
}

/** Starts a server that ends with the test `t`. */
export async function testServer(t: Cleanup, options: ServerOptions = {}): Promise<DemoServer> {
  endWithRunner();
  const server = await startServer(options);
  t.after(() => server.stop());
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
