/**
 * What TorchServe tells of the machine: CPU, memory, disk.
 *
 * Out     one value a name; the CPU's is of the time since the reading before
 * Limits  the disk is that of the root folder, as there
 * Errors  none: what cannot be read is left out
 * Source  TorchServe's system metrics: names and units
 */
import { readFileSync, statfsSync } from 'node:fs';
import { cpus } from 'node:os';

export interface SystemReading {
  name: string;
  unit: string;
  value: number;
}

const GIB = 2 ** 30;
const MIB_IN_KIB = 1024;
const NAMES = [
  ['CPUUtilization', 'Percent'],
  ['MemoryUsed', 'Megabytes'],
  ['MemoryAvailable', 'Megabytes'],
  ['MemoryUtilization', 'Percent'],
  ['DiskUsage', 'Gigabytes'],
  ['DiskAvailable', 'Gigabytes'],
  ['DiskUtilization', 'Percent'],
] as const;

export class SystemReadings {
  readonly names = NAMES.map(([name, unit]) => ({ name, unit }));
  #last = cpuTimes();

  read(): SystemReading[] {
    const values: Record<string, number | null> = { ...this.#cpu(), ...memory(), ...disk() };
    return this.names.flatMap(({ name, unit }) => {
      const value = values[name] ?? null;
      return value === null ? [] : [{ name, unit, value: Math.round(value * 100) / 100 }];
    });
  }

  #cpu(): Record<string, number | null> {
    const now = cpuTimes();
    const [busy, all] = [now.busy - this.#last.busy, now.all - this.#last.all];
    this.#last = now;
    return { CPUUtilization: all > 0 ? (busy / all) * 100 : 0 };
  }
}

function cpuTimes(): { busy: number; all: number } {
  let [busy, all] = [0, 0];
  for (const { times } of cpus()) {
    const total = Object.values(times).reduce((sum, one) => sum + one, 0);
    all += total;
    busy += total - times.idle;
  }
  return { busy, all };
}

function memory(): Record<string, number> {
  try {
    const text = readFileSync('/proc/meminfo', 'utf8');
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]);
    const [total, available] = [kib('MemTotal'), kib('MemAvailable')];
    if (!(total > 0) || !(available >= 0)) return {};
    return {
      MemoryUsed: (total - available) / MIB_IN_KIB,
      MemoryAvailable: available / MIB_IN_KIB,
      MemoryUtilization: ((total - available) / total) * 100,
    };
  } catch {
    return {};
  }
}

function disk(): Record<string, number> {
  try {
    const { bavail, bfree, blocks, bsize } = statfsSync('/');
    const used = (blocks - bfree) * bsize;
    const available = bavail * bsize;
    return {
      DiskUsage: used / GIB,
      DiskAvailable: available / GIB,
      DiskUtilization: used + available > 0 ? (used / (used + available)) * 100 : 0,
    };
  } catch {
    return {};
  }
}
