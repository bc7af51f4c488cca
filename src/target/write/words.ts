/** Words of commands, as the rules of the stream look at them and write them. */

/** Of the source: a Buffer. Of ours: either. */
export type Word = string | Buffer;

/** Options and numbers are no longer than this. */
const LONGEST_OPTION = 32;

/** A word in lower case as an option or a number; '' where there is none, or it is too long to be one. */
export function lowerCase(word: Word | undefined): string {
  if (word === undefined || word.length > LONGEST_OPTION) return '';
  return (typeof word === 'string' ? word : word.toString('latin1')).toLowerCase();
}

/** Where `option` stands at `from` or later; -1: nowhere. */
export function indexOfOption(words: readonly Word[], option: string, from: number): number {
  return words.findIndex((word, index) => index >= from && lowerCase(word) === option);
}
