/** Host lists: four forms, the whole list is checked, every fault is reported with its line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUri } from '../../../src/cli/uri.ts';
import { addressOf } from '../../../src/core/endpoint.ts';
import { parseHostList } from '../../../src/fleet/host-list.ts';
import { meetings, type PairEntry } from '../../../src/fleet/pair-entries.ts';

const CANARY = 'cAnArY';

function entriesOf(text: string, fileName = 'hosts'): readonly PairEntry[] {
  const { entries, faults } = parseHostList(text, fileName, ['feed', 'flush-target'], parseUri);
  assert.deepEqual(faults, []);
  return entries;
}

/** Each pair on one line: `name wave: source -> target {auth} {settings}`. */
function read(text: string, fileName?: string): string[] {
  return entriesOf(text, fileName).map(({ name, wave, source, target, auth, settings }) =>
    [
      `${name} ${wave}: ${addressOf(source)} -> ${addressOf(target)}`,
      ...(auth === undefined ? [] : [JSON.stringify(auth)]),
      ...[...settings].map(([column, { text: value, where }]) => `${where} ${column}=${value}`),
    ].join(' '),
  );
}

function faultsOf(text: string, fileName = 'hosts.txt'): string[] {
  const { entries, faults } = parseHostList(text, fileName, ['feed', 'flush-target'], parseUri);
  const found = [...faults, ...meetings(entries)];
  assert.doesNotMatch(found.join(), new RegExp(CANARY));
  return found;
}

function assertFaults(faults: readonly string[], expected: readonly RegExp[], of: string): void {
  assert.equal(faults.length, expected.length, `${of}: ${faults.join(' | ')}`);
  for (const [index, fault] of expected.entries()) assert.match(faults[index] ?? '', fault, of);
}

test('plain lines: names, waves, comments, blank lines, line ends', () => {
  const text = [
    '\ufeff# the fleet',
    'old-1 new-1',
    '',
    '  redis://:p#w@old-2:7000\trediss://new-2  cart   # the shop',
    'old-3 new-3 sess canary\r',
    '#old-4 new-4',
    '# a line\u2028separator',
  ].join('\n');
  assert.deepEqual(read(text), [
    'null undefined: old-1:6379 -> new-1:6379',
    'cart undefined: old-2:7000 -> new-2:6379',
    'sess canary: old-3:6379 -> new-3:6379',
  ]);
});

/** The same two pairs, as each form writes them. */
const FORMS: Readonly<Record<string, string>> = {
  csv: [
    '# the fleet',
    'name,source,target,Wave,auth,src_auth,feed',
    '"the ""cart"", new",rediss://o1,[::1]:7,1,env:CART,file:/a b,',
    '',
    ', redis://o2 ,n2,,,,write',
  ].join('\r\n'),
  yaml: [
    '# the fleet',
    'pairs:',
    `- {name: 'the "cart", new', source: rediss://o1, target: "[::1]:7", wave: 1, auth: env:CART, src-auth: file:/a b, feed: ~}`,
    '- source: &server redis://o2',
    '  feed: write',
    '  target: n2',
  ].join('\n'),
  ndjson: [
    '# the fleet',
    '',
    '{"name":"the \\"cart\\", new","source":"rediss://o1","target":"[::1]:7","wave":1,"auth":"env:CART","src_auth":"file:/a b","feed":null}',
    '',
    '{"source":"redis://o2","target":"n2","feed":"write"}',
  ].join('\n'),
};

test('CSV, YAML and NDJSON say the same, by extension and by content', () => {
  for (const [format, text] of Object.entries(FORMS)) {
    for (const file of [`hosts.${format}`, 'hosts', 'stdin']) {
      assert.deepEqual(
        read(text, file),
        [
          'the "cart", new 1: o1:6379 -> [::1]:7 {"source":"file:/a b","target":"env:CART"}',
          `null undefined: o2:6379 -> n2:6379 ${file}:5 feed=write`,
        ],
        file,
      );
    }
  }
});

test('what a format leaves open: separators, texts that look like something else, aliases', () => {
  assert.deepEqual(read('source;target;name\na;b;c'), ['c undefined: a:6379 -> b:6379']);
  assert.deepEqual(read('source\ttarget\na\tb', 'x.csv'), ['null undefined: a:6379 -> b:6379']);
  // a plain line stays one where it begins as YAML or NDJSON could
  assert.deepEqual(read('[::1]:1 [::2]:2'), ['null undefined: [::1]:1 -> [::2]:2']);
  assert.deepEqual(read('old-1:6379 new-1'), ['null undefined: old-1:6379 -> new-1:6379']);
  // YAML 1.1 made `no` a falsehood, and 1e3 a number
  assert.deepEqual(read('- {source: a, target: b, name: no, wave: 1e3}'), ['no 1e3: a:6379 -> b:6379']);
  assert.deepEqual(
    read('- {source: &x a, target: b}\n- {source: c, target: d, name: *x}', 'x.yml').length,
    2,
  );
  assert.deepEqual(read('[\n  {"source": "a", "target": "b"}\n]'), ['null undefined: a:6379 -> b:6379']);
  assert.deepEqual(read('{"pairs": [{"source": "a",\n "target": "b"}]}', 'x.yaml').length, 1);
});

