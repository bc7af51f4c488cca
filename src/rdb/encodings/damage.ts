/** How the decoders of this folder and lzf.ts say that bytes are not what the format allows. */
import { RdbFormatError } from '../../core/errors.ts';

/**
 * The error for a damaged value.
 * @param what the container or encoding, for people: `listpack`, `LZF string`
 * @param at where in the container's own bytes it was noticed
 * @param offset RDB offset at which the container begins; the error keeps this one, since a container that was
 *   decompressed has no more exact one
 */
export function damage(what: string, problem: string, at: number, offset: number): RdbFormatError {
  return new RdbFormatError(`damaged ${what}: ${problem} at its byte ${at}`, offset);
}
