/**
 * Whether the kernel has ended a process for want of memory: SIGKILL alone does not say who sent it.
 *
 * In      processes, looked at while they live: their control group is not to be had afterwards
 * Out     who ended it: the kernel, with a sentence of figures and the keys to change; somebody else, where a counter that would have
 *         risen has not; or nobody knows
 * Limits  a kill is known by a counter that has risen: of the process's own control group; else of the whole machine, which may have
 *         been another's, and is told as such
 * Errors  none
 * Source  kernel documentation, admin-guide/cgroup-v2 (memory.events) and cgroup-v1/memory (memory.oom_control); proc(5), vmstat
 */
import { groupFolders, type ReadText, readOrNull } from './machine-limits.js';

const MIB = 1024 * 1024;
/** A limit that is none: version 1 says it by the largest number of pages. */
const NO_LIMIT = 2 ** 60;
const GROUP_FILES = [
  { controller: '', killsFile: 'memory.events', limitFile: 'memory.max' },
  { controller: 'memory', killsFile: 'memory.oom_control', limitFile: 'memory.limit_in_bytes' },
] as const;
const REMEDY =
  'lower option.kv_cache_memory_mb or option.max_rolling_batch_size, take a smaller option.dtype, or give the server more memory';

interface Seen {
  /** The file of the group that counts; null: none does. */
  file: string | null;
  kills: number;
  /** Folders of the groups around it, outermost first, with the file of their limit. */
  limits: readonly string[];
  machineKills: number;
  heldBytes: number;
}

export type Killer = { by: 'kernel'; sentence: string } | { by: 'somebody' } | { by: 'unknown' };

export class MemoryKills {
  readonly #read: ReadText;
  readonly #remedy: string;
  readonly #seen = new Map<number, Seen>();

  /** @param remedy what to change, for messages */
  constructor(read: ReadText = readOrNull, remedy = REMEDY) {
    this.#read = read;
    this.#remedy = remedy;
  }

  /** To be called again now and then: what it holds and where it belongs may change. */
  look(pid: number): void {
    const before = this.#seen.get(pid);
    const heldBytes = this.#heldBytes(pid) ?? before?.heldBytes ?? 0;
    // What has been counted since the first look is asked for at the end.
    const machineKills = before?.machineKills ?? countIn(this.#read('/proc/vmstat')) ?? 0;
    const found = this.#group(pid);
    if (found === null && before !== undefined) {
      this.#seen.set(pid, { ...before, heldBytes });
    } else if (before !== undefined && found?.file === before.file) {
      this.#seen.set(pid, { ...before, limits: found.limits, heldBytes });
    } else {
      const { file, kills, limits } = found ?? { file: null, kills: 0, limits: [] };
      this.#seen.set(pid, { file, kills, limits, machineKills, heldBytes });
    }
  }

  /** A process that has ended by SIGKILL is forgotten. */
  killerOf(pid: number): Killer {
    const seen = this.#seen.get(pid);
    this.#seen.delete(pid);
    if (seen === undefined) return { by: 'unknown' };
    const held = `it held ${Math.round(seen.heldBytes / MIB)} MiB when last seen`;
    const kills = seen.file === null ? null : countIn(this.#read(seen.file));
    if (kills !== null && kills > seen.kills) {
      const limit = this.#tightest(seen.limits);
      const group = limit === null ? 'no limit' : `a limit of ${Math.round(limit / MIB)} MiB`;
      const counted = `${seen.file} counts ${kills}, ${seen.kills} before`;
      return {
        by: 'kernel',
        sentence: `for want of memory (${counted}; its control group has ${group}, ${held}): ${this.#remedy}`,
      };
    }
    const machineKills = countIn(this.#read('/proc/vmstat'));
    if (machineKills !== null && machineKills > seen.machineKills) {
      const others = `the kernel has meanwhile ended ${machineKills - seen.machineKills} process(es) of this machine for it`;
      return { by: 'kernel', sentence: `probably for want of memory (${others}, ${held}): ${this.#remedy}` };
    }
    return { by: kills === null && machineKills === null ? 'unknown' : 'somebody' };
  }

  /** The innermost control group of the process that counts; null: the process is gone, or none does. */
  #group(pid: number): Pick<Seen, 'file' | 'kills' | 'limits'> | null {
    for (const { controller, killsFile, limitFile } of GROUP_FILES) {
      const folders = groupFolders(this.#read, controller, pid);
      for (const folder of folders.toReversed()) {
        const file = `${folder}/${killsFile}`;
        const kills = countIn(this.#read(file));
        if (kills !== null) return { file, kills, limits: folders.map((one) => `${one}/${limitFile}`) };
      }
    }
    return null;
  }

  #tightest(limits: readonly string[]): number | null {
    const bytes = limits
      .map((file) => Number(this.#read(file) ?? Number.NaN))
      .filter((limit) => Number.isFinite(limit) && limit < NO_LIMIT);
    return bytes.length === 0 ? null : Math.min(...bytes);
  }

  #heldBytes(pid: number): number | null {
    const status = this.#read(`/proc/${pid}/status`);
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status ?? '')?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  }
}

function countIn(text: string | null): number | null {
  const count = /^oom_kill (\d+)$/m.exec(text ?? '')?.[1];
  return count === undefined ? null : Number(count);
}
