/** The sum over ranks by a segment: the bits that the sum in JavaScript makes, in memory at any offset. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { deviceSum } from '../../../shard-worker/collective/device-sum.js';
import { sumAsTree } from '../../../shard-worker/collective/tree-sum.js';
import { CpuDevice } from '../../../shard-worker/device/cpu-device.js';
import { readSegment } from '../../../shard-worker/shard-files.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { goldenFolder } from '../../support/golden.js';

let scratch: string;
let device: CpuDevice;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'device-sum-'));
  device = new CpuDevice({ threads: 1, logId: 'test' });
});
afterAll(() => rmSync(scratch, { recursive: true }));

describe.each([2, 4])('the sum of %i ranks', (worldSize) => {
  it('is the same to the bit, below and above the size from which the segment adds', async () => {
    const { manifest, shardFolder } = await partition({
      folder: goldenFolder('llama'),
      outStore: path.join(scratch, 'store'),
      tp: worldSize,
      dtype: 'fp32',
    });
    const inputs = Array.from({ length: worldSize }, (_, rank) => `rank-${rank}`);
    const graph = readSegment(shardFolder, 1, manifest.sumSegment ?? '');
    const add = deviceSum(device, device.loadSegment(graph, shardFolder, inputs, ['sum']));
    const random = seededRandom(testSeed);
    for (const floats of [1, 1000, 8192, 40_000]) {
      const offset = 16;
      // Very different sizes, so that another order of adding shows.
      const summands = inputs.map((_, rank) =>
        Float32Array.from(
          { length: floats + offset },
          () => (random.next() - 0.5) * 1000 ** (rank % 3),
        ).subarray(offset),
      );
      const expected = new Float32Array(floats);
      sumAsTree(expected, summands, floats);
      const seen = new Float32Array(floats + offset).fill(7).subarray(0, floats);
      add(seen, summands, floats);
      expect(seen).toEqual(expected);
      expect(new Float32Array(seen.buffer)[floats], 'nothing past the end').toBe(7);
    }
    // Lasting memory: other numbers in it, more lengths than are kept, and the first of them again.
    const summands = inputs.map(() => new Float32Array(5000));
    const sums = [new Float32Array(5000), new Float32Array(5000)];
    for (let call = 0; call < 100; call++) {
      const floats = 4200 + (call % 40);
      for (const summand of summands) summand.set(summand.map(() => random.next() - 0.5));
      const sum = sums[call & 1] ?? assert.fail();
      sum.fill(7);
      const expected = new Float32Array(5000).fill(7);
      sumAsTree(expected, summands, floats);
      add(sum, summands, floats, true);
      expect(sum).toEqual(expected);
    }
  });
});

it('a single rank has no sum segment', async () => {
  const { manifest } = await partition({
    folder: goldenFolder('llama'),
    outStore: path.join(scratch, 'store'),
    tp: 1,
    dtype: 'fp32',
  });
  expect(manifest.sumSegment).toBeNull();
});
