/** Which server and release answers on a connection: decides what dataset, traffic and comparison may use. */
import type { RespConnection } from '../resp/connection.ts';

export interface Release {
  readonly kind: 'redis' | 'valkey';
  /** The server's own release, e.g. `8.1.3` for Valkey. */
  readonly version: string;
  /** The Redis release that it is compatible with (`redis_version`; 7.2.4 for all Valkeys). */
  readonly redisVersion: string;
}

/** From `INFO server`; `valkey_version` is there since Valkey 8.0, `server_name` since 7.2. */
export async function readRelease(connection: RespConnection): Promise<Release> {
  const info = String(await connection.call('INFO', 'server'));
  const field = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const redisVersion = field('redis_version') ?? '0.0.0';
  const valkeyVersion = field('valkey_version');
  return valkeyVersion === undefined
    ? { kind: field('server_name') === 'valkey' ? 'valkey' : 'redis', version: redisVersion, redisVersion }
    : { kind: 'valkey', version: valkeyVersion, redisVersion };
}

/** True when `version` is `wanted` or newer; both `major.minor.patch`, missing parts count as 0. */
export function atLeast(version: string, wanted: string): boolean {
  const have = version.split('.').map(Number);
  const want = wanted.split('.').map(Number);
  for (let part = 0; part < 3; part += 1) {
    const difference = (have[part] || 0) - (want[part] || 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}
