/** Says early that the spool comes near its bound on disk, where the pair would end: a pause, or a limit, may last too long. */
import { statfs } from 'node:fs/promises';
import type { Spool } from '../spool/spool.ts';

/** Full to this part: there is still time to let the pair go on. */
const ALARM_AT = 0.8;
const CALM_AT = 0.5;

interface AlarmSettings {
  readonly limitBytes: number;
  /** On the disk of the spool. */
  readonly dir: string;
  readonly note: (message: string) => void;
  /** True while the operator holds the pair back. */
  readonly held: () => boolean;
}

export class SpoolAlarm {
  readonly #spool: Pick<Spool, 'diskBytes'>;
  readonly #settings: AlarmSettings;
  #told = false;

  constructor(spool: Pick<Spool, 'diskBytes'>, settings: AlarmSettings) {
    this.#spool = spool;
    this.#settings = settings;
  }

  /** To be called now and then; once for each time that it fills up. Never throws. */
  async look(): Promise<void> {
    const { diskBytes } = this.#spool;
    if (diskBytes === 0) return;
    const { limitBytes, dir, note, held } = this.#settings;
    const free = await statfs(dir).then(
      ({ bavail, bsize }) => bavail * bsize,
      () => Number.POSITIVE_INFINITY,
    );
    const bound = Math.min(limitBytes, diskBytes + free);
    if (diskBytes < bound * CALM_AT) this.#told = false;
    if (this.#told || diskBytes < bound * ALARM_AT) return;
    this.#told = true;
    const what = held()
      ? 'let the pair go on before: redis-cutover pause --off, throttle --off'
      : 'the target is slower than the source';
    note(
      `the spool holds ${Math.round(diskBytes / 1e6)} MB of the ${Math.round(bound / 1e6)} MB that it can hold, and the pair ends when it is full: ${what}`,
    );
  }
}
