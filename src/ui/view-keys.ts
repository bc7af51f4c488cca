/** Arrows and their like: the escape sequences that a terminal sends, read into keys of the view (view.ts). Pure. */
import type { ViewKey } from './view.ts';

/** ECMA-48 (`CSI`), the keypad's application mode (`SS3`), and what rxvt, the Linux console and tmux send. */
const SEQUENCES: Readonly<Record<string, ViewKey>> = {
  '\x1b[A': 'up',
  '\x1bOA': 'up',
  '\x1b[B': 'down',
  '\x1bOB': 'down',
  '\x1b[5~': 'page-up',
  '\x1b[6~': 'page-down',
  '\x1b[H': 'home',
  '\x1bOH': 'home',
  '\x1b[1~': 'home',
  '\x1b[7~': 'home',
  '\x1b[F': 'end',
  '\x1bOF': 'end',
  '\x1b[4~': 'end',
  '\x1b[8~': 'end',
};

/** One whole sequence, or Alt and a key. */
const WHOLE = /^\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]|O[\x20-\x7e]|[^[O])/s;
/** The beginning of one. */
const BEGUN = /^\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*|O)?$/;
/** No sequence that a keyboard sends is as long: what is waited for must not grow. */
const LONGEST = 32;

/**
 * The keys in `text`, which begins with ESC, and what is left of it: the beginning of a sequence that goes on in the
 * next chunk. ESC alone may be such a beginning, or the key. What is no sequence is dropped, with all behind it.
 */
export function readViewKeys(text: string): { readonly keys: readonly ViewKey[]; readonly rest: string } {
  const keys: ViewKey[] = [];
  let rest = text;
  for (let found = WHOLE.exec(rest); found !== null; found = WHOLE.exec(rest)) {
    const key = SEQUENCES[found[0]];
    if (key !== undefined) keys.push(key);
    rest = rest.slice(found[0].length);
  }
  return { keys, rest: BEGUN.test(rest) && rest.length <= LONGEST ? rest : '' };
}
