import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../../../server/config/config.js';
import { groupSizes } from '../../../../../server/engines/llm/group-sizes.js';
import type { ModelSizes } from '../../../../../server/engines/llm/model-sizes.js';
import { FAKE_CONFIG } from '../../../../support/fake-model.js';

const MIB = 2 ** 20;
const SIZES: ModelSizes = {
  ...{ worldSize: 2, weightBytes: 0, kvBytesPerToken: 1024, activationBytesPerToken: 4 },
  ...{ contextLength: 2048, textTokens: null },
};

const sizesOf = (config: Partial<ModelConfig>, sizes: Partial<ModelSizes> = {}) =>
  groupSizes(
    { ...FAKE_CONFIG, maxRollingBatchSize: null, kvCacheMemoryMb: null, ...config },
    { ...SIZES, ...sizes },
    1e12,
  );

describe('swap space', () => {
  const swapOf = (config: Partial<ModelConfig>, sizes?: Partial<ModelSizes>) =>
    sizesOf({ maxRollingBatchSize: 8, kvCacheMemoryMb: 4, ...config }, sizes);

  it('is what is asked for a rank, in whole pages, and counts in the memory that is needed', () => {
    const without = swapOf({});
    expect(without.swap).toEqual({ slots: 0, kvTokens: 0 });
    const { kvTokens, need, swap } = swapOf({ preemptionMode: 'swap', swapSpaceGb: 1.5 / 1024 });
    expect(swap).toEqual({ slots: 8, kvTokens: (2 * 1.5 * MIB) / 1024 });
    expect(kvTokens).toBe(without.kvTokens);
    expect(need.kvBytes - without.need.kvBytes).toBe(2 * 1.5 * MIB);
  });

  it('is no more than all slots take, and of no use where nobody is preempted', () => {
    expect(swapOf({ preemptionMode: 'swap' }).swap.kvTokens).toBe(8 * 2048);
    expect(swapOf({ preemptionMode: 'swap' }, { textTokens: 512 }).swap.kvTokens).toBe(0);
    const onGpu = { preemptionMode: 'swap', device: 'webgpu', kvCacheMemoryMb: 64 } as const;
    expect(swapOf(onGpu).swap).toEqual({ slots: 0, kvTokens: 0 });
  });
});

describe('sequences at once', () => {
  it('are as many of 512 tokens as the memory of 32 of full length holds', () => {
    expect(sizesOf({})).toMatchObject({ maxSlots: 128, kvTokens: 32 * 2048 });
    expect(sizesOf({}, { contextLength: 1024 })).toMatchObject({ maxSlots: 64, kvTokens: 32 * 1024 });
    expect(sizesOf({}, { contextLength: 32_768 })).toMatchObject({ maxSlots: 128, kvTokens: 32 * 32_768 });
  });

  it('are 32 where memory has room for fewer, or sequences are shorter', () => {
    expect(sizesOf({ kvCacheMemoryMb: 8 })).toMatchObject({ maxSlots: 32, kvTokens: (8 * MIB) / 1024 });
    expect(sizesOf({}, { contextLength: 256 })).toMatchObject({ maxSlots: 32, kvTokens: 32 * 256 });
    expect(sizesOf({}, { textTokens: 512, kvBytesPerToken: 0 })).toMatchObject({ maxSlots: 32 });
  });

  it('are what is asked for, and KV memory is for so many', () => {
    expect(sizesOf({ maxRollingBatchSize: 3 })).toMatchObject({ maxSlots: 3, kvTokens: 3 * 2048 });
    expect(sizesOf({ batching: 'dynamic', batchSize: 5 })).toMatchObject({ maxSlots: 5 });
  });
});
