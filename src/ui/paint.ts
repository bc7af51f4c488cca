/** Colours of the terminal, or none. Text is cut and padded before it is painted: escapes have no width. */

const CODES = { dim: 2, inverse: 7, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
type Style = keyof typeof CODES;

export type Paint = (style: Style, text: string) => string;

export const noPaint: Paint = (_style, text) => text;

export const ansiPaint: Paint = (style, text) => `\x1b[${CODES[style]}m${text}\x1b[0m`;
