/** CPU time and memory of other processes, from /proc: Linux only, NaN elsewhere. */
import { readFileSync } from 'node:fs';

export interface Usage {
  /** User and system together. */
  readonly cpuSeconds: number;
  /** The most that was resident at once; of several processes the sum of each one's own peak. */
  readonly peakBytes: number;
}

/** The unit of /proc/PID/stat, the same on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Peaks are the kernel's own, so that looking seldom costs no more than a process that ends between two looks. */
const SAMPLE_MS = 200;

/** Seconds that a process and its ended children (a server's BGSAVE) have used; NaN where that is not known. */
export function cpuSecondsWithChildren(pid: number): number {
  const [user, system, childUser, childSystem] = cpuTicks(pid);
  return (user + system + childUser + childSystem) / TICKS_PER_SECOND;
}

/** Watches a process and all below it. What ends meanwhile still counts, as it was seen last. */
export class ProcessMeter {
  readonly #root: number;
  readonly #seen = new Map<number, Usage>();
  readonly #timer: NodeJS.Timeout;

  constructor(root: number) {
    this.#root = root;
    this.#timer = setInterval(() => this.#look(), SAMPLE_MS);
    this.#timer.unref();
  }

  /** What all of them have used until now. */
  read(): Usage {
    this.#look();
    const all = [...this.#seen.values()];
    if (all.length === 0) return { cpuSeconds: Number.NaN, peakBytes: Number.NaN };
    return {
      cpuSeconds: all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
      peakBytes: all.reduce((sum, { peakBytes }) => sum + peakBytes, 0),
    };
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const pids = [this.#root];
    for (const pid of pids) {
      const [user, system] = cpuTicks(pid);
      const peakBytes = residentPeak(pid);
      // a process that has just ended has no memory any more
      if (Number.isFinite(user + peakBytes)) {
        this.#seen.set(pid, { cpuSeconds: (user + system) / TICKS_PER_SECOND, peakBytes });
      }
      pids.push(...childrenOf(pid));
    }
  }
}

type CpuTicks = readonly [user: number, system: number, childUser: number, childSystem: number];

function cpuTicks(pid: number): CpuTicks {
  const stat = textOf(`/proc/${pid}/stat`);
  // the name, in parentheses, may hold anything; behind it come the third field and those that follow
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const field = (at: number): number => fields[at - 3] ?? Number.NaN;
  return [field(14), field(15), field(16), field(17)];
}

function residentPeak(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(textOf(`/proc/${pid}/status`))?.[1];
  return Number(kilobytes ?? Number.NaN) * 1024;
}

/** Node starts all of its children from the main thread. */
function childrenOf(pid: number): number[] {
  return textOf(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
}

/** '' where there is no such file, or none any more. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
