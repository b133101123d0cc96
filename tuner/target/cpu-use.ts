/**
 * Who used the processor in a span of time: the processes under test, or others.
 *
 * In      ids of the processes under test (this one is counted with them)
 * Out     shares of the machine's whole processor time, 0…1
 * Limits  the kernel counts in ticks of 10 ms: a span below half a second says little
 * Errors  none: a process that is gone counts as 0
 * Source  proc(5): /proc/stat (stolen time counts as others'), /proc/PID/stat
 */
import { readFileSync } from 'node:fs';

/** Seconds a tick: what the kernel shows to programs, whatever its own clock. */
const TICK_SECONDS = 0.01;
/** A measurement beside more use of the machine by others than this is marked, and repeated. */
export const NOISE_LIMIT = 0.03;

export interface CpuShares {
  seconds: number;
  others: number;
  /** Each process's, in the order they were given; 1 is one core. */
  own: number[];
}

/** Begins to count. @returns the end: what was used since */
export function watchCpu(pids: readonly (number | undefined)[]): () => CpuShares {
  const begin = readUse(pids);
  const started = performance.now();
  return () => {
    const end = readUse(pids);
    const seconds = (performance.now() - started) / 1000;
    const own = end.own.map((used, index) => used - (begin.own[index] ?? 0));
    const ours = own.reduce((sum, used) => sum + used, end.self - begin.self);
    return {
      seconds,
      others: Math.max(0, end.busy - begin.busy - ours) / (end.all - begin.all),
      own: own.map((used) => used / seconds),
    };
  };
}

interface Use {
  /** Seconds, over all cores. */
  busy: number;
  all: number;
  self: number;
  own: number[];
}

function readUse(pids: readonly (number | undefined)[]): Use {
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = (
    /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? ''
  )
    .split(' ')
    .map((ticks) => Number(ticks) * TICK_SECONDS);
  const busy = user + nice + system + irq + softirq + steal;
  return {
    busy,
    all: busy + idle + iowait,
    self: processSeconds(process.pid),
    own: pids.map(processSeconds),
  };
}

/** All threads', ended ones too. */
export function processSeconds(pid: number | undefined): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name before, in parentheses, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_SECONDS;
  } catch {
    return 0;
  }
}

/** The samples that were measured beside nothing else; all of them, where fewer than half were. */
export function quietOf<T extends { isClean: boolean }>(samples: readonly T[]): readonly T[] {
  const quiet = samples.filter(({ isClean }) => isClean);
  return quiet.length * 2 >= samples.length ? quiet : samples;
}
