/** A full comparison (`verify`) of two equal servers, to neither of which anybody writes. */
import { performance } from 'node:perf_hooks';
import { STANDARD_VERIFY } from '../../src/core/options.ts';
import { verifyPair } from '../../src/migrate/verify/verify.ts';
import { testServer } from '../helpers/server.ts';
import { type DataSet, MILLION, MIXED } from './data-sets.ts';
import { fixed, median, type Section, spread, thousands } from './figures.ts';
import { asRound } from './round.ts';
import { connected } from './servers.ts';
import type { Effort } from './turns.ts';
import { NATIVE } from './ways.ts';

export async function comparisons(effort: Effort): Promise<Section> {
  const failures: string[] = [];
  const rows: string[][] = [];
  for (const data of [MILLION, MIXED]) rows.push(await compared(data, effort, failures));
  return {
    title: 'A full comparison of two equal servers',
    about: 'Every key by type, value and expiry, as `verify` does it.',
    columns: ['keys/s', 'data', 'keys', 'seconds', 'from-to'],
    rows,
    failures,
  };
}

function compared(data: DataSet, { scale, runs }: Effort, failures: string[]): Promise<string[]> {
  return asRound(async (round) => {
    const [source, target] = [await testServer(round), await testServer(round)];
    await data.fill(source.port, scale);
    await NATIVE.begin(round, [{ source, sourceHost: '127.0.0.1', target }], false).inSync;
    await connected(target, (to) => to.call('REPLICAOF', 'NO', 'ONE'));
    const endpoint = { host: '127.0.0.1', username: null, password: null, tls: null };
    const seconds: number[] = [];
    let keys = 0;
    for (let run = 0; run < runs; run++) {
      const began = performance.now();
      const result = await verifyPair({
        source: { ...endpoint, port: source.port },
        target: { ...endpoint, port: target.port },
        options: STANDARD_VERIFY,
        signal: new AbortController().signal,
        onProgress: () => undefined,
        onMismatch: ({ kind }) => failures.push(`${data.title}: ${kind}, where both should be equal`),
      });
      seconds.push((performance.now() - began) / 1000);
      keys = result.compared;
    }
    const rate = thousands(keys / median(seconds));
    return [rate, data.title, String(keys), fixed(median(seconds)), spread(seconds)];
  });
}
