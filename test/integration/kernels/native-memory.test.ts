import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { NativeArena, NativeMemory } from '../../../shard-worker/native/native-memory.js';

const GIB = 2 ** 30;

describe('NativeMemory', () => {
  it('reserves more than one buffer of the engine can hold, and gives pages back as zeros', () => {
    const memory = new NativeMemory(17 * GIB);
    const far = memory.float32(16 * GIB, 1024 * 1024);
    far[5] = 3;
    expect(memory.float32(16 * GIB + 20, 1)[0]).toBe(3);
    memory.discard(0, memory.bytes);
    expect(far[5]).toBe(0);
    memory.free();
  });

  it('refuses a view outside it', () => {
    const memory = new NativeMemory(100);
    expect(() => memory.float32(memory.bytes - 4, 2)).toThrow('view outside its memory');
    memory.free();
  });
});

describe('NativeArena', () => {
  it('hands out zeroed places that do not overlap, also past its first chunk', () => {
    const arena = new NativeArena(64 * 1024);
    const places = Array.from({ length: 5000 }, () => arena.allocate(24));
    const addresses = places.map(({ address }) => address).sort((a, b) => a - b);
    expect(addresses.every((address, index) => address - (addresses[index - 1] ?? 0) >= 24)).toBe(true);
    expect(places.every(({ view }) => view.getBigUint64(0) === 0n)).toBe(true);
  });

  it('writes pointers as C reads them', () => {
    const pointers = new NativeArena().pointers(2);
    pointers.set(0, 0x7fff_1234_5678);
    pointers.set(1, 0x1_0000_0000);
    const seen = new BigUint64Array(koffi.view(BigInt(pointers.address), 16));
    expect([...seen]).toEqual([0x7fff_1234_5678n, 0x1_0000_0000n]);
  });
});

/** Linux 5.0 and later say it in a process's status. */
it.runIf(existsSync('/sys/kernel/mm/transparent_hugepage'))('a process asks for no more huge pages', () => {
  const libc = new URL('../../../shard-worker/native/libc.js', import.meta.url);
  const program = `
    import { readFileSync } from 'node:fs';
    import { noMoreHugePages } from '${libc}';
    const seen = () => /^THP_enabled:\\s+(\\d)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    const before = seen();
    noMoreHugePages();
    console.log(before, seen());`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect(output).toBe('1 0\n');
});
