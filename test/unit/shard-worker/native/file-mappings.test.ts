import { expect, it } from 'vitest';
import { fileMappings, partOf } from '../../../../shard-worker/native/file-mappings.js';

const MAPS = `7f0000000000-7f0000010000 rw-p 00003000 fe:00 123                        /shards/a b/shared.weights
7f0000020000-7f0000030000 r-xp 00000000 fe:00 124                        /lib/code.so
7f0000040000-7f0000050000 rw-s 00000000 00:01 125                        /memfd:shared (deleted)
7f0000060000-7f0000070000 rw-p 00000000 00:00 0
7f0000080000-7f0000090000 rw-p 00000000 00:00 0                          [heap]
`;

it('finds the private mappings of files and nothing else', () => {
  expect(fileMappings(MAPS)).toEqual([
    {
      address: 0x7f0000000000,
      bytes: 0x10000,
      isExecutable: false,
      isWritable: true,
      offset: 0x3000,
      path: '/shards/a b/shared.weights',
    },
    {
      address: 0x7f0000020000,
      bytes: 0x10000,
      isExecutable: true,
      isWritable: false,
      offset: 0,
      path: '/lib/code.so',
    },
  ]);
});

it('takes of a mapping only what shows a part of the file', () => {
  const [mapping] = fileMappings(MAPS);
  if (!mapping) throw new Error('no mapping');
  expect(partOf(mapping, 0, 0x3000)).toBeNull();
  expect(partOf(mapping, 0x13000, 0x1000)).toBeNull();
  expect(partOf(mapping, 0, 0x5000)).toMatchObject({
    address: 0x7f0000000000,
    bytes: 0x2000,
    offset: 0x3000,
  });
  expect(partOf(mapping, 0x4000, 0x100000)).toMatchObject({
    address: 0x7f0000001000,
    bytes: 0xf000,
    offset: 0x4000,
  });
});
