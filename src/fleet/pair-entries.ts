/**
 * Pairs as somebody wrote them, in a host list or on the command line, and which of them cannot be together. Apart from
 * host-list.ts, which is loaded for host lists alone: the YAML parser takes 50 ms.
 */
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';

/** A pair as somebody wrote it. */
export interface PairEntry extends Omit<PairSpec, 'name'> {
  /** Where it was written, for messages: `hosts.txt:3`. */
  readonly where: string;
  /** null: the source's `host:port` becomes the name. */
  readonly name: string | null;
  /** Fields that are options of the command line, by column: not yet checked. */
  readonly settings: ReadonlyMap<string, Setting>;
}

export interface Setting {
  readonly text: string;
  /** As that of the pair. */
  readonly where: string;
}

export interface HostList {
  readonly entries: readonly PairEntry[];
  /** One line for each thing to mend. */
  readonly faults: readonly string[];
}

/** A list of pairs that cannot be used; `faults` holds one line for each thing to mend. */
export class HostListError extends UsageError {
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    super(faults.join('; '), {
      code: 'host-list',
      hint: 'mend what is named above and start again: nothing was connected',
    });
    this.faults = faults;
  }
}

/**
 * Refuses lists in which two pairs would meet: a name, a source or a target that is used twice, and a server that is
 * a source here and a target there (A to B and B to A destroy each other's data). Servers are compared by address;
 * aliases of one server are found by the preflight.
 *
 * @returns one line for each thing to mend
 */
export function meetings(entries: readonly PairEntry[]): string[] {
  const found: string[] = [];
  const names = new Map<string, string>();
  const sources = new Map<string, string>();
  const targets = new Map<string, string>();
  const claim = (seen: Map<string, string>, key: string, where: string, what: string): void => {
    const earlier = seen.get(key);
    if (earlier === undefined) seen.set(key, where);
    else found.push(`${where}: the ${what} ${printable(key)} is used already at ${earlier}`);
  };

  for (const { where, name, source, target } of entries) {
    const address = addressOf(source);
    // a name made from a source that is listed twice would only repeat the fault of the source
    if (name !== null || !sources.has(address)) claim(names, name ?? address, where, 'name');
    claim(sources, address, where, 'source');
    claim(targets, addressOf(target), where, 'target');
  }
  for (const [address, where] of sources) {
    const other = targets.get(address);
    if (other === where) found.push(`${where}: source and target are the same server, ${address}`);
    else if (other !== undefined) {
      found.push(`${where}: the source ${address} is the target at ${other}`);
    }
  }
  return found;
}
