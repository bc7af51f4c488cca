/** CLIENT LIST as servers of several releases write it. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { CLIENT_NAME } from '../../../src/client/session.ts';
import { parseClientList } from '../../../src/migrate/clients.ts';

const LINE_70 =
  'id=7 addr=10.0.0.1:51000 laddr=10.0.0.9:6379 fd=8 name=orders age=12 idle=3 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=26 qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=22298 events=r cmd=client|list user=app redir=-1 resp=2';
const LINE_28 =
  'id=3 addr=10.0.0.2:41000 fd=6 name= age=2 idle=0 flags=N db=0 sub=0 psub=0 multi=-1 qbuf=0 qbuf-free=32768 obl=0 oll=0 omem=0 events=r cmd=set';

it('takes lines of 7.0 and of 2.8', () => {
  assert.deepEqual(parseClientList(`${LINE_70}\n${LINE_28}\n`), [
    { addr: '10.0.0.1:51000', name: 'orders', user: 'app', lastCommand: 'client|list', idleSeconds: 3 },
    { addr: '10.0.0.2:41000', name: '', user: 'default', lastCommand: 'set', idleSeconds: 0 },
  ]);
});

it('leaves replicas, masters and our own connections out', () => {
  const lines = ['S', 'M', 'SP', 'xM'].map((flags) => LINE_70.replace('flags=N', `flags=${flags}`));
  lines.push(
    LINE_70.replace('name=orders', `name=${CLIENT_NAME}`),
    LINE_70.replace('name=orders', `name=${CLIENT_NAME}:source`),
  );
  assert.deepEqual(parseClientList(lines.join('\n')), []);
  for (const flags of ['x', 'P', 'b', 'O', 'tU'])
    assert.equal(parseClientList(LINE_70.replace('flags=N', `flags=${flags}`)).length, 1, flags);
});

it('keeps values with an equals sign, IPv6, and makes odd bytes harmless', () => {
  const line = LINE_70.replace('10.0.0.1:51000', '[2001:db8::1]:51000').replace(
    'name=orders',
    'name=a=b\x1b[31m',
  );
  const [client] = parseClientList(line);
  assert.equal(client?.addr, '[2001:db8::1]:51000');
  assert.match(client?.name ?? '', /^a=b/);
  assert.ok(!client?.name.includes('\x1b'));
});

it('nothing is nothing', () => {
  for (const text of ['', '\n', '\r\n']) assert.deepEqual(parseClientList(text), []);
});

it('what a hostile or a cut line says stays text', () => {
  const parsed = parseClientList(
    [
      LINE_70.replace('cmd=client|list', 'cmd=\u202eset\x07').replace('idle=3', 'idle=Infinity'),
      LINE_70.replace('idle=3', 'idle=-1').replace('user=app', `user=${'u'.repeat(500)}`),
      '__proto__=1 constructor=2',
      '=== = ==',
    ].join('\n'),
  );
  assert.equal(parsed.length, 4);
  for (const client of parsed) {
    assert.equal(client.idleSeconds, 0);
    for (const text of [client.addr, client.name, client.user, client.lastCommand]) {
      assert.ok(text.length <= 200);
      assert.doesNotMatch(text, /[\x00-\x1f\u202e]/);
    }
  }
  assert.equal(parsed[2]?.addr, '?');
});

it('keeps the longest address of a Unix socket whole: it is what CLIENT KILL takes', () => {
  const path = `/${'p'.repeat(106)}:0`;
  assert.equal(parseClientList(LINE_70.replace('10.0.0.1:51000', path))[0]?.addr, path);
});
