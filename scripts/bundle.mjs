/**
 * The second half of `npm run build`, behind the type check: puts the program and its packages into a few files of
 * dist/. Node loads these in a third of the time that the many small ones take, and a copy begins so much sooner.
 * dist/cli/main.js is the door as it is in a build by tsc alone (tsconfig.build.json), which works as well.
 */

import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

// from nothing: neither a source that is gone nor a file whose name has changed with its content lives on in it
rmSync('dist', { recursive: true, force: true });

await build({
  entryPoints: ['src/cli/main.ts', 'src/fleet/worker-main.ts'],
  outbase: 'src',
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  // what is loaded where it is used stays a file of its own
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  // errors are told by the names of their classes
  keepNames: true,
  // packages that are CommonJS ask for Node's own modules by it
  banner: {
    js: "import { createRequire as createRequireHere } from 'node:module';\nconst require = createRequireHere(import.meta.url);",
  },
  logLevel: 'warning',
});
