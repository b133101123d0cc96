/** Processes that the kernel has ended for want of memory, told from others that were killed, over made-up files of the kernel. */
import { expect, it } from 'vitest';
import { MemoryKills } from '../../../../server/machine/memory-kills.js';

function machine(files: Record<string, string>) {
  const all: Record<string, string> = {
    '/proc/vmstat': 'nr_free_pages 1\noom_kill 4\n',
    '/proc/7/status': 'Name:\tnode\nVmRSS:\t  307200 kB\n',
    ...files,
  };
  const kills = new MemoryKills((file) => all[file] ?? null);
  kills.look(7);
  // It is gone.
  delete all['/proc/7/status'];
  delete all['/proc/7/cgroup'];
  return { all, kills };
}

function sentence(kills: MemoryKills): string {
  const killer = kills.killerOf(7);
  return killer.by === 'kernel' ? killer.sentence : killer.by;
}

const V2 = {
  '/proc/7/cgroup': '0::/server/ranks\n',
  '/sys/fs/cgroup/server/memory.max': '2147483648\n',
  '/sys/fs/cgroup/server/ranks/memory.max': 'max\n',
  '/sys/fs/cgroup/server/ranks/memory.events': 'low 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n',
};

it('a kill that the group of the process has counted is named with its limit, what it held, and what to change', () => {
  const { all, kills } = machine(V2);
  all['/sys/fs/cgroup/server/ranks/memory.events'] = 'oom 2\noom_kill 2\n';
  expect(sentence(kills)).toBe(
    'for want of memory (/sys/fs/cgroup/server/ranks/memory.events counts 2, 1 before; its control group has a limit of ' +
      '2048 MiB, it held 300 MiB when last seen): lower option.kv_cache_memory_mb or option.max_rolling_batch_size, ' +
      'take a smaller option.dtype, or give the server more memory',
  );
});

it('a kill by somebody else is no want of memory', () => {
  const { kills } = machine(V2);
  expect(kills.killerOf(7)).toEqual({ by: 'somebody' });
  // Forgotten.
  expect(kills.killerOf(7)).toEqual({ by: 'unknown' });
  expect(kills.killerOf(8)).toEqual({ by: 'unknown' });
});

it('control groups of version 1 count by another file, and have a limit that is none', () => {
  const { all, kills } = machine({
    '/proc/7/cgroup': '4:memory:/box\n0::/\n',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    '/sys/fs/cgroup/memory/box/memory.limit_in_bytes': '67108864\n',
    '/sys/fs/cgroup/memory/box/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 0\n',
  });
  all['/sys/fs/cgroup/memory/box/memory.oom_control'] = 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n';
  expect(sentence(kills)).toMatch(/box\/memory.oom_control counts 1, 0 before.*a limit of 64 MiB/);
});

it('without a group that counts, one that the machine has counted is told as probable', () => {
  expect(machine({}).kills.killerOf(7)).toEqual({ by: 'somebody' });
  const again = machine({});
  again.all['/proc/vmstat'] = 'oom_kill 6\n';
  expect(sentence(again.kills)).toMatch(/^probably for want of memory .*ended 2 process/);
});

it('a process that has moved counts by its new group', () => {
  const files: Record<string, string> = {
    ...V2,
    '/proc/7/status': 'VmRSS: 1024 kB\n',
    '/sys/fs/cgroup/other/memory.events': 'oom_kill 9\n',
  };
  const kills = new MemoryKills((file) => files[file] ?? null);
  kills.look(7);
  files['/proc/7/cgroup'] = '0::/other\n';
  kills.look(7);
  expect(kills.killerOf(7)).toEqual({ by: 'somebody' });
  kills.look(7);
  files['/sys/fs/cgroup/other/memory.events'] = 'oom_kill 10\n';
  expect(sentence(kills)).toMatch(/other\/memory.events counts 10, 9 before/);
});

it('tells what its owner can change', () => {
  const files: Record<string, string> = { ...V2, '/proc/7/status': 'VmRSS: 1024 kB\n' };
  const kills = new MemoryKills((file) => files[file] ?? null, 'send less');
  kills.look(7);
  const [counter] = Object.keys(files).filter((file) => file.endsWith('memory.events'));
  files[counter!] = 'oom_kill 10\n';
  expect(sentence(kills)).toMatch(/held 1 MiB when last seen\): send less$/);
});

it('where nothing counts nobody knows who has killed', () => {
  const { all, kills } = machine({});
  delete all['/proc/vmstat'];
  expect(kills.killerOf(7)).toEqual({ by: 'unknown' });
});
