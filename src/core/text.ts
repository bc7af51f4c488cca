/** Text that came from outside (names, URIs, server errors, keys) made safe for a terminal, a log or a report. */

// C0 and C1 controls, DEL, bidi controls and isolates, zero-width and line separators, BOM, and lone surrogates.
const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Every control or invisible character becomes a visible escape; at most `maxLength` characters are kept. */
export function printable(text: string, maxLength = 300): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(UNSAFE, (char) => {
    const code = char.charCodeAt(0);
    if (char === '\n') return '\\n';
    if (char === '\r') return '\\r';
    if (char === '\t') return '\\t';
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
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
