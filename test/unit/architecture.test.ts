/**
 * Proves the import rules of ARCHITECTURE.md on every file of src/: imports run downwards only, and each npm
 * package has one home. A change that needs a new arrow changes LAYERS here, in the open.
 */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../../', import.meta.url);

/** Each folder of src/ with the folders that it may import, lower ones first. */
const LAYERS: ReadonlyArray<readonly [folder: string, mayImport: readonly string[]]> = [
  ['core', []],
  ['resp', ['core']],
  ['client', ['core']],
  ['rdb', ['resp', 'core']],
  ['spool', ['resp', 'client', 'core']],
  ['source', ['resp', 'client', 'core']],
  ['target', ['rdb', 'client', 'resp', 'core']],
  ['migrate', ['target', 'source', 'spool', 'rdb', 'client', 'resp', 'core']],
  ['fleet', ['migrate', 'core']],
  ['ui', ['core']],
  ['demo', ['client', 'resp', 'core']],
  ['report', ['ui', 'migrate', 'core']],
  [
    'cli',
    [
      'report',
      'demo',
      'ui',
      'fleet',
      'migrate',
      'target',
      'source',
      'spool',
      'rdb',
      'client',
      'resp',
      'core',
    ],
  ],
];

/** The only folder that may import each npm package: what the package does is wrapped there. */
const PACKAGE_HOMES: Readonly<Record<string, string>> = {
  'redis-parser': 'resp',
  ioredis: 'client',
  ora: 'ui',
  'string-width': 'ui',
  commander: 'cli',
  yaml: 'fleet',
};

/** What a source text imports: `from '…'`, `import '…'` and `import('…')`, of types too. */
function importsOf(text: string): string[] {
  const statement = /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm;
  const sideEffect = /^\s*import\s*['"]([^'"]+)['"]/gm;
  const dynamic = /\bimport\(\s*['"]([^'"]+)['"]/g;
  return [statement, sideEffect, dynamic].flatMap((pattern) =>
    [...text.matchAll(pattern)].map((match) => match[1] ?? ''),
  );
}

/**
 * What is wrong with the imports of one file, as readable lines.
 *
 * @param path below src/, with forward slashes: `rdb/reader.ts`
 */
function violations(path: string, text: string): string[] {
  const folder = path.split('/')[0] ?? '';
  const mayImport = LAYERS.find(([name]) => name === folder)?.[1];
  if (mayImport === undefined || !path.includes('/'))
    return [`${path} is in none of the folders of the plan`];

  return importsOf(text).flatMap((specifier) => {
    if (specifier.startsWith('node:')) return [];
    if (specifier.startsWith('.')) {
      const imported = posix.join(posix.dirname(path), specifier);
      const to = imported.split('/')[0] ?? '';
      if (!imported.endsWith('.ts')) return [`${path} imports ${specifier}: relative imports end in .ts`];
      return to === folder || mayImport.includes(to)
        ? []
        : [`${path} imports ${imported}: ${folder} may not import ${to}`];
    }
    const name = specifier
      .split('/')
      .slice(0, specifier.startsWith('@') ? 2 : 1)
      .join('/');
    const home = PACKAGE_HOMES[name];
    if (home === undefined) return [`${path} imports ${name}, which has no home`];
    return home === folder ? [] : [`${path} imports ${name}, whose home is ${home}`];
  });
}

test('every file of src/ imports only what its folder may', () => {
  const files = readdirSync(fileURLToPath(new URL('src', ROOT)), { recursive: true, encoding: 'utf8' })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path.endsWith('.ts'));
  assert.ok(files.length > 0, 'src/ has sources');
  assert.deepEqual(
    files.flatMap((path) => violations(path, readFileSync(new URL(`src/${path}`, ROOT), 'utf8'))),
    [],
  );
});

test('the plan itself has no cycle: a folder imports only folders listed before it', () => {
  const order = LAYERS.map(([folder]) => folder);
  for (const [folder, mayImport] of LAYERS) {
    for (const lower of mayImport) {
      assert.ok(
        order.includes(lower) && order.indexOf(lower) < order.indexOf(folder),
        `${folder} -> ${lower}`,
      );
    }
  }
});

test('every dependency of package.json has a home, and no other package has', () => {
  const { dependencies } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  assert.deepEqual(Object.keys(PACKAGE_HOMES).sort(), Object.keys(dependencies).sort());
});

test('the rules catch what they forbid', () => {
  const broken: ReadonlyArray<readonly [path: string, text: string]> = [
    ['core/a.ts', "import { x } from '../resp/x.ts';"],
    ['target/write/a.ts', "import type { X } from '../../source/x.ts';"],
    ['migrate/a.ts', "export * from '../cli/main.ts';"],
    ['ui/a.ts', "import {\n  one,\n  two,\n} from '../migrate/x.ts';"],
    ['demo/a.ts', "const x = await import('../migrate/x.ts');"],
    ['resp/a.ts', "import '../rdb/x.ts';"],
    ['rdb/a.ts', "import Parser from 'redis-parser';"],
    ['rdb/a.ts', "import { x } from 'left-pad/deep';"],
    ['rdb/a.ts', "import { x } from './x.js';"],
    ['cli/a.ts', "import { x } from '../../test/helpers/x.ts';"],
    ['a.ts', ''],
    ['plan/a.ts', ''],
  ];
  for (const [path, text] of broken) assert.equal(violations(path, text).length, 1, `${path}: ${text}`);

  const fine = "import fs from 'node:fs';\nimport { x } from './x.ts';\nimport { y } from '../core/y.ts';\n";
  assert.deepEqual(violations('client/a.ts', `${fine}import { Redis } from 'ioredis';`), []);
});
