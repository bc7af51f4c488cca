/**
 * The forms that a host list can have (CSV, YAML, NDJSON, plain lines): text in, one row per pair out, each field with
 * the line that it stands on. What the fields mean is host-list.ts's business. No fault repeats a field: it may be a
 * password.
 */
import { extname } from 'node:path';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';

export type ListFormat = 'csv' | 'yaml' | 'ndjson' | 'lines';

export interface Field {
  readonly text: string;
  /** Counted from 1. */
  readonly line: number;
}

/** What is written of one pair, by the names of the columns; empty fields are left out. */
export interface Row {
  readonly line: number;
  readonly fields: ReadonlyMap<string, Field>;
}

export interface ListFault {
  readonly line: number;
  readonly message: string;
}

/** All rows that can be understood, and what is wrong with the others. */
export interface ListContent {
  readonly rows: readonly Row[];
  readonly faults: readonly ListFault[];
}

const EXTENSIONS: Readonly<Record<string, ListFormat>> = {
  '.csv': 'csv',
  '.yaml': 'yaml',
  '.yml': 'yaml',
  '.ndjson': 'ndjson',
  '.jsonl': 'ndjson',
};

const PLAIN_COLUMNS = ['source', 'target', 'name', 'wave'] as const;

/** The format by the extension of the file's name; where that says nothing, by the first line that is no comment. */
export function formatOf(fileName: string, text: string): ListFormat {
  const byName = EXTENSIONS[extname(fileName).toLowerCase()];
  if (byName !== undefined) return byName;
  const first = linesOf(text)[0]?.text.trim() ?? '';
  // a flow list; an IPv6 address in brackets is none
  if (/^(---|-|-\s.*|pairs\s*:.*|[\w-]+:(\s.*)?)$/.test(first) || /^\[\s*([{"].*)?$/.test(first))
    return 'yaml';
  if (first.startsWith('{')) return first.endsWith('}') ? 'ndjson' : 'yaml';
  const header = (csvCells(first, separatorOf(first)) ?? []).map(columnName);
  return header.includes('source') && header.includes('target') ? 'csv' : 'lines';
}

/**
 * Reads a list.
 *
 * @param columns the names that a column may have; plain lines have `source target [name] [wave]`
 */
export function readList(text: string, format: ListFormat, columns: readonly string[]): ListContent {
  const sheet = new Sheet(columns);
  switch (format) {
    case 'csv':
      readCsv(text, sheet);
      break;
    case 'yaml':
      readYaml(text, sheet);
      break;
    case 'ndjson':
      readNdjson(text, sheet);
      break;
    case 'lines':
      readPlainLines(text, sheet);
      break;
  }
  return sheet;
}

/** `Flush_Target` is `flush-target`. */
function columnName(text: string): string {
  return text.trim().toLowerCase().replaceAll('_', '-');
}

/** The rows and the faults so far. */
class Sheet implements ListContent {
  readonly rows: Row[] = [];
  readonly faults: ListFault[] = [];
  readonly #columns: readonly string[];

  constructor(columns: readonly string[]) {
    this.#columns = columns;
  }

  fault(line: number, message: string): void {
    this.faults.push({ line, message });
  }

  /** The column that is meant; null, with a fault, where there is none of that name. */
  column(text: string, line: number): string | null {
    const name = columnName(text);
    if (this.#columns.includes(name)) return name;
    // shown only where it can hardly be anything else than a name
    const shown = /^[a-z][a-z-]{0,29}$/.test(name) ? ` "${name}"` : '';
    this.fault(line, `there is no column${shown}; there are ${this.#columns.join(', ')}`);
    return null;
  }

  /** A row of fields that stand each on a line of its own, or all on one. */
  row(line: number, fields: readonly (readonly [column: string, field: Field])[]): void {
    const given = new Map<string, Field>();
    for (const [column, field] of fields) {
      const text = field.text.trim();
      if (given.has(column)) this.fault(field.line, `${column} is given twice`);
      else if (text !== '') given.set(column, { ...field, text });
    }
    this.rows.push({ line, fields: given });
  }
}

/** The lines that are neither blank nor comments. */
function linesOf(text: string): { readonly text: string; readonly line: number }[] {
  return text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .map((line, index) => ({ text: line, line: index + 1 }))
    .filter((line) => !/^\s*(#|$)/.test(line.text));
}

function readPlainLines(text: string, sheet: Sheet): void {
  for (const { text: whole, line } of linesOf(text)) {
    const words = whole
      .replace(/\s#.*$/s, '')
      .split(/\s+/)
      .filter((word) => word !== '');
    if (words.length < 2 || words.length > PLAIN_COLUMNS.length) {
      sheet.fault(line, `expected "source target [name] [wave]", found ${words.length} field(s)`);
      continue;
    }
    const fields = PLAIN_COLUMNS.flatMap((column, index) => {
      const word = words[index];
      return word === undefined ? [] : [[column, { text: word, line }] as const];
    });
    sheet.row(line, fields);
  }
}

function readCsv(text: string, sheet: Sheet): void {
  const [header, ...lines] = linesOf(text);
  if (header === undefined) return;
  const separator = separatorOf(header.text);
  const names = csvCells(header.text, separator) ?? [];
  if (!['source', 'target'].every((column) => names.map(columnName).includes(column))) {
    sheet.fault(
      header.line,
      'the first line must name the columns, source and target among them: name,source,target,wave,auth',
    );
    return;
  }
  const columns = names.map((name) => sheet.column(name, header.line));
  for (const { text: whole, line } of lines) {
    const cells = csvCells(whole, separator);
    if (cells === null) {
      sheet.fault(line, 'a quote stands inside a field, or is not closed on its line');
    } else if (cells.length !== columns.length) {
      sheet.fault(line, `found ${cells.length} field(s), the header names ${columns.length}`);
    } else {
      sheet.row(
        line,
        columns.flatMap((column, index) =>
          column === null ? [] : [[column, { text: cells[index] ?? '', line }] as const],
        ),
      );
    }
  }
}

/** Spreadsheets of many countries write semicolons. */
function separatorOf(header: string): string {
  return /[,;\t]/.exec(header)?.[0] ?? ',';
}

/** The cells of one line (RFC 4180, without line breaks in quotes); null where quotes are wrong. */
function csvCells(line: string, separator: string): string[] | null {
  const cell = new RegExp(` *(?:"((?:[^"]|"")*)"|([^"${separator}]*)) *(${separator}|$)`, 'y');
  const cells: string[] = [];
  for (;;) {
    const match = cell.exec(line);
    if (match === null) return null;
    cells.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    if (match[3] === '') return cells;
  }
}

function readNdjson(text: string, sheet: Sheet): void {
  for (const { text: whole, line } of linesOf(text)) {
    const record = parseObject(whole);
    if (record === null) {
      sheet.fault(line, 'expected one JSON object, like {"source": "old-1", "target": "new-1"}');
      continue;
    }
    sheet.row(
      line,
      Object.entries(record).flatMap(([name, value]) => {
        const column = sheet.column(name, line);
        if (column === null || value === null) return [];
        if (typeof value === 'object') {
          sheet.fault(line, `${column} must be a text, a number, true or false`);
          return [];
        }
        return [[column, { text: String(value), line }] as const];
      }),
    );
  }
}

/** JSON.parse's own message repeats the text. */
function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

/** A list of maps, or a map whose `pairs` is that list. */
function readYaml(text: string, sheet: Sheet): void {
  const lines = new LineCounter();
  // failsafe: `no`, `1` and `1e3` stay the texts that they are. The errors' own messages can repeat the text.
  const document = parseDocument(text, { lineCounter: lines, schema: 'failsafe', prettyErrors: false });
  const lineOf = (node: unknown): number => lines.linePos((node as Node | null)?.range?.[0] ?? 0).line || 1;
  for (const { code, pos } of document.errors) {
    sheet.fault(lines.linePos(pos[0]).line, `no YAML: ${code.toLowerCase().replaceAll('_', ' ')}`);
  }
  if (document.errors.length > 0) return;

  const resolved = (node: unknown): unknown => (isAlias(node) ? node.resolve(document) : node);
  const top = document.contents;
  const list = isMap(top) && top.items.length === 1 ? resolved(top.get('pairs', true)) : top;
  if (list === null) return;
  if (!isSeq(list)) {
    sheet.fault(lineOf(top), 'expected a list of pairs, each like "- {source: old-1, target: new-1}"');
    return;
  }
  for (const item of list.items) {
    const map = resolved(item);
    const line = lineOf(item);
    if (!isMap(map)) {
      sheet.fault(
        line,
        'expected a pair with its source and target, like "- {source: old-1, target: new-1}"',
      );
      continue;
    }
    sheet.row(
      line,
      map.items.flatMap(({ key, value }) => {
        const fieldLine = lineOf(key);
        const column = sheet.column(isScalar(key) ? String(key.value) : '', fieldLine);
        const scalar = resolved(value);
        if (column === null || scalar === null) return [];
        if (!isScalar(scalar)) {
          sheet.fault(fieldLine, `${column} must be a text, a number, true or false`);
          return [];
        }
        const isNull = scalar.type === 'PLAIN' && /^(~|null)$/.test(String(scalar.value));
        return [[column, { text: isNull ? '' : String(scalar.value), line: fieldLine }] as const];
      }),
    );
  }
}
