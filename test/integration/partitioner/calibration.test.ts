/**
 * A calibration of the embedded model, from the checkpoint to shards that were made with it.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../calibration/calibrate.js';
import { calibrated } from '../../../partitioner/importance/calibrated.js';
import { type Importance, readImportance } from '../../../partitioner/importance/importance.js';
import { partition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { goldenFolder } from '../../support/golden.js';
import { repositoryRoot } from '../../support/repository-root.js';

const folder = path.join(repositoryRoot, 'models', 'embedded');

describe('a calibration', () => {
  let outStore: string;

  beforeAll(() => {
    outStore = mkdtempSync(path.join(tmpdir(), 'shardserve-calibration-'));
  });
  afterAll(() => rmSync(outStore, { recursive: true, force: true }));

  // Only the layout of the kernels has zero points that are no codes.
  it.runIf(kernelLibrary() !== null)(
    'tells mean squares of every linear, once, and int4 shards made with them are verified',
    async () => {
      const options = { folder, outStore, tp: 2, dtype: 'int4' } as const;
      const importance = await calibrated(options);
      expect(await calibrated(options)).toBe(importance);
      expect(readdirSync(path.join(outStore, 'importance', 'shards'))).toEqual([]);
      const { manifest, shardFolder } = await partition({ ...options, importance });
      const eightBit = ['head', 'qkv'];
      expect(manifest.weightFormat).toMatchObject({ blockSize: 32, symmetric: false, eightBit });
      const means = readImportance(importance!);
      for (const layer of Array.from({ length: manifest.model.numLayers }, (_, index) => index)) {
        expect(means.get(`layer-${layer}.qkv`)?.length).toBe(manifest.model.hiddenSize);
        expect(means.get(`layer-${layer}.down`)?.some((mean) => mean > 0)).toBe(true);
      }
      await verifyShards({ folder, shardFolder, importance });
      await expect(verifyShards({ folder, shardFolder })).rejects.toThrow(/differs from the checkpoint/);
      const plain = await partition(options);
      expect(plain.shardFolder).not.toBe(shardFolder);
    },
  );

  it('in 8 bits, as large models are, tells nearly the same', async () => {
    const means = await Promise.all(
      [Number.POSITIVE_INFINITY, 0].map(async (floatParameters) => {
        const store = mkdtempSync(path.join(outStore, 'run-'));
        return readImportance(await calibrate(folder, store, undefined, floatParameters));
      }),
    );
    const [floats, bytes] = means as [Importance, Importance];
    expect([...bytes.keys()]).toEqual([...floats.keys()]);
    for (const [name, mean] of floats) {
      const seen = bytes.get(name)!;
      expect(seen.length).toBe(mean.length);
      const off = mean.reduce((sum, value, index) => sum + Math.abs(value - seen[index]!), 0);
      expect(off / mean.reduce((sum, value) => sum + value), name).toBeLessThan(0.05);
    }
  });

  it('of latents tells what makes them and what is made of them', async () => {
    const store = mkdtempSync(path.join(outStore, 'run-'));
    const means = readImportance(await calibrate(goldenFolder('deepseek-v3'), store));
    const { numLayers, sizes } = { numLayers: 2, sizes: { latents: 64, query: 28, 'attention-out': 80 } };
    for (let layer = 0; layer < numLayers; layer++) {
      for (const [role, size] of Object.entries(sizes)) {
        const mean = means.get(`layer-${layer}.${role}`);
        expect(mean?.length, role).toBe(size);
        expect(mean?.every((value) => value > 0)).toBe(true);
      }
      expect(means.has(`layer-${layer}.key-up`)).toBe(false);
    }
  });

  it('is not asked for by other formats', async () => {
    expect(await calibrated({ folder, outStore, tp: 1, dtype: 'fp32' })).toBeUndefined();
    expect(await calibrated({ folder, outStore, tp: 1, dtype: 'int8', scales: 'nearest' })).toBeUndefined();
    expect(await calibrated({ folder, outStore, tp: 1, dtype: 'int4', symmetric: true })).toBeUndefined();
  });
});
