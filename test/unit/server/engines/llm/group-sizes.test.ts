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
