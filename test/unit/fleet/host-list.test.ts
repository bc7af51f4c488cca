/** Host lists: the whole list is checked, every fault is reported with its line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUri } from '../../../src/cli/uri.ts';
import { addressOf } from '../../../src/core/endpoint.ts';
import { HostListError, parseHostList } from '../../../src/fleet/host-list.ts';

function read(text: string): string[] {
  return parseHostList(text, 'hosts.txt', parseUri).map(
    ({ name, source, target }) => `${name}: ${addressOf(source)} -> ${addressOf(target)}`,
  );
}

function faultsOf(text: string): readonly string[] {
  try {
    read(text);
  } catch (error) {
    assert.ok(error instanceof HostListError);
    return error.faults;
  }
  return [];
}

test('pairs, names, comments, blank lines, line ends', () => {
  const text = [
    '\ufeff# the fleet',
    'old-1 new-1',
    '',
    '  redis://:p#w@old-2:7000\trediss://new-2  cart   # the shop',
    'old-3 new-3 sess\r',
    '#old-4 new-4',
    '# a line\u2028separator',
  ].join('\n');
  assert.deepEqual(read(text), [
    'old-1:6379: old-1:6379 -> new-1:6379',
    'cart: old-2:7000 -> new-2:6379',
    'sess: old-3:6379 -> new-3:6379',
  ]);
});

test('all faults at once, each with its line', () => {
  const faults = faultsOf(
    ['old-1 new-1 cart', 'old-2', 'redis://:CANARY@ new-3:x', 'a b c CANARY', 'old-5 new-5 cart'].join('\n'),
  );
  assert.equal(faults.length, 5);
  assert.match(faults[0] ?? '', /^hosts\.txt:2: expected .* found 1 field/);
  assert.match(faults[1] ?? '', /^hosts\.txt:3: source redis:\/\/\*\*\*@: the host is missing/);
  assert.match(faults[2] ?? '', /^hosts\.txt:3: target .*the port/);
  assert.match(faults[3] ?? '', /^hosts\.txt:4: expected .* found 4 field/);
  assert.match(faults[4] ?? '', /^hosts\.txt:5: the name cart is used already at hosts\.txt:1/);
  assert.doesNotMatch(faults.join(), /CANARY/);
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
    [`a x ${'n'.repeat(65)}`, [/:1: the name must have at most 64/]],
    ['a x \u202eeman', [/:1: the name must have/]],
  ];
  for (const [text, expected] of cases) {
    const faults = faultsOf(text);
    assert.equal(faults.length, expected.length, `${text}: ${faults.join(' | ')}`);
    for (const [index, fault] of expected.entries()) assert.match(faults[index] ?? '', fault);
  }
});

test('an empty list is a fault', () => {
  for (const text of ['', '\n\n', '# nothing\n'])
    assert.match(faultsOf(text)[0] ?? '', /no pair in the list/);
});
