/** partitioner/checkpoint/random-source.ts: noise that is the same however it is asked for. */
import { describe, expect, it } from 'vitest';
import { widenBfloat16, widenFloat16 } from '../../../../partitioner/checkpoint/float-widening.js';
import { randomSource } from '../../../../partitioner/checkpoint/random-source.js';
import type { TensorInfo } from '../../../../partitioner/checkpoint/tensor-source.js';

const TENSORS: TensorInfo[] = [
  { name: 'a.weight', type: 'float32', shape: [64, 100] },
  { name: 'b.weight', type: 'float16', shape: [64, 100] },
  { name: 'c.weight', type: 'bfloat16', shape: [3, 8, 5] },
  { name: 'input_norm.weight', type: 'bfloat16', shape: [1000] },
  { name: 'q.bias', type: 'float32', shape: [1000] },
  { name: 'scalar', type: 'float32', shape: [] },
  { name: 'empty', type: 'float32', shape: [5, 0] },
];

const all = (name: string, seed = 1) => {
  const info = TENSORS.find((tensor) => tensor.name === name)!;
  return randomSource(TENSORS, seed).readFloat32(name, 0, info.shape[0] ?? 1);
};

const moments = (values: Float32Array) => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, deviation: Math.sqrt(variance) };
};

describe('random weights', () => {
  it.each(TENSORS)('of $name are the same in pieces of rows as at once', ({ name, shape }) => {
    const source = randomSource(TENSORS, 1);
    const rows = shape[0] ?? 1;
    const whole = source.readFloat32(name, 0, rows);
    const pieces: number[] = [];
    for (let row = 0; row < rows; row += 7) {
      pieces.push(...source.readFloat32(name, row, Math.min(row + 7, rows), new Float32Array(4000)));
    }
    expect(pieces).toEqual([...whole]);
  });

  it('differ by tensor, by row and by seed, and not by run', () => {
    expect(all('a.weight')).toEqual(all('a.weight'));
    expect(all('a.weight')).not.toEqual(all('b.weight'));
    expect(all('a.weight')).not.toEqual(all('a.weight', 2));
    const weights = all('a.weight');
    const rows = Array.from({ length: 64 }, (_, row) => weights.subarray(row * 100, row * 100 + 100).join());
    expect(new Set(rows).size).toBe(64);
  });

  it('have mean 0 and deviation 0.02; norms stay near 1', () => {
    const { mean, deviation } = moments(all('a.weight'));
    expect(Math.abs(mean)).toBeLessThan(0.002);
    expect(deviation).toBeGreaterThan(0.018);
    expect(deviation).toBeLessThan(0.022);
    const norm = all('input_norm.weight');
    expect(Math.min(...norm)).toBeGreaterThan(0.92);
    expect(Math.max(...norm)).toBeLessThan(1.08);
    expect(moments(norm).deviation).toBeGreaterThan(0.01);
    expect(moments(all('q.bias')).deviation).toBeLessThan(0.022);
  });

  it('are exact in the stored type: bytes and floats say the same', () => {
    const source = randomSource(TENSORS, 1);
    const bits = (name: string, rows: number) => {
      const bytes = source.readBytes(name, 0, rows);
      return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
    };
    const widened = new Float32Array(6400);
    widenFloat16(bits('b.weight', 64), new Uint32Array(widened.buffer));
    expect(widened).toEqual(all('b.weight'));
    const brain = new Float32Array(1000);
    widenBfloat16(bits('input_norm.weight', 1000), new Uint32Array(brain.buffer));
    expect(brain).toEqual(all('input_norm.weight'));
    expect(source.readBytes('a.weight', 1, 2)).toEqual(
      new Uint8Array(source.readFloat32('a.weight', 1, 2).buffer),
    );
  });

  it('go round when a row is longer than the block of noise', () => {
    const wide: TensorInfo[] = [{ name: 'experts', type: 'float32', shape: [2, 2 ** 22 + 10] }];
    const row = randomSource(wide, 1).readFloat32('experts', 1, 2);
    expect(row.subarray(2 ** 22)).toEqual(row.subarray(0, 10));
  });

  it('are refused for a tensor that is not in the list, and for rows it does not have', () => {
    const source = randomSource(TENSORS, 1);
    expect(() => source.readFloat32('lm_head.weight', 0, 1)).toThrow(
      'Tensor lm_head.weight is missing from the checkpoint',
    );
    expect(() => source.readFloat32('a.weight', 0, 65)).toThrow('rows 0 to 65 of a.weight, which has 64');
    expect(() => source.readFloat32('a.weight', 0, 2, new Float32Array(199))).toThrow('into 199');
  });
});
