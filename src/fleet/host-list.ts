/**
 * A host list: which columns it has, and what its fields must be. The forms that it can have are in list-formats.ts,
 * what comes of the pairs in cli/pairs.ts.
 */
import type { AuthReferences, Endpoint, TlsReferences } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { type Field, formatOf, type ListFault, type Row, readList } from './list-formats.ts';
import type { HostList, PairEntry } from './pair-entries.ts';

/** The columns of every host list; further ones are options of the command line. */
export const LIST_COLUMNS = [
  { name: 'source', help: 'URI of the server to leave' },
  { name: 'target', help: 'URI of the server to move to' },
  { name: 'name', help: "name of the pair, unique (default: the source's host:port)" },
  {
    name: 'wave',
    help: 'number or word: pairs of one wave are cut over together, waves in order of appearance',
  },
  { name: 'auth', help: 'where the password of both sides is: env:NAME or file:PATH' },
  { name: 'src-auth', help: 'the same of the source alone' },
  { name: 'dst-auth', help: 'the same of the target alone' },
  { name: 'cacert', help: 'as --cacert, for the servers of this pair' },
  { name: 'cert', help: 'as --cert, for the servers of this pair' },
  { name: 'key', help: 'as --key, for the servers of this pair' },
  { name: 'sni', help: 'as --sni, for the servers of this pair' },
] as const;
type ListColumn = (typeof LIST_COLUMNS)[number]['name'];

const MAX_NAME = 64;

/**
 * Reads a host list; nothing is thrown for what is wrong in it.
 *
 * @param fileName what to call the list in messages; its extension says the format, where it is a known one
 * @param optionColumns names of the options that a pair may have of its own
 * @param parseEndpoint reads one URI (cli/uri.ts); its second argument is the name of the column. Throws UsageError
 */
export function parseHostList(
  text: string,
  fileName: string,
  optionColumns: readonly string[],
  parseEndpoint: EndpointParser,
): HostList {
  const format = formatOf(fileName, text);
  const columns = [...LIST_COLUMNS.map(({ name }) => name), ...optionColumns];
  const { rows, faults } = readList(text, format, columns);
  const placeOf = (line: number): string => `${printable(fileName)}:${line}`;
  const found = [...faults];
  const entries = rows.flatMap((row): PairEntry[] => {
    const reader = new RowReader(row, found, parseEndpoint);
    const pair = reader.read();
    if (pair === null) return [];
    const settings = [...row.fields].filter(([column]) => optionColumns.includes(column));
    return [
      {
        ...pair,
        where: placeOf(row.line),
        settings: new Map(
          settings.map(([column, { text, line }]) => [column, { text, where: placeOf(line) }]),
        ),
      },
    ];
  });
  if (rows.length === 0 && found.length === 0) {
    const fault = `${printable(fileName)}: no pair in the list (read as ${FORMAT_NAMES[format]})`;
    return { entries, faults: [fault] };
  }
  found.sort((a, b) => a.line - b.line);
  return { entries, faults: found.map(({ line, message }) => `${placeOf(line)}: ${message}`) };
}

const FORMAT_NAMES = { csv: 'CSV', yaml: 'YAML', ndjson: 'NDJSON', lines: 'plain lines' } as const;

type EndpointParser = (uri: string, where: string) => Endpoint;

const TLS_COLUMNS = ['cacert', 'cert', 'key', 'sni'] as const;

/** What LIST_COLUMNS say of one pair; all that is wrong with it goes to the faults. */
class RowReader {
  readonly #row: Row;
  readonly #faults: ListFault[];
  readonly #parseEndpoint: EndpointParser;

  constructor(row: Row, faults: ListFault[], parseEndpoint: EndpointParser) {
    this.#row = row;
    this.#faults = faults;
    this.#parseEndpoint = parseEndpoint;
  }

  /** null where there is no source or no target. */
  read(): Omit<PairEntry, 'where' | 'settings'> | null {
    const source = this.#endpoint('source');
    const target = this.#endpoint('target');
    const name = this.#matching('name', isName, `at most ${MAX_NAME} visible characters`);
    const wave = this.#matching('wave', isWave, 'a number or a word of at most 32 letters');
    const auth = this.#auth();
    const tls = this.#tls();
    if (tls !== null && source?.tls === null && target?.tls === null) {
      const fault = `${Object.keys(tls).join(', ')} without effect: neither server is given as rediss://`;
      this.#faults.push({ line: this.#row.line, message: fault });
    }
    if (source === null || target === null) return null;
    return {
      name,
      source,
      target,
      ...(wave === null ? {} : { wave }),
      ...(auth === null ? {} : { auth }),
      ...(tls === null ? {} : { tls }),
    };
  }

  #field(column: ListColumn): Field | undefined {
    return this.#row.fields.get(column);
  }

  #endpoint(column: 'source' | 'target'): Endpoint | null {
    const field = this.#field(column);
    if (field === undefined) {
      this.#faults.push({ line: this.#row.line, message: `${column} is missing` });
      return null;
    }
    try {
      return this.#parseEndpoint(field.text, column);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      this.#faults.push({ line: field.line, message: `${error.message} (${error.hint})` });
      return null;
    }
  }

  /** The field; null, with a fault, where it does not fit: what may be a password must not go any further. */
  #matching(column: ListColumn, fits: (text: string) => boolean, wanted: string): string | null {
    const field = this.#field(column);
    if (field === undefined) return null;
    if (fits(field.text)) return field.text;
    this.#faults.push({ line: field.line, message: `the ${column} must be ${wanted}` });
    return null;
  }

  #auth(): AuthReferences | null {
    // not repeated in a message: somebody may have put the password itself here
    const wanted = 'env:NAME or file:PATH, where the password is (not shown)';
    const both = this.#matching('auth', isReference, wanted);
    const source = this.#matching('src-auth', isReference, wanted) ?? both;
    const target = this.#matching('dst-auth', isReference, wanted) ?? both;
    if (source === null && target === null) return null;
    return { ...(source === null ? {} : { source }), ...(target === null ? {} : { target }) };
  }

  #tls(): TlsReferences | null {
    const given = TLS_COLUMNS.flatMap((column) => {
      const field = this.#field(column);
      return field === undefined ? [] : [[column, field.text] as const];
    });
    return given.length === 0 ? null : Object.fromEntries(given);
  }
}

function isName(text: string): boolean {
  return text.length <= MAX_NAME && printable(text) === text;
}

function isWave(text: string): boolean {
  return /^[\p{L}\p{N}._-]{1,32}$/u.test(text);
}

function isReference(text: string): boolean {
  return /^(env|file):./.test(text);
}
