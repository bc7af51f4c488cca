/**
 * Which pairs a run has: from a host list (`source target [name]`, one pair a line) or from `--src`/`--dst`.
 * Everything is checked here, before the first connection, and all faults are reported at once.
 */
import { addressOf, type Endpoint, type PairSpec } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';

/** A pair as somebody wrote it. */
export interface PairEntry {
  /** Where it was written, for messages: `hosts.txt:3`. */
  readonly where: string;
  /** null: the source's `host:port` becomes the name. */
  readonly name: string | null;
  readonly source: Endpoint;
  readonly target: Endpoint;
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

const MAX_NAME = 64;

/**
 * Reads a host list. Blank lines are skipped; `#` starts a comment at the beginning of a line or after a blank.
 *
 * @param fileName what to call the list in messages
 * @param parseEndpoint reads one URI (cli/uri.ts); its second argument says where it stands
 * @throws HostListError with every fault of the whole list
 */
export function parseHostList(
  text: string,
  fileName: string,
  parseEndpoint: (uri: string, where: string) => Endpoint,
): PairSpec[] {
  const entries: PairEntry[] = [];
  const faults: string[] = [];
  const endpoint = (uri: string, where: string): Endpoint | null => {
    try {
      return parseEndpoint(uri, where);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      faults.push(`${error.message} (${error.hint})`);
      return null;
    }
  };

  let number = 0;
  for (const line of text.replace(/^\ufeff/, '').split(/\r?\n/)) {
    number += 1;
    const where = `${printable(fileName)}:${number}`;
    const fields = line
      .replace(/(^|\s)#.*$/s, '')
      .split(/\s+/)
      .filter((field) => field !== '');
    const [sourceText, targetText, name] = fields;
    if (sourceText === undefined) continue;
    // the fields are not repeated here: one of them may hold a password
    if (targetText === undefined || fields.length > 3) {
      faults.push(`${where}: expected "source target [name]", found ${fields.length} field(s)`);
      continue;
    }
    const source = endpoint(sourceText, `${where}: source`);
    const target = endpoint(targetText, `${where}: target`);
    if (source !== null && target !== null) entries.push({ where, name: name ?? null, source, target });
  }

  if (entries.length === 0 && faults.length === 0) {
    faults.push(`${printable(fileName)}: no pair in the list`);
  }
  return pairsOf(entries, faults);
}

/**
 * Names the pairs and refuses lists in which two pairs would meet: a name, a source or a target that is used
 * twice, and a server that is a source here and a target there (A to B and B to A destroy each other's data).
 * Servers are compared by address; aliases of one server are found by the preflight.
 *
 * @param faults found earlier, reported together with those found here
 * @throws HostListError
 */
export function pairsOf(entries: readonly PairEntry[], faults: readonly string[] = []): PairSpec[] {
  const found = [...faults];
  const names = new Map<string, string>();
  const sources = new Map<string, string>();
  const targets = new Map<string, string>();
  const claim = (seen: Map<string, string>, key: string, where: string, what: string): void => {
    const earlier = seen.get(key);
    if (earlier === undefined) seen.set(key, where);
    else found.push(`${where}: ${what} ${printable(key)} is used already at ${earlier}`);
  };

  const pairs = entries.map((entry) => {
    const { where, source, target } = entry;
    const name = entry.name ?? addressOf(source);
    if (entry.name !== null && (name.length > MAX_NAME || printable(name) !== name)) {
      found.push(`${where}: the name must have at most ${MAX_NAME} visible characters`);
    }
    // a name made from a source that is listed twice would only repeat the fault of the source
    if (entry.name !== null || !sources.has(name)) claim(names, name, where, 'the name');
    claim(sources, addressOf(source), where, 'the source');
    claim(targets, addressOf(target), where, 'the target');
    return { name, source, target };
  });
  for (const [address, where] of sources) {
    const other = targets.get(address);
    if (other === where) found.push(`${where}: source and target are the same server, ${address}`);
    else if (other !== undefined) {
      found.push(`${where}: the source ${address} is the target at ${other}`);
    }
  }

  if (found.length > 0) throw new HostListError(found);
  return pairs;
}
