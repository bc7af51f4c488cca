/** Errors of sockets put into the operator's words: those that no test can bring about with a real server. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { looksLikeTls, socketError } from '../../../src/client/dial.ts';
import type { Endpoint } from '../../../src/core/endpoint.ts';
import { SourceError, TargetError } from '../../../src/core/errors.ts';

const ENDPOINT: Endpoint = { host: 'r\u001b[1m', port: 6379, username: null, password: null, tls: null };

describe('socketError', () => {
  const cases = [
    ['ENOTFOUND', 'host', 1, 'reconnect'],
    ['EAI_AGAIN', 'host', 1, 'reconnect'],
    ['ECONNREFUSED', 'refused', 1, 'reconnect'],
    ['ETIMEDOUT', 'timeout', 1, 'reconnect'],
    ['EHOSTUNREACH', 'unreachable', 1, 'reconnect'],
    ['ECONNRESET', 'unreachable', 1, 'reconnect'],
    ['CERT_HAS_EXPIRED', 'tls-expired', 4, 'operator'],
    ['CERT_NOT_YET_VALID', 'tls-expired', 4, 'operator'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'tls-name', 4, 'operator'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'tls-untrusted', 4, 'operator'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'tls-untrusted', 4, 'operator'],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'tls-untrusted', 4, 'operator'],
    ['CERT_REVOKED', 'tls-untrusted', 4, 'operator'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'tls-plain', 4, 'operator'],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'tls', 4, 'operator'],
    ['EPROTO', 'tls', 4, 'operator'],
  ] as const;

  for (const [code, problem, exitCode, recovery] of cases) {
    it(`${code} is ${problem}`, () => {
      const error = socketError(ENDPOINT, 'source', Object.assign(new Error('x'), { code }));
      assert.ok(error instanceof SourceError);
      assert.deepEqual(
        [error.code, error.exitCode, error.recovery],
        [`source-${problem}`, exitCode, recovery],
      );
      assert.ok(error.hint.length > 10);
      assert.ok(!`${error.message}${error.hint}`.includes('\u001b'), 'a host name reached the terminal raw');
      assert.ok(socketError(ENDPOINT, 'target', error) instanceof TargetError);
    });
  }
});

describe('looksLikeTls', () => {
  it('knows an alert, whole or its first byte, and no reply of Redis', () => {
    assert.equal(looksLikeTls(Buffer.from([0x15, 0x03, 0x03, 0, 2, 2, 70])), true);
    assert.equal(looksLikeTls(Buffer.from([0x15])), true);
    for (const text of ['+PONG', '-ERR', '$5', '\n', ''])
      assert.equal(looksLikeTls(Buffer.from(text)), false);
  });
});
