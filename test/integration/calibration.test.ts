/**
 * A calibration of the embedded model, from the checkpoint to shards that were made with it.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrated } from '../../partitioner/importance/calibrated.js';
import { readImportance } from '../../partitioner/importance/importance.js';
import { partition } from '../../partitioner/partition.js';
import { verifyShards } from '../../partitioner/verify/verify.js';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { repositoryRoot } from '../support/repository-root.js';

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
      expect(manifest.weightFormat).toMatchObject({ blockSize: 32, symmetric: false, eightBit: ['head'] });
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

  it('is not asked for by other formats', async () => {
    for (const dtype of ['fp32', 'int8'] as const) {
      expect(await calibrated({ folder, outStore, tp: 1, dtype })).toBeUndefined();
    }
    expect(await calibrated({ folder, outStore, tp: 1, dtype: 'int4', symmetric: true })).toBeUndefined();
  });
});
