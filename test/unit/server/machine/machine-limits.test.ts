/** Cores and memory, as files of the kernel tell them; KV tokens that follow from them. */
import { describe, expect, it } from 'vitest';
import type { Manifest } from '../../../../proto/manifest.js';
import { kvTokens } from '../../../../server/engines/llm/kv-memory.js';
import { sizesOfManifest } from '../../../../server/engines/llm/model-sizes.js';
import { availableMemory, usableCores } from '../../../../server/machine/machine-limits.js';
import { backOffMs } from '../../../../server/work-load-manager/worker-group.js';

const files = (content: Record<string, string>) => (file: string) => content[file] ?? null;
const GIB = 1024 ** 3;

describe('usable cores', () => {
  it.each([
    ['no limit', {}, 8],
    ['max', { '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, 8],
    ['two and a half', { '/sys/fs/cgroup/cpu.max': '250000 100000\n' }, 2],
    ['half a core', { '/sys/fs/cgroup/cpu.max': '50000 100000\n' }, 1],
    ['more than there are', { '/sys/fs/cgroup/cpu.max': '6400000 100000\n' }, 8],
    [
      'version 1',
      { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '300000', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000' },
      3,
    ],
    [
      'a group inside a group, each with a limit',
      {
        '/proc/self/cgroup': '0::/system.slice/shardserve.service\n',
        '/sys/fs/cgroup/system.slice/cpu.max': '500000 100000\n',
        '/sys/fs/cgroup/system.slice/shardserve.service/cpu.max': '150000 100000\n',
      },
      1,
    ],
    [
      'a group of version 1 inside a group',
      {
        '/proc/self/cgroup': '5:memory:/elsewhere\n4:cpuacct,cpu:/a/b\n',
        '/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us': '250000',
        '/sys/fs/cgroup/cpu/a/cpu.cfs_period_us': '100000',
      },
      2,
    ],
    [
      'version 1, none',
      { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000' },
      8,
    ],
  ])('with %s', (_, content, cores) => {
    expect(usableCores(files(content as Record<string, string>), 8)).toBe(cores);
  });
});

describe('available memory', () => {
  const meminfo = { '/proc/meminfo': 'MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n' };

  it('is what the machine has when there is no limit', () => {
    expect(availableMemory(files(meminfo))).toBe(8 * GIB);
    expect(availableMemory(files({ ...meminfo, '/sys/fs/cgroup/memory.max': 'max' }))).toBe(8 * GIB);
  });

  it('is what the container has left, its file cache included', () => {
    const cgroup = {
      '/sys/fs/cgroup/memory.max': String(4 * GIB),
      '/sys/fs/cgroup/memory.current': String(3 * GIB),
      '/sys/fs/cgroup/memory.stat': `anon 5\ninactive_file ${GIB / 2}\nactive_file ${GIB / 2}\n`,
    };
    expect(availableMemory(files({ ...meminfo, ...cgroup }))).toBe(2 * GIB);
  });

  it('is what the innermost group has left, if that is least', () => {
    const cgroup = {
      '/proc/self/cgroup': '0::/own\n',
      '/sys/fs/cgroup/own/memory.max': String(2 * GIB),
      '/sys/fs/cgroup/own/memory.current': String(GIB),
    };
    expect(availableMemory(files({ ...meminfo, ...cgroup }))).toBe(GIB);
  });

  it('reads cgroup version 1', () => {
    const cgroup = {
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': String(2 * GIB),
      '/sys/fs/cgroup/memory/memory.usage_in_bytes': String(3 * GIB),
    };
    expect(availableMemory(files({ ...meminfo, ...cgroup }))).toBe(0);
  });
});

describe('KV tokens', () => {
  const manifest = {
    worldSize: 2,
    model: { numLayers: 4 },
    attend: { keysIn: 'slot' },
    perRank: { numKvHeads: 2, headDim: 32 },
    buffers: [],
    shared: { bytes: GIB },
    ranks: [{ weights: { bytes: GIB } }, { weights: { bytes: GIB } }],
  } as unknown as Manifest;
  const sizes = sizesOfManifest(manifest);
  const options = {
    configuredMb: null,
    availableBytes: 8 * GIB,
    reservedMb: 0,
    maxGroups: 1,
    maxSlots: 1000,
    slotTokens: 131_072,
  };

  it('has keys and values of every layer and rank in a token', () => {
    expect(sizes.kvBytesPerToken).toBe(2 * 4 * 2 * 32 * 4 * 2);
  });

  it('leaves room for every group that may come', () => {
    expect(kvTokens(sizes, { ...options, maxGroups: 2 })).toBe(Math.floor((GIB * 0.4) / 4096 / 64) * 64);
  });

  it('takes a share of what the weights leave', () => {
    expect(kvTokens(sizes, options)).toBe(Math.floor((5 * GIB * 0.4) / 4096 / 64) * 64);
  });

  it('leaves what is reserved', () => {
    const reserved = kvTokens(sizes, { ...options, reservedMb: 1024 });
    expect(reserved).toBe(Math.floor((4 * GIB * 0.4) / 4096 / 64) * 64);
  });

  it('takes what was configured, in whole pages', () => {
    expect(kvTokens(sizes, { ...options, configuredMb: 1 })).toBe(256);
  });

  it('is no more than all slots can use', () => {
    expect(kvTokens(sizes, { ...options, maxSlots: 3, slotTokens: 100 })).toBe(3 * 128);
  });

  it('refuses memory for less than a page, and names both sizes', () => {
    const bigger = { ...sizes, kvBytesPerToken: 100 * sizes.kvBytesPerToken };
    expect(() => kvTokens(bigger, { ...options, configuredMb: 1 })).toThrow(
      /kv_cache_memory_mb is 1, .* need 25/,
    );
    expect(() => kvTokens(sizes, { ...options, availableBytes: 2 * GIB })).toThrow(
      /of 2048 MiB that are free reserved_memory_mb=0 must stay so, and the weights of 1 worker group take 3072/,
    );
  });
});

describe('the pause before a restart', () => {
  it('grows to half a minute', () => {
    expect([1, 2, 3, 4, 5, 6, 7].map(backOffMs)).toEqual([0, 1000, 2000, 5000, 10_000, 30_000, 30_000]);
  });
});
