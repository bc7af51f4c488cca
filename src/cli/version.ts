/** The version of this program. */
import { readFileSync } from 'node:fs';

/** As package.json says: `0.1.0`. */
export function ownVersion(): string {
  // the same distance from src/cli, dist/cli and dist/chunks
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed === 'object' && parsed !== null && 'version' in parsed) return String(parsed.version);
  return 'unknown';
}
