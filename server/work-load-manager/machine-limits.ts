/**
 * What this process may use of the machine: cores and memory, as the container's limits have it.
 *
 * In      /sys/fs/cgroup (version 2, or 1 below its controllers), /proc/meminfo, the affinity mask
 * Out     whole cores; bytes
 * Errors  none: a file that is missing or says "max" sets no limit
 * Source  kernel documentation, admin-guide/cgroup-v2: cpu.max, memory.max, memory.current, memory.stat
 */
import { readFileSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';

const CGROUP = '/sys/fs/cgroup';

export type ReadText = (file: string) => string | null;

/** Cores: the affinity mask, and the cgroup's share of time rounded down; at least 1. */
export function usableCores(read: ReadText = readOrNull, affinity = availableParallelism()): number {
  const [quota, period] = (read(`${CGROUP}/cpu.max`) ?? '').trim().split(/\s+/).map(Number);
  const quota1 = Number(read(`${CGROUP}/cpu/cpu.cfs_quota_us`) ?? Number.NaN);
  const period1 = Number(read(`${CGROUP}/cpu/cpu.cfs_period_us`) ?? Number.NaN);
  const shares = [(quota ?? Number.NaN) / (period ?? Number.NaN), quota1 / period1];
  const limits = shares.filter((share) => Number.isFinite(share) && share > 0).map(Math.floor);
  return Math.max(1, Math.min(affinity, ...limits));
}

/** Bytes that can still be had: of the machine, and of the cgroup (its file cache counts as free, as in the kernel's MemAvailable). */
export function availableMemory(read: ReadText = readOrNull): number {
  const machine = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '')?.[1];
  const candidates = [machine === undefined ? freemem() : Number(machine) * 1024];
  for (const [limitFile, usedFile, statFile, cacheKeys] of [
    ['memory.max', 'memory.current', 'memory.stat', 'inactive_file|active_file'],
    [
      'memory/memory.limit_in_bytes',
      'memory/memory.usage_in_bytes',
      'memory/memory.stat',
      'total_inactive_file|total_active_file',
    ],
  ] as const) {
    const limit = Number(read(`${CGROUP}/${limitFile}`) ?? Number.NaN);
    const used = Number(read(`${CGROUP}/${usedFile}`) ?? Number.NaN);
    if (!Number.isFinite(limit) || !Number.isFinite(used)) continue;
    const stat = read(`${CGROUP}/${statFile}`) ?? '';
    let cache = 0;
    for (const match of stat.matchAll(new RegExp(`^(?:${cacheKeys}) (\\d+)$`, 'gm')))
      cache += Number(match[1]);
    candidates.push(Math.max(0, limit - used + cache));
  }
  return Math.min(...candidates);
}

function readOrNull(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
