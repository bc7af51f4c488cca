/** Options of a run as most tests want them; a test changes what it is about. */
import type { RunOptions } from '../../src/core/options.ts';
import { NO_THROTTLE } from '../../src/core/throttle.ts';

export const RUN_OPTIONS: RunOptions = {
  feed: 'auto',
  cutover: 'never',
  stopAtInSync: false,
  cutoverTimeoutMs: 10_000,
  sourceFence: true,
  reverse: true,
  hooks: {},
  listen: { host: null, port: 0, advertise: null },
  flushTarget: false,
  allowNonempty: false,
  allowLoss: false,
  skipUnknown: false,
  assumeYes: false,
  fleet: { parallelCopies: 4, workers: 0, maxFailures: null, canaryMs: null },
  resumes: null,
  runDir: '/nowhere',
  commandNames: { psync: 'PSYNC', sync: 'SYNC', replconf: 'REPLCONF' },
  throttle: NO_THROTTLE,
  forwardPublish: false,
  keepSnapshot: false,
  tuneSource: [],
  spoolMemoryBytes: 1 << 20,
  spoolLimitBytes: Number.POSITIVE_INFINITY,
};
