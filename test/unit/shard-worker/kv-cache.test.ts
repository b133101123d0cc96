import { describe, expect, it } from 'vitest';
import type { HostDevice, HostMemory } from '../../../shard-worker/device/device.js';
import { KvCache, Plane } from '../../../shard-worker/kv-cache.js';
import { PAGE_BYTES } from '../../../shard-worker/native/libc.js';

/** Plain arrays in place of device memory; counts what was reserved and given back. */
class ArrayMemory implements HostMemory {
  readonly bytes: number;
  discards = 0;
  readonly #buffer: ArrayBuffer;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#buffer = new ArrayBuffer(bytes);
  }
  float32(byteOffset: number, length: number): Float32Array {
    return new Float32Array(this.#buffer, byteOffset, length);
  }
  bigInt64(byteOffset: number, length: number): BigInt64Array {
    return new BigInt64Array(this.#buffer, byteOffset, length);
  }
  /** Whole pages only, as the system does. */
  discard(byteOffset: number, bytes: number): void {
    this.discards++;
    const start = Math.ceil(byteOffset / PAGE_BYTES) * PAGE_BYTES;
    const end = Math.floor((byteOffset + bytes) / PAGE_BYTES) * PAGE_BYTES;
    if (end > start) new Uint8Array(this.#buffer, start, end - start).fill(0);
  }
  free(): void {}
}

function createCache(numKvHeads = 1): { cache: KvCache; memories: ArrayMemory[] } {
  const memories: ArrayMemory[] = [];
  const device = {
    reserve(bytes: number) {
      const memory = new ArrayMemory(bytes);
      memories.push(memory);
      return memory;
    },
  } as unknown as HostDevice;
  const cache = new KvCache({ device, numLayers: 2, numKvHeads, headDim: 3, maxSlots: 2, slotTokens: 4 });
  return { cache, memories };
}

const rows = (first: number, count: number): Float32Array =>
  Float32Array.from({ length: count * 3 }, (_, index) => first * 10 + index);

function read(
  cache: KvCache,
  slot: number,
  layer: number,
  plane: Plane,
  row: number,
  count: number,
): number[] {
  const { memory, byteOffset } = cache.location(slot, layer, plane, 0, row);
  return [...memory.float32(byteOffset, count * 3)];
}

describe('KvCache', () => {
  it('keeps planes and layers apart and finds rows where they were written', () => {
    const { cache } = createCache();
    cache.open(1);
    cache.write(1, 0, Plane.KEY, 0, rows(1, 2), 0, 2);
    cache.write(1, 0, Plane.VALUE, 0, rows(2, 2), 0, 2);
    cache.write(1, 1, Plane.KEY, 2, rows(3, 4), 3, 1);
    expect(read(cache, 1, 0, Plane.KEY, 0, 2)).toEqual([10, 11, 12, 13, 14, 15]);
    expect(read(cache, 1, 0, Plane.KEY, 1, 1)).toEqual([13, 14, 15]);
    expect(read(cache, 1, 0, Plane.VALUE, 0, 1)).toEqual([20, 21, 22]);
    expect(read(cache, 1, 1, Plane.KEY, 2, 1)).toEqual([39, 40, 41]);
    expect(read(cache, 1, 1, Plane.VALUE, 0, 4).every((value) => value === 0)).toBe(true);
  });

  it('reserves a slot at its first use only, and gives its memory back when it closes', () => {
    const { cache, memories } = createCache();
    expect(cache.reservedBytes).toBe(0);
    cache.open(0);
    cache.write(0, 0, Plane.KEY, 0, rows(1, 4), 0, 4);
    expect(cache.reservedBytes).toBe(2 * 2 * PAGE_BYTES);
    expect(cache.touchedBytes).toBe(4 * 3 * 4 * 2 * 2);
    cache.close(0);
    expect(cache.touchedBytes).toBe(0);
    cache.open(0);
    expect(memories.map((memory) => memory.discards)).toEqual([1]);
    expect(read(cache, 0, 0, Plane.KEY, 0, 4).every((value) => value === 0)).toBe(true);
    expect(cache.openSlots()).toEqual([0]);
  });

  it('keeps the first rows of a slot and gives the others back', () => {
    const { cache } = createCache();
    cache.open(0);
    for (const layer of [0, 1]) {
      cache.write(0, layer, Plane.KEY, 0, rows(layer + 1, 3), 0, 3);
      cache.write(0, layer, Plane.VALUE, 0, rows(layer + 3, 3), 0, 3);
    }
    cache.truncate(0, 1);
    expect(cache.touchedBytes).toBe(1 * 3 * 4 * 2 * 2);
    expect(read(cache, 0, 0, Plane.KEY, 0, 3)).toEqual([10, 11, 12, 0, 0, 0, 0, 0, 0]);
    expect(read(cache, 0, 1, Plane.VALUE, 0, 3)).toEqual([40, 41, 42, 0, 0, 0, 0, 0, 0]);
    expect(() => cache.truncate(0, 2)).toThrow('2 rows kept of 1 in slot 0');
  });

  it('copies rows of every layer to another slot, behind those that it has', () => {
    const { cache } = createCache();
    cache.open(0);
    cache.open(1);
    for (const layer of [0, 1]) {
      cache.write(0, layer, Plane.KEY, 0, rows(layer + 1, 3), 0, 3);
      cache.write(0, layer, Plane.VALUE, 0, rows(layer + 3, 3), 0, 3);
    }
    cache.copyRows(0, 1, 0, 1);
    cache.write(0, 0, Plane.KEY, 0, rows(9, 1), 0, 1);
    cache.copyRows(0, 1, 1, 3);
    expect(cache.touchedBytes).toBe(6 * 3 * 4 * 2 * 2);
    expect(read(cache, 1, 0, Plane.KEY, 0, 3)).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18]);
    expect(read(cache, 1, 1, Plane.VALUE, 0, 3)).toEqual([40, 41, 42, 43, 44, 45, 46, 47, 48]);
    expect(() => cache.copyRows(0, 1, 0, 4)).toThrow('rows 0 … 4 of slot 0 to 1');
    expect(() => cache.copyRows(0, 0, 0, 1)).toThrow('rows 0 … 1 of slot 0 to 0');
  });

  it('keeps the rows of a KV head side by side', () => {
    const { cache } = createCache(2);
    cache.open(0);
    // Rows 0, 1, 2 of two heads: 0 1 2 | 3 4 5, 6 7 8 | 9 10 11, …
    const source = Float32Array.from({ length: 18 }, (_, index) => index);
    cache.write(0, 1, Plane.VALUE, 0, source, 0, 2);
    cache.write(0, 1, Plane.VALUE, 2, source, 2, 1);
    expect(read(cache, 0, 1, Plane.VALUE, 0, 4)).toEqual([0, 1, 2, 6, 7, 8, 12, 13, 14, 0, 0, 0]);
    expect([...cache.row(0, 1, Plane.VALUE, 1, 1)]).toEqual([9, 10, 11]);
    cache.truncate(0, 1);
    expect([...cache.row(0, 1, Plane.VALUE, 1, 0)]).toEqual([3, 4, 5]);
    expect([...cache.row(0, 1, Plane.VALUE, 1, 1)]).toEqual([0, 0, 0]);
  });

  it('refuses what the coordinator must never send', () => {
    const { cache } = createCache();
    expect(() => cache.open(2)).toThrow('slot 2 of 2');
    expect(() => cache.close(0)).toThrow('slot 0 is not open');
    cache.open(0);
    expect(() => cache.open(0)).toThrow('slot 0 is open already');
    expect(() => cache.write(0, 0, Plane.KEY, 3, rows(0, 2), 0, 2)).toThrow('row 5 of 4');
  });
});
