/**
 * What this process may use of the machine: cores and memory, as the container's limits have it.
 *
 * In      /sys/fs/cgroup (version 2, or 1 below its controllers) down to the group that /proc/self/cgroup names: each group on the
 *         way may set a limit; /proc/meminfo, the affinity mask
 * Out     whole cores; bytes
 * Errors  none: a file that is missing or says "max" sets no limit
 * Source  kernel documentation, admin-guide/cgroup-v2: cpu.max, memory.max, memory.current, memory.stat
 */
import { readFileSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';

const CGROUP = '/sys/fs/cgroup';

/** Limit, use and file cache of memory, in version 2 and in 1. */
const MEMORY_FILES = [
  {
    controller: '',
    limitFile: 'memory.max',
    usedFile: 'memory.current',
    cacheKeys: 'inactive_file|active_file',
  },
  {
    controller: 'memory',
    limitFile: 'memory.limit_in_bytes',
    usedFile: 'memory.usage_in_bytes',
    cacheKeys: 'total_inactive_file|total_active_file',
  },
] as const;

export type ReadText = (file: string) => string | null;

/** Cores: the affinity mask, and the cgroup's share of time rounded down; at least 1. */
export function usableCores(read: ReadText = readOrNull, affinity = availableParallelism()): number {
  const shares = groupFolders(read, '').map((folder) => {
    const [quota, period] = (read(`${folder}/cpu.max`) ?? '').trim().split(/\s+/).map(Number);
    return (quota ?? Number.NaN) / (period ?? Number.NaN);
  });
  for (const folder of groupFolders(read, 'cpu')) {
    const quota = Number(read(`${folder}/cpu.cfs_quota_us`) ?? Number.NaN);
    shares.push(quota / Number(read(`${folder}/cpu.cfs_period_us`) ?? Number.NaN));
  }
  const limits = shares.filter((share) => Number.isFinite(share) && share > 0).map(Math.floor);
  return Math.max(1, Math.min(affinity, ...limits));
}

/** Bytes that can still be had: of the machine, and of the cgroup (its file cache counts as free, as in the kernel's MemAvailable). */
export function availableMemory(read: ReadText = readOrNull): number {
  const machine = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '')?.[1];
  const candidates = [machine === undefined ? freemem() : Number(machine) * 1024];
  for (const { controller, limitFile, usedFile, cacheKeys } of MEMORY_FILES) {
    for (const folder of groupFolders(read, controller)) {
      const limit = Number(read(`${folder}/${limitFile}`) ?? Number.NaN);
      const used = Number(read(`${folder}/${usedFile}`) ?? Number.NaN);
      if (!Number.isFinite(limit) || !Number.isFinite(used)) continue;
      const stat = read(`${folder}/memory.stat`) ?? '';
      let cache = 0;
      for (const match of stat.matchAll(new RegExp(`^(?:${cacheKeys}) (\\d+)$`, 'gm')))
        cache += Number(match[1]);
      candidates.push(Math.max(0, limit - used + cache));
    }
  }
  return Math.min(...candidates);
}

/**
 * Folders of a process's group and of all groups around it, outermost first.
 *
 * @param controller of version 1; '': version 2
 */
export function groupFolders(read: ReadText, controller: string, pid: number | 'self' = 'self'): string[] {
  const root = controller === '' ? CGROUP : `${CGROUP}/${controller}`;
  const own = (read(`/proc/${pid}/cgroup`) ?? '')
    .split('\n')
    .map((line) => /^\d+:([^:]*):(\/.*)$/.exec(line))
    .find((match) => (match?.[1] ?? 'none').split(',').includes(controller))?.[2];
  const folders = [root];
  for (const name of (own ?? '').split('/').filter((part) => part !== '')) {
    folders.push(`${folders.at(-1)}/${name}`);
  }
  return folders;
}

/** null: the kernel has no such file, or this process may not read it. */
export function readOrNull(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
