/** What a process's memory is, out of smaps. */
import { expect, it } from 'vitest';
import { memoryByKind } from '../../../bench/serving/memory-map.js';

it('sums proportional set sizes by kind, largest first', () => {
  const mapping = (head: string, kilobytes: number): string =>
    `${head}\nSize: 8 kB\nRss: 9000 kB\nPss: ${kilobytes} kB\nPss_Dirty: 7 kB\nVmFlags: rd\n`;
  const smaps = [
    mapping('00400000-00b53000 r--p 00000000 fe:00 1234   /usr/bin/node', 10),
    mapping('00b53000-02800000 r-xp 00753000 fe:00 1234   /usr/bin/node', 30),
    mapping('02a00000-02a20000 rw-p 023f0000 fe:00 1234   /usr/bin/node', 2),
    mapping('05000000-06000000 rw-p 00000000 00:00 0      [heap]', 40),
    mapping('7f0000000000-7f0000100000 rw-p 00000000 00:00 0 ', 50),
    mapping('7f0000200000-7f0000300000 rw-p 00000000 00:00 0 ', 25),
    mapping('7f0000400000-7f0000500000 r--p 00000000 fe:00 99 /store/model a/rank-0.weights', 400),
    mapping('7f0000600000-7f0000700000 rw-s 00000000 00:01 7 /memfd:sums (deleted)', 3),
    mapping('7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]', 1),
  ].join('');
  expect(memoryByKind(smaps).map(([kind, bytes]) => [kind, bytes / 1024])).toEqual([
    ['rank-0.weights', 400],
    ['anonymous', 76],
    ['C heap', 40],
    ['node code', 30],
    ['node constants', 10],
    ['shared between ranks', 3],
    ['node data', 2],
  ]);
});
