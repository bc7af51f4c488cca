/** What a target can take, by its release (protocol.md 2.4, 4.1). Asked by the writers, filled by the preflight. */
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
}

export function capabilitiesOf(version: {
  readonly major: number;
  readonly minor: number;
}): TargetCapabilities {
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
  };
}
