/** URIs of servers: what is accepted, what is refused, and that no message holds a password. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maskUri, parseUri } from '../../../src/cli/uri.ts';
import { UsageError } from '../../../src/core/errors.ts';

function parts(text: string) {
  const { host, port, username, password, tls } = parseUri(text, '--src');
  return [host, port, username, password === null ? null : password.reveal(), tls !== null];
}

test('accepted forms', () => {
  const cases: [string, unknown[]][] = [
    ['redis://old', ['old', 6379, null, null, false]],
    ['rediss://old:7000', ['old', 7000, null, null, true]],
    ['valkeys://old', ['old', 6379, null, null, true]],
    ['REDIS://Old.Example', ['old.example', 6379, null, null, false]],
    ['old', ['old', 6379, null, null, false]],
    ['old:1', ['old', 1, null, null, false]],
    ['10.0.0.1:65535', ['10.0.0.1', 65535, null, null, false]],
    ['redis://app:secret@old', ['old', 6379, 'app', 'secret', false]],
    ['redis://:secret@old', ['old', 6379, null, 'secret', false]],
    ['redis://app@old', ['old', 6379, 'app', null, false]],
    ['redis://app:@old', ['old', 6379, 'app', '', false]],
    ['redis://:@old', ['old', 6379, null, null, false]],
    ['redis://a%40b:p%3A%2F%40%25@old', ['old', 6379, 'a@b', 'p:/@%', false]],
    ['redis://:p@ss/w?rd#x:y@old:7', ['old', 7, null, 'p@ss/w?rd#x:y', false]],
    ['redis://[::1]', ['::1', 6379, null, null, false]],
    ['rediss://u:p@[2001:DB8::1]:7', ['2001:db8::1', 7, 'u', 'p', true]],
    ['[::1]:7', ['::1', 7, null, null, false]],
    ['redis://old/', ['old', 6379, null, null, false]],
    ['redis://old:7/0', ['old', 7, null, null, false]],
    ['my_service-1:6380', ['my_service-1', 6380, null, null, false]],
  ];
  for (const [text, expected] of cases) assert.deepEqual(parts(text), expected, text);
});

test('refused forms name the flag and the text', () => {
  const cases: [string, RegExp][] = [
    ['', /--src : the host is missing/],
    ['redis://', /redis:\/\/: the host is missing/],
    ['redis://:6380', /the host is missing/],
    ['redis://old:', /--src redis:\/\/old:: the port/],
    ['redis://old:0', /the port/],
    ['redis://old:65536', /old:65536: the port/],
    ['redis://old:63x9', /the port/],
    ['redis://old/3', /old\/3: a single database cannot be moved/],
    ['redis://old/0?x=1', /nothing may follow/],
    ['redis://old/name', /nothing may follow/],
    ['redis://::1', /IPv6 address needs brackets/],
    ['redis://[::1', /host/],
    ['redis://[old]:1', /no IPv6 address in the brackets/],
    ['redis://[::1]x', /host and port/],
    ['http://old', /the scheme/],
    ['unix:///run/redis.sock', /the scheme/],
    ['6379', /no host name/],
    ['1.2.3', /no host name/],
    ['1.2.3.999:6379', /no host name/],
    ['redis://o ld', /no host name/],
    ['redis://-old', /no host name/],
    ['redis://:100%@old', /a % that is no escape/],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parseUri(text, '--src'),
      (error) => {
        assert.ok(error instanceof UsageError, text);
        assert.equal(error.code, 'bad-uri');
        assert.match(error.message, message, text);
        assert.match(error.message, /^--src /);
        assert.notEqual(error.hint, '');
        return true;
      },
      text,
    );
  }
});

test('no malformed text brings its password into a message', () => {
  const texts = [
    'redis://:CANARY@',
    'redis://app:CANARY@:1',
    'redis://app:CANARY@old/7',
    'redis://app:CANARY@old:x',
    'redis://app:CANARY%@old',
    'redis://app:CAN@ARY-CANARY@o!d',
    'redis://CANARY@o!d',
    'redis://:CANARY',
    'redis://app:CANARY',
    'app:CANARY',
    ':CANARY@old:x',
    'redis:/:CANARY@old',
    'http://app:CANARY@old',
    'redis://app:CANARY/@old:x',
    '\u001b[2Jredis://app:CANARY@old:x',
  ];
  for (const text of texts) {
    assert.doesNotMatch(maskUri(text), /CANARY/, text);
    assert.throws(
      () => parseUri(text, '--src'),
      (error) => error instanceof UsageError && !`${error.message}${error.hint}`.includes('CANARY'),
      text,
    );
  }
});

test('control characters in a URI become visible escapes', () => {
  assert.throws(
    () => parseUri('redis://o\u001b]0;x\u0007ld', '--dst'),
    (error) =>
      error instanceof UsageError && error.message.includes('\\x1b') && !/[\u001b]/.test(error.message),
  );
});
