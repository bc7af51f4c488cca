/**
 * The forms in which a value can be written: type ids, told apart where Redis and Valkey mean different things by one
 * (protocol.md 3.1). And which older form holds what a newer one does (3.8): what a target does not take is written in
 * the first of those that it takes, by transcode.ts.
 */
import { type RdbFamily, TYPE } from './opcodes.ts';

/** A type id; for the ids that are Valkey's alone, VALKEY_ONLY is added. */
export type Form = number;

const VALKEY_ONLY = 0x100;
/** From here on the two families number their types apart. */
const FIRST_APART = 22;

/** Forms beyond TYPE, in which both families agree. */
export const FORM = {
  /** Hashes whose fields expire, as 7.4 wrote them before its release. */
  hashTtlsPreGa: 22,
  hashTtlsListpackPreGa: 23,
  hashTtls: 24,
  hashTtlsListpack: 25,
  /** VALKEY_ONLY | 22, written out so that it has a type of its own. */
  hashTtlsValkey: 0x116,
  stream4: 26,
  stream5: 27,
  array: 28,
} as const;

export function formOf(type: number, family: RdbFamily): Form {
  return family === 'valkey' && type >= FIRST_APART ? VALKEY_ONLY | type : type;
}

/** The type id that formOf() was given. */
export function typeOf(form: Form): number {
  return form & 0xff;
}

/** Whose type id it is; `redis` where the families agree. */
export function familyOf(form: Form): RdbFamily {
  return form >= VALKEY_ONLY ? 'valkey' : 'redis';
}

const OLDER: ReadonlyMap<Form, readonly Form[]> = new Map([
  [TYPE.zset2, [TYPE.zset]],
  [TYPE.quicklist, [TYPE.list]],
  [TYPE.quicklist2, [TYPE.list]],
  [TYPE.hashListpack, [TYPE.hash]],
  [TYPE.zsetListpack, [TYPE.zset]],
  [TYPE.setListpack, [TYPE.set]],
  [TYPE.stream2, [TYPE.stream]],
  [TYPE.stream3, [TYPE.stream2, TYPE.stream]],
  [FORM.stream4, [TYPE.stream3, TYPE.stream2, TYPE.stream]],
  [FORM.stream5, [FORM.stream4, TYPE.stream3, TYPE.stream2, TYPE.stream]],
  [FORM.hashTtlsPreGa, [FORM.hashTtls, FORM.hashTtlsValkey, TYPE.hash]],
  [FORM.hashTtlsListpackPreGa, [FORM.hashTtls, FORM.hashTtlsValkey, TYPE.hash]],
  [FORM.hashTtls, [FORM.hashTtlsValkey, TYPE.hash]],
  [FORM.hashTtlsListpack, [FORM.hashTtls, FORM.hashTtlsValkey, TYPE.hash]],
  [FORM.hashTtlsValkey, [FORM.hashTtls, TYPE.hash]],
] as [Form, Form[]][]);

/**
 * The form in which a value goes to a target that takes `taken`: its own where it can, else an older one.
 * @returns null where there is none
 */
export function planForm(form: Form, taken: ReadonlySet<Form>): Form | null {
  if (taken.has(form)) return form;
  return OLDER.get(form)?.find((older) => taken.has(older)) ?? null;
}
