/**
 * HTML that cannot be broken by what stands in it: whatever is put into `html` is encoded, unless it is HTML of ours
 * already. Control characters become visible escapes on the way.
 */
import { printable } from '../core/text.ts';

/** Made by `html` and `trusted` alone. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | number | Html | readonly Part[];

/** A note may be the command that lifts a fence: it is not cut before this. */
const LONGEST = 8_000;
const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.map((text, index) => text + encode(parts[index] ?? '')).join(''));
}

/** Text of this program that is HTML, or CSS, already. */
export function trusted(text: string): Html {
  return new Html(text);
}

export const NO_HTML = trusted('');

function encode(part: Part): string {
  if (part instanceof Html) return part.text;
  if (typeof part === 'number') return String(part);
  if (typeof part !== 'string') return part.map(encode).join('');
  return printable(part, LONGEST).replace(/[&<>"']/g, (char) => ENTITIES[char] ?? '');
}