test('all faults at once, each with its line', () => {
  const text = `old-1 new-1 cart\nold-2\nredis://:${CANARY}@ new-3:x\na b c d ${CANARY}\nold-5 new-5 cart`;
  assertFaults(
    faultsOf(text),
    [
      /^hosts\.txt:2: expected .* found 1 field/,
      /^hosts\.txt:3: source redis:\/\/\*\*\*@: the host is missing/,
      /^hosts\.txt:3: target .*the port/,
      /^hosts\.txt:4: expected .* found 5 field/,
      /^hosts\.txt:5: the name cart is used already at hosts\.txt:1/,
    ],
    text,
  );
});

test('faults of each form, with lines and columns, and no field repeated', () => {
  const cases: [string, string, RegExp[]][] = [
    ['x.csv', `redis://:${CANARY}@a,b\nc,d`, [/^x\.csv:1: the first line must name the columns/]],
    [
      'x.csv',
      'source,target,portt\na,b,1\nc,d,2',
      [/^x\.csv:1: there is no column "portt"; there are source, /],
    ],
    ['x.csv', `source,target,${CANARY}7\na,b,1`, [/^x\.csv:1: there is no column; /]],
    ['x.csv', 'source,target,source\na,b,c', [/^x\.csv:2: source is given twice/]],
    [
      'x.csv',
      `source,target,name\na,b\n${CANARY},b,c,d\n"a,b,c\na"${CANARY}",b,c\n,b,c\n`,
      [
        /^x\.csv:2: found 2 field\(s\), the header names 3/,
        /^x\.csv:3: found 4 field/,
        /^x\.csv:4: a quote/,
        /^x\.csv:5: a quote/,
        /^x\.csv:6: source is missing/,
      ],
    ],
    [
      'x.ndjson',
      `{"source":"a","target":"b"}\n{"source":"${CANARY}"\n["${CANARY}"]\n{"source":["${CANARY}"],"target":"d","x":1}`,
      [
        /^x\.ndjson:2: expected one JSON object/,
        /^x\.ndjson:3: expected one JSON object/,
        /^x\.ndjson:4: source must be a text/,
        /^x\.ndjson:4: there is no column "x"/,
        /^x\.ndjson:4: source is missing/,
      ],
    ],
    [
      'x.yaml',
      `- source: a\n  target: b\n- source: a\n  source: ${CANARY}\n  target: "${CANARY}`,
      [/^x\.yaml:4: no YAML: duplicate key/, /^x\.yaml:5: no YAML: missing char/],
    ],
    ['x.yaml', 'source: a\ntarget: b', [/^x\.yaml:1: expected a list of pairs/]],
    ['x.yaml', CANARY, [/^x\.yaml:1: expected a list of pairs/]],
    ['x.yaml', '- *nobody', [/^x\.yaml:1: expected a pair/]],
    [
      'x.yaml',
      `- a ${CANARY}\n- {source: [a], target: b}\n-\n  target: b\n  wave: a b\n  auth: ${CANARY}\n  ? [x]\n  : y`,
      [
        /^x\.yaml:1: expected a pair/,
        /^x\.yaml:2: source must be a text/,
        /^x\.yaml:2: source is missing/,
        /^x\.yaml:4: source is missing/,
        /^x\.yaml:5: the wave must be a number or a word/,
        /^x\.yaml:6: the auth must be env:NAME or file:PATH/,
        /^x\.yaml:7: there is no column;/,
      ],
    ],
  ];
  for (const [file, text, expected] of cases) assertFaults(faultsOf(text, file), expected, text);
});

test('pairs that would meet are refused', () => {
  const cases: [string, RegExp[]][] = [
    ['a x\nb X:6379', [/:2: the target x:6379 is used already at hosts\.txt:1/]],
    ['a x\na y', [/:2: the source a:6379 is used already/]],
    ['a a', [/:1: source and target are the same server, a:6379/]],
    ['a x\nb redis://B:6379/0', [/:2: source and target are the same server/]],
    [
      'a b\nb a',
      [/:1: the source a:6379 is the target at hosts\.txt:2/, /:2: the source b:6379 is the target/],
    ],
    ['a b\nb c', [/:2: the source b:6379 is the target at hosts\.txt:1/]],
    ['a x b:6379\nb y', [/:2: the name b:6379 is used already/]],
    [`a x ${'n'.repeat(65)}`, [/:1: the name must be at most 64/]],
    ['a x \u202eeman', [/:1: the name must be/]],
    ['a x one \u202e1', [/:1: the wave must be/]],
    [`a x one ${'1'.repeat(33)}`, [/:1: the wave must be/]],
  ];
  for (const [text, expected] of cases) assertFaults(faultsOf(text), expected, text);
});

test('an empty list is a fault', () => {
  for (const [text, file] of [
    ['', 'x'],
    ['\n\n', 'x'],
    ['# nothing\n', 'x.csv'],
    ['source,target\n', 'x.csv'],
    ['', 'x.yaml'],
    ['[]', 'x.yaml'],
    ['', 'x.ndjson'],
  ] as const) {
    assertFaults(faultsOf(text, file), [/no pair in the list \(read as /], file);
  }
});
