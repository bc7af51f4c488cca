/**
 * Loaded in front of each test file (test.mjs). With --test-force-exit Node 20 ends a file as soon as its report
 * has been read, not when it has been written: where the machine is busy, the end of the report was lost, and the tests in it
 * were counted by nobody. So the end comes a moment later.
 */
const LATER_MS = 100;

// not in processes that a test starts, nor in the workers, which get the same arguments
if (process.argv[1]?.endsWith('.test.ts')) {
  const exit = process.exit;
  process.exit = (code) => {
    setTimeout(() => exit.call(process, code), LATER_MS);
  };
}
