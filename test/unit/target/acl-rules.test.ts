/** The plan of a fence, from lines of ACL LIST as servers wrote them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { copyRules, parseAclLine, planFence } from '../../../src/target/write/acl-rules.ts';

const HASH = `#${'30c952fab122c3f9'.repeat(4)}`;

describe('planFence', () => {
  it('takes write commands from all but the one user', () => {
    const plan = planFence(
      ['user default on nopass ~* &* +@all', 'user run on nopass ~* &* +@all', 'user six off ~* +@all'],
      'run',
    );
    assert.deepEqual(plan, [
      {
        user: 'default',
        fenceRules: ['-@write'],
        restoreRules: ['-@all', '+@all'],
      },
      { user: 'six', fenceRules: ['-@write'], restoreRules: ['-@all', '+@all'] },
    ]);
    assert.equal(planFence(['user run on nopass ~* &* +@all'], null).length, 1);
  });

  it('touches command rules only and keeps their order; a copy has all', () => {
    const words = `on skip-sanitize-payload ${HASH} ~app:* %R~x* resetchannels &ch* +@all -@dangerous +config|get`;
    const [bob] = planFence([`user bob ${words}`], null);
    assert.deepEqual(bob?.restoreRules, ['-@all', '+@all', '-@dangerous', '+config|get']);
    const user = parseAclLine(`user bob ${words} (~s:* +get)`);
    assert.ok(user !== null);
    assert.deepEqual(copyRules(user), [...words.split(' '), '(~s:* +get)']);
  });

  it('writes selectors anew, each without write commands', () => {
    const line =
      'user s on nopass resetchannels -@all +get (~s:* resetchannels -@all +get) (~t:* &z +@all -@admin)';
    assert.deepEqual(planFence([line], null), [
      {
        user: 's',
        fenceRules: [
          '-@write',
          'clearselectors',
          '(~s:* resetchannels -@all +get -@write)',
          '(~t:* &z +@all -@admin -@write)',
        ],
        restoreRules: [
          '-@all',
          '-@all',
          '+get',
          'clearselectors',
          '(~s:* resetchannels -@all +get)',
          '(~t:* &z +@all -@admin)',
        ],
      },
    ]);
  });

  it('stands odd characters in names and patterns', () => {
    const line =
      'user a"b(c) on nopass ~k"(k) resetchannels -@all (~kk( ~x) ~q"\\ resetchannels -@all +get) (~)) +get)';
    const user = parseAclLine(line);
    assert.equal(user?.name, 'a"b(c)');
    assert.deepEqual(user?.rules, ['on', 'nopass', '~k"(k)', 'resetchannels', '-@all']);
    assert.deepEqual(user?.selectors, [
      ['~kk(', '~x)', '~q"\\', 'resetchannels', '-@all', '+get'],
      ['~))', '+get'],
    ]);
    assert.deepEqual(planFence([line], null)[0]?.restoreRules.slice(-2), [
      '(~kk( ~x) "~q\\"\\\\" resetchannels -@all +get)',
      '(~)) +get)',
    ]);
  });

  it('passes over what is no user', () => {
    assert.deepEqual(planFence(['', 'user', 'something else'], null), []);
  });
});
