/** shard-worker/remote-attention-check.ts: what is believed of a device's attention. */
import { describe, expect, it } from 'vitest';
import {
  type AttentionSample,
  queriesTogether,
  referenceAttention,
} from '../../../shard-worker/remote-attention-check.js';

const SHAPE = { numHeads: 4, numKvHeads: 2, headDim: 8, softCap: null, window: null };
const right = (sample: AttentionSample): Float32Array => referenceAttention(SHAPE, sample);
/** As SwiftShader does. */
const wrongFrom32 = (sample: AttentionSample): Float32Array => {
  const out = right(sample);
  if (sample.tokens >= 32) out[100]! += 0.01;
  return out;
};

describe('queriesTogether', () => {
  it('sets no bound where long chunks are right', () => {
    expect(queriesTogether(SHAPE, 512, right)).toBe(Number.POSITIVE_INFINITY);
  });

  it('cuts chunks where the shader for long ones is wrong', () => {
    expect(queriesTogether(SHAPE, 512, wrongFrom32)).toBe(31);
  });

  it('does not believe what it has no room to check', () => {
    expect(queriesTogether(SHAPE, 16, right)).toBe(16);
  });

  it.each([
    ['a soft cap', { ...SHAPE, softCap: 5 }],
    ['a window', { ...SHAPE, window: 16 }],
  ])('sees that %s is left out', (_, shape) => {
    expect(() => queriesTogether(shape, 512, right)).toThrow('computes attention wrongly');
  });

  it('refuses a device that is wrong anyway, or gives no numbers', () => {
    const none = ({ query }: AttentionSample): Float32Array => query.map(() => Number.NaN);
    expect(() => queriesTogether(SHAPE, 512, none)).toThrow("the GPU's driver computes attention wrongly");
  });
});

describe('referenceAttention', () => {
  const sample = {
    tokens: 2,
    query: Float32Array.of(1, 0, 0, 1),
    key: Float32Array.of(2, 0, 0, 3),
    value: Float32Array.of(1, 2, 5, 6),
  };
  const one = { numHeads: 1, numKvHeads: 1, headDim: 2, softCap: null, window: null };

  it('weighs values by the scores of the rows that a query sees', () => {
    const [w0, w1] = [1, Math.exp(3)].map((weight) => weight / (1 + Math.exp(3)));
    const seen = [...referenceAttention(one, sample)];
    [1, 2, w0! * 1 + w1! * 5, w0! * 2 + w1! * 6].forEach((value, index) => {
      expect(seen[index]).toBeCloseTo(value, 6);
    });
  });

  it('knows windows and soft caps', () => {
    expect([...referenceAttention({ ...one, window: 1 }, sample)]).toEqual([1, 2, 5, 6]);
    const capped = referenceAttention({ ...one, softCap: 1 }, sample);
    const weight = Math.exp(Math.tanh(3)) / (1 + Math.exp(Math.tanh(3)));
    expect(capped[2]).toBeCloseTo(1 + 4 * weight, 6);
  });
});
