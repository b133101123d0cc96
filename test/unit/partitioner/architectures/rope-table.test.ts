/**
 * partitioner/architectures/rope-table.ts against transformers 5 (LlamaRotaryEmbedding, float32 on CPU): frequencies to the
 * bit, angles to half a unit in the last place.
 */

import { describe, expect, it } from 'vitest';
import {
  longContext,
  ropeFrequencies,
  ropeRows,
  ropeTable,
} from '../../../../partitioner/architectures/rope-table.js';
import type { RopeShape } from '../../../../partitioner/plan/model-shape.js';
import { MAX_STEP_TOKENS } from '../../../../proto/limits.js';

const CONTEXT = 131_072;
const PLAIN: RopeShape = { rotaryDim: 64, theta: 10_000, scaling: { kind: 'none' }, interleaved: false };
const LINEAR: RopeShape = {
  rotaryDim: 32,
  theta: 10_000,
  scaling: { kind: 'linear', factor: 4 },
  interleaved: false,
};
const LLAMA3: RopeShape = {
  rotaryDim: 128,
  theta: 500_000,
  scaling: {
    kind: 'llama3',
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalContextLength: 8192,
  },
  interleaved: false,
};

describe('frequencies are those of transformers, to the bit', () => {
  it.each<[string, RopeShape, [pair: number, frequency: number][]]>([
    [
      'default',
      PLAIN,
      [
        [0, 1],
        [1, 0.7498942017555237],
        [31, 0.0001333521504420787],
      ],
    ],
    [
      'linear',
      LINEAR,
      [
        [0, 0.25],
        [1, 0.14058533310890198],
        [15, 0.000044456985051510856],
      ],
    ],
    [
      'llama3: kept, mixed (twice), stretched',
      LLAMA3,
      [
        [10, 0.12868738174438477],
        [31, 0.0008567514596506953],
        [34, 0.0001785077911335975],
        [45, 0.000012297638932068367],
      ],
    ],
  ])('%s', (_, rope, expected) => {
    const frequencies = ropeFrequencies(rope);
    expect(frequencies.length).toBe(rope.rotaryDim / 2);
    for (const [pair, frequency] of expected) expect(frequencies[pair]).toBe(frequency);
  });
});

describe('tables', () => {
  it.each([
    [1, [0.5403023362159729, 0.7317609786987305], [0.8414709568023682, 0.6815613508224487]],
    [777, [-0.5177181959152222, -0.09749647229909897], [-0.8555511832237244, -0.9952358603477478]],
    [2047, [0.24971525371074677, -0.3573565185070038], [-0.968319296836853, 0.9339680671691895]],
  ])('position %i', (position, cosines, sines) => {
    const { cos, sin } = ropeTable(PLAIN, CONTEXT, position, position + 1);
    for (const pair of [0, 1]) {
      expect(Math.abs(cos[pair]! - cosines[pair]!)).toBeLessThanOrEqual(2 ** -24);
      expect(Math.abs(sin[pair]! - sines[pair]!)).toBeLessThanOrEqual(2 ** -24);
    }
  });

  it('an angle is rounded to float32 before its cosine is taken', () => {
    const { cos } = ropeTable(LLAMA3, CONTEXT, 100_000, 100_001);
    expect(Math.abs(cos[0]! - -0.9993607997894287)).toBeLessThanOrEqual(2 ** -24);
    expect(Math.abs(cos[34]! - 0.5413307547569275)).toBeLessThanOrEqual(2 ** -24);
  });

  it('pieces are rows of the whole', () => {
    const whole = ropeTable(LINEAR, CONTEXT, 0, 10);
    const piece = ropeTable(LINEAR, CONTEXT, 7, 9);
    expect(piece.sin).toEqual(whole.sin.slice(7 * 16, 9 * 16));
    expect(whole.cos.subarray(0, 16)).toEqual(new Float32Array(16).fill(1));
  });
});

describe('LongRoPE', () => {
  const rope: RopeShape = {
    rotaryDim: 4,
    theta: 100,
    scaling: {
      kind: 'longrope',
      shortFactors: [1, 2],
      longFactors: [4, 8],
      originalContextLength: 10,
      attentionFactor: 1.5,
    },
    interleaved: false,
  };

  it('has the short table for the original context, then all positions in the long one', () => {
    expect(longContext(rope, 40)).toEqual({ after: 10, positionOffset: 10 });
    expect(ropeRows(rope, 10_000)).toBe(10_010);
    const { sin } = ropeTable(rope, 40, 0, 50);
    const sine = (row: number, pair: number): number => sin[row * 2 + pair] ?? Number.NaN;
    expect(sine(9, 0)).toBeCloseTo(1.5 * Math.sin(9), 5);
    expect(sine(9, 1)).toBeCloseTo(1.5 * Math.sin(9 / 10 / 2), 5);
    expect(sine(10, 0)).toBe(0);
    expect(sine(10 + 39, 0)).toBeCloseTo(1.5 * Math.sin(39 / 4), 5);
    expect(sine(10 + 39, 1)).toBeCloseTo(1.5 * Math.sin(39 / 10 / 8), 5);
  });

  it('has one table where the model is no longer than its original context', () => {
    expect(longContext(rope, 10)).toBeNull();
  });

  it('has a row for every token that a step may have', () => {
    expect(ropeRows(rope, 40)).toBe(MAX_STEP_TOKENS);
  });
});
