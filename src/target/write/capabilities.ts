/** What a target can take, by its release (protocol.md 2.4, 3.7, 4.1). Asked by the writers, filled by the preflight. */
import { FORM, type Form } from '../../rdb/forms.ts';
import { type RdbFamily, TYPE } from '../../rdb/opcodes.ts';

export interface TargetCapabilities {
  /** SET … PXAT: 6.2. */
  readonly setPxat: boolean;
  /** RESTORE … REPLACE: 3.0. */
  readonly restoreReplace: boolean;
  /** RESTORE … ABSTTL: 5.0. */
  readonly restoreAbsttl: boolean;
  /** RESTORE … IDLETIME and FREQ: 5.0. */
  readonly restoreIdle: boolean;
  /** FUNCTION: 7.0. */
  readonly functions: boolean;
  /** ACL: 6.0. */
  readonly acl: boolean;
  /**
   * EXEC executes nothing where a command behind MULTI was refused, whatever for: 6.0. Before, one that a replica refuses
   * is merely missing (run on 2.8.17, 3.2.6 and 5.0.10).
   */
  readonly execIsWhole: boolean;
  /** The forms of values that RESTORE takes. Only what the release promises: probe.ts asks the target itself. */
  readonly forms: ReadonlySet<Form>;
}

/** What each server that has RESTORE takes (2.6). */
export const EVERY_TARGET_TAKES: readonly Form[] = [
  TYPE.string,
  TYPE.list,
  TYPE.set,
  TYPE.zset,
  TYPE.hash,
  TYPE.hashZipmap,
  TYPE.listZiplist,
  TYPE.setIntset,
  TYPE.zsetZiplist,
  TYPE.hashZiplist,
];

type Version = readonly [major: number, minor: number];

/** The release from which on others are taken, by family; null: none. Valkey began with what Redis 7.2 had. */
const TAKEN_SINCE: readonly (readonly [
  forms: readonly Form[],
  redis: Version | null,
  valkey: Version | null,
])[] = [
  [[TYPE.quicklist], [3, 2], [7, 2]],
  // of a module: the target may lack just that one
  [
    [TYPE.zset2, TYPE.module2],
    [4, 0],
    [7, 2],
  ],
  [[TYPE.stream], [5, 0], [7, 2]],
  [
    [TYPE.hashListpack, TYPE.zsetListpack, TYPE.quicklist2, TYPE.stream2],
    [7, 0],
    [7, 2],
  ],
  [
    [TYPE.setListpack, TYPE.stream3],
    [7, 2],
    [7, 2],
  ],
  [[FORM.hashTtlsPreGa, FORM.hashTtlsListpackPreGa, FORM.hashTtls, FORM.hashTtlsListpack], [7, 4], null],
  [[FORM.hashTtlsValkey], null, [9, 0]],
  [[FORM.stream4], [8, 6], null],
  [[FORM.stream5, FORM.array], [8, 8], null],
];

/** @param version of the command set: for Valkey its own, see ServerInfo.commandLevel */
export function capabilitiesOf(
  version: { readonly major: number; readonly minor: number },
  family: RdbFamily = 'redis',
): TargetCapabilities {
  const since = (major: number, minor: number): boolean =>
    version.major > major || (version.major === major && version.minor >= minor);
  return {
    setPxat: since(6, 2),
    restoreReplace: since(3, 0),
    restoreAbsttl: since(5, 0),
    restoreIdle: since(5, 0),
    functions: since(7, 0),
    acl: since(6, 0),
    execIsWhole: since(6, 0),
    forms: new Set([
      ...EVERY_TARGET_TAKES,
      ...TAKEN_SINCE.flatMap(([forms, redis, valkey]) => {
        const first = family === 'valkey' ? valkey : redis;
        return first !== null && since(...first) ? forms : [];
      }),
    ]),
  };
}
