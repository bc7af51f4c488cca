/** When the fields of a hash expire, compared (HPEXPIRETIME: Redis 7.4, Valkey 9.0). */
import { isSameExpiry, type Sides, trueExpiry } from './side.ts';

/** Fields asked for at a time. */
const FIELDS = 500;

/**
 * Both sides have the same fields. Null where these expire at the same time, else what was found, for
 * Difference.state.
 */
export async function differsInFieldExpiry(sides: Sides, key: Buffer): Promise<string | null> {
  let cursor = '0';
  do {
    await sides.pace();
    const page = await sides.source.connection.commands(['HSCAN', key, cursor, 'COUNT', FIELDS]);
    const [next, found] = page.value(0) as readonly [Buffer, readonly Buffer[]];
    cursor = next.toString('latin1');
    const fields = found.filter((_, at) => at % 2 === 0);
    const state = await differsInFieldsOf(sides, key, fields);
    if (state !== null) return state;
  } while (cursor !== '0');
  return null;
}

/** The same for some of its fields. */
export async function differsInFieldsOf(
  sides: Sides,
  key: Buffer,
  fields: readonly Buffer[],
): Promise<string | null> {
  if (fields.length === 0) return null;
  const [here, there] = await Promise.all(
    [sides.source, sides.target].map(async (side) => {
      const replies = await side.connection.commands([
        'HPEXPIRETIME',
        key,
        'FIELDS',
        fields.length,
        ...fields,
      ]);
      const times = replies.value(0);
      return Array.isArray(times) ? times.map((time) => trueExpiry(side, Number(time))) : [];
    }),
  );
  const same = fields.every((_, at) =>
    isSameExpiry(here?.[at] ?? -1, there?.[at] ?? -1, sides.ttlToleranceMs),
  );
  return same ? null : `${here} ${there}`;
}
