/**
 * RESTORE in the source's stream, as a client of the source has sent it (protocol.md 3.7, 3.8): its options as the target
 * knows them, its value in a form that the target takes, and the expiry of fields held back where it is near. Rows of
 * lowering.ts.
 */
import { RdbFormatError } from '../../core/errors.ts';
import { payloadLength, payloadOf, stampOf } from '../../rdb/dump-payload.ts';
import { type Form, formOf, planForm } from '../../rdb/forms.ts';
import { moduleTypeName } from '../../rdb/module-type.ts';
import { TYPE } from '../../rdb/opcodes.ts';
import { type Loss, type Transcoded, transcode } from '../../rdb/transcode.ts';
import { heldHash } from './held-ttls.ts';
import type { LoweringContext, LoweringRow, StreamLoss } from './lowering.ts';
import { COUNTERS_LOST, IDMP_LOST, XNACK_LOST } from './lowering-streams.ts';
import { kindOf } from './skipped.ts';
import { indexOfOption, lowerCase, type Word } from './words.ts';

const RESTORE_FORMS = [
  ...['restoreReplace', 'restoreAbsttl'],
  ...['rdb7', 'rdb8', 'rdb9', 'rdb10', 'rdb11', 'rdb12', 'rdb13', 'rdb14', 'rdb80'],
] as LoweringRow[1];

export const RESTORE_LOWERINGS: readonly LoweringRow[] = [
  ['restore', RESTORE_FORMS, lowerRestore],
  ['restore-asking', RESTORE_FORMS, lowerRestore],
];

export const FIELD_TTLS_LOST: StreamLoss = { what: 'expiries of fields in hashes', matters: true };

const LOSSES: Readonly<Record<Loss, StreamLoss>> = {
  'field-ttls': FIELD_TTLS_LOST,
  'stream-producers': IDMP_LOST,
  'stream-nacks': XNACK_LOST,
  'stream-counters': COUNTERS_LOST,
};

/** From this version on a payload is Valkey's. */
const FIRST_OF_VALKEY = 80;

/** RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n] */
function lowerRestore(words: readonly Word[], context: LoweringContext): Word[][] {
  const [name, key, ttl, payload] = words;
  if (name === undefined || key === undefined || ttl === undefined || !Buffer.isBuffer(payload)) {
    return [words.slice()];
  }
  const replace = indexOfOption(words, 'replace', 4) >= 0;
  const value = valueFor(key, payload, context);
  // what it took the place of on the source is gone there
  if (value === null) return replace ? [['DEL', key]] : [];
  const { missing } = context;
  const absolute = indexOfOption(words, 'absttl', 4) >= 0;
  if (!missing.has('restoreAbsttl')) {
    const restore = [name, key, ttl, value, ...words.slice(4)];
    // a target without the module refuses it, and must not keep what was there
    return replace && value[0] === TYPE.module2 ? [['DEL', key], restore] : [restore];
  }
  const old = replace && missing.has('restoreReplace');
  const commands: Word[][] = old ? [['DEL', key]] : [];
  commands.push([name, key, absolute ? '0' : ttl, value, ...(replace && !old ? ['REPLACE'] : [])]);
  if (absolute && lowerCase(ttl) !== '0') commands.push(['PEXPIREAT', key, ttl]);
  return commands;
}

/** The payload as the target can take it; null: it takes no such value. */
function valueFor(key: Word, payload: Buffer, context: LoweringContext): Buffer | null {
  const end = payload.length - payloadLength(0) + 1;
  const type = payload[0];
  if (type === undefined || end < 1) return payload;
  const version = payload.readUInt16LE(end);
  const family = version >= FIRST_OF_VALKEY ? 'valkey' : 'redis';
  const stamp = stampOf(type, family);
  // a type that nobody knows is the target's to judge
  if (stamp === null) return payload;
  const form = formOf(type, family);
  const wanted = planForm(form, context.forms);
  if (wanted === null) {
    const module = type === TYPE.module2 ? (moduleTypeName(payload, 1, end, 0) ?? '?') : '';
    context.lacks(kindOf(form, module), key);
    return null;
  }
  if (wanted === form) {
    const value = payload.subarray(1, end);
    return held(key, form, value, context) ?? (version > stamp ? payloadOf(form, value) : payload);
  }
  const older = inForm(form, wanted, payload, end);
  if (older === null) return payload;
  for (const loss of older.losses) context.lose(LOSSES[loss]);
  return held(key, older.form, older.value, context) ?? payloadOf(older.form, older.value);
}

/** null: it is damaged, and the target may judge it, as the source did. */
function inForm(form: Form, wanted: Form, payload: Buffer, end: number): Transcoded | null {
  try {
    return transcode(form, wanted, payload, 1, end, 0);
  } catch (error) {
    if (error instanceof RdbFormatError) return null;
    throw error;
  }
}

/** The payload of a hash of which fields expire too soon, all of them later; null: of any other value. */
function held(key: Word, form: Form, value: Buffer, { ttls, db }: LoweringContext): Buffer | null {
  if (ttls === null) return null;
  const name = Buffer.from(key as string);
  const later = heldHash(
    ttls,
    form,
    { db, key: name, keyStart: 0, keyEnd: name.length },
    value,
    0,
    value.length,
    0,
  );
  return later === null ? null : payloadOf(later.form, later.value);
}
