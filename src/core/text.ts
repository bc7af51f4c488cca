/** Text that came from outside (names, URIs, server errors, keys) made safe for a terminal, a log or a report. */

// Controls (C0, DEL, C1), line separators, lone surrogates, and all that is drawn as nothing or turns the writing round:
// bidi controls, zero-width characters, fillers, tags, BOM.
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** Every control or invisible character becomes a visible escape; at most `maxLength` characters are kept. */
export function printable(text: string, maxLength = 300): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(UNSAFE, (char) => {
    const code = char.codePointAt(0) ?? 0;
    if (char === '\n') return '\\n';
    if (char === '\r') return '\\r';
    if (char === '\t') return '\\t';
    if (code > 0xffff) return `\\u{${code.toString(16)}}`;
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/**
 * JSON that is harmless where a terminal shows it, too: what printable() makes visible stands there as an escape of
 * JSON's own, so that a reader gets the text as it was. On one line, unless `indent` is given. NaN and Infinity become
 * null.
 */
export function harmlessJson(value: object, indent = 0): string {
  // a line break can only be one between two fields
  return JSON.stringify(value, null, indent).replace(UNSAFE, (char) =>
    char === '\n' ? char : escapeUnits(char),
  );
}

/** A character beyond U+FFFF is two of them in JSON. */
function escapeUnits(char: string): string {
  const units = Array.from({ length: char.length }, (_, at) => char.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}

/**
 * An error reply without the arguments that servers echo: of unknown commands (all releases), and of ACL SETUSER
 * rules. They can be a password, a key or a value.
 */
export function withoutEchoes(reply: string): string {
  return reply
    .replace(/,? with args beginning with:.*$/s, '')
    .replace(/^((?:ERR )?Error in ACL SETUSER modifier )'.*'(?=: |$)/s, "$1'***'");
}
