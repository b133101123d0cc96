/** partitioner/quantise/block-quantise.ts: layout, error bound, and blocks that are not whole. */
import { describe, expect, it } from 'vitest';
import {
  BLOCK_SIZES,
  type BlockFormat,
  blockBytes,
  blocksPerRow,
  dequantiseRows,
  packZeroPoints,
  type QuantisedBits,
  quantiseRows,
} from '../../../../partitioner/quantise/block-quantise.js';
import { sliceColumns, sliceColumnsPacked } from '../../../../partitioner/quantise/slice.js';
import { type SeededRandom, seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const BITS: readonly QuantisedBits[] = [4, 8];

/** Symmetric, scales by the largest weight. */
const plain = (bits: QuantisedBits, blockSize: number): BlockFormat => ({
  bits,
  blockSize,
  symmetric: true,
  search: false,
});

/** Mostly normal, with outliers, zeros and blocks that are all zero, at a magnitude of its own. */
function randomWeights(random: SeededRandom, rows: number, columns: number): Float32Array {
  const magnitude = 10 ** random.integer(-30, 20);
  return Float32Array.from({ length: rows * columns }, (_, index) => {
    if (Math.floor(index / 16) % 5 === 4) return 0;
    const kind = random.integer(0, 19);
    return kind === 0 ? 0 : random.normal() * magnitude * (kind === 1 ? 30 : 1);
  });
}

describe('the layout of MatMulNBits', () => {
  it('packs 4 bits with the even column in the low nibble, and scales by the signed maximum', () => {
    // Largest magnitude −16: scale 2, so q = w / 2 + 8.
    const block = [-16, 14, 0, 2, -2, 1, -1, 3, 4, 5, 6, 7, 8, 9, 10, 12];
    const { packed, scales } = quantiseRows(Float32Array.from(block), 1, 16, plain(4, 16));
    expect([...scales]).toEqual([2]);
    expect(Buffer.from(packed).toString('hex')).toBe('f09897a8bacbdced');
  });
});

describe.each(BITS)('%i bits', (bits) => {
  const zero = 2 ** (bits - 1);

  it('map the value of largest magnitude to q = 0 whatever its sign, so that it comes back exactly', () => {
    for (const largest of [3, -3]) {
      const weights = new Float32Array(32).fill(0.1);
      weights[17] = largest;
      const quantised = quantiseRows(weights, 1, 32, plain(bits, 16));
      expect(quantised.scales[1]).toBe(Math.fround(-largest / zero));
      expect(dequantiseRows(quantised, 1, 32, plain(bits, 16))[17]).toBe(largest);
    }
  });

  it('clip the opposite of the largest value by one level', () => {
    const weights = new Float32Array(16);
    weights[3] = zero;
    weights[4] = -zero;
    const back = dequantiseRows(quantiseRows(weights, 1, 16, plain(bits, 16)), 1, 16, plain(bits, 16));
    expect([back[3], back[4]]).toEqual([zero, -(zero - 1)]);
  });

  it('give a block of zeros scale 0 and q = zero', () => {
    const weights = new Float32Array(32);
    weights[16] = 1;
    const { packed, scales } = quantiseRows(weights, 1, 32, plain(bits, 16));
    expect(scales[0]).toBe(0);
    const bytes = blockBytes(bits, 16);
    expect([...packed.subarray(0, bytes)]).toEqual(Array(bytes).fill(bits === 4 ? 0x88 : 0x80));
    expect(scales[1]).not.toBe(0);
  });

  it('count a block of subnormals as zeros: its scale does not exist in float32', () => {
    const { packed, scales } = quantiseRows(new Float32Array(16).fill(-(2 ** -127)), 1, 16, plain(bits, 16));
    expect(scales[0]).toBe(0);
    expect(new Set(packed)).toEqual(new Set([bits === 4 ? 0x88 : 0x80]));
    // The smallest normal number still works, with a subnormal scale.
    const smallest = quantiseRows(new Float32Array(16).fill(2 ** -126), 1, 16, plain(bits, 16));
    expect(dequantiseRows(smallest, 1, 16, plain(bits, 16))[0]).toBe(2 ** -126);
  });

  it('pad the last block of a row with q = zero', () => {
    const weights = Float32Array.from([1, 1, 1, 2, 2, 2]);
    const { packed, scales } = quantiseRows(weights, 2, 3, plain(bits, 16));
    expect([...scales]).toEqual([Math.fround(-1 / zero), Math.fround(-2 / zero)]);
    const row = bits === 4 ? [0x00, 0x80, ...Array(6).fill(0x88)] : [0, 0, 0, ...Array(13).fill(0x80)];
    expect([...packed]).toEqual([...row, ...row]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuse %d and say where it stands',
    (wrong) => {
      const weights = new Float32Array(3 * 40).fill(1);
      weights[2 * 40 + 35] = wrong;
      expect(() => quantiseRows(weights, 3, 40, plain(bits, 16), 'model.x.weight', 100)).toThrow(
        expect.objectContaining({
          code: 'CHECKPOINT_INVALID',
          message: `Tensor model.x.weight has ${wrong} in row 102, column 35`,
        }),
      );
    },
  );

  it(`keep every weight within half a step, or one step where it is clipped (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed);
    for (let round = 0; round < 40; round++) {
      const blockSize = random.pick(BLOCK_SIZES);
      const rows = random.integer(1, 5);
      const columns = random.integer(1, 600);
      const weights = randomWeights(random, rows, columns);
      const quantised = quantiseRows(weights, rows, columns, plain(bits, blockSize));
      const back = dequantiseRows(quantised, rows, columns, plain(bits, blockSize));
      const blocks = blocksPerRow(columns, blockSize);
      for (const [index, weight] of weights.entries()) {
        const row = Math.floor(index / columns);
        const scale = quantised.scales[row * blocks + Math.floor((index % columns) / blockSize)]!;
        const clipped = weight / scale > zero - 0.5;
        const bound = Math.abs(scale) * (clipped ? 1 : 0.5) * (1 + 1e-5) + Math.abs(weight) * 2 ** -23;
        const where = `${weight} became ${back[index]} at scale ${scale}, round ${round}, index ${index}`;
        if (Math.abs(weight - back[index]!) > bound) expect.fail(where);
      }
    }
  });

  it(`are the same for pieces of rows as for the whole (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed + 1);
    for (let round = 0; round < 20; round++) {
      const blockSize = random.pick(BLOCK_SIZES);
      const rows = random.integer(2, 9);
      const columns = random.integer(1, 300);
      const cut = random.integer(1, rows - 1);
      const weights = randomWeights(random, rows, columns);
      const whole = quantiseRows(weights, rows, columns, plain(bits, blockSize));
      const top = quantiseRows(weights.subarray(0, cut * columns), cut, columns, plain(bits, blockSize));
      const bottom = quantiseRows(
        weights.subarray(cut * columns),
        rows - cut,
        columns,
        plain(bits, blockSize),
      );
      expect(Buffer.concat([top.packed, bottom.packed]).equals(whole.packed)).toBe(true);
      expect([...top.scales, ...bottom.scales]).toEqual([...whole.scales]);
    }
  });

  it(`are the same for columns cut on a block border as for the whole, cut after (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed + 2);
    for (let round = 0; round < 20; round++) {
      const blockSize = random.pick(BLOCK_SIZES);
      const rows = random.integer(1, 5);
      const blocks = random.integer(1, 6);
      const columns = blocks * blockSize - random.integer(0, blockSize - 1);
      const from = random.integer(0, blocks - 1);
      const to = random.integer(from + 1, blocks);
      const weights = randomWeights(random, rows, columns);
      const whole = quantiseRows(weights, rows, columns, plain(bits, blockSize));
      const lastColumn = Math.min(to * blockSize, columns);
      const piece = sliceColumns(weights, rows, columns, from * blockSize, lastColumn);
      const cutFirst = quantiseRows(piece, rows, lastColumn - from * blockSize, plain(bits, blockSize));
      const bytes = blockBytes(bits, blockSize);
      expect(sliceColumnsPacked(whole.packed, rows, blocks, bytes, from, to)).toEqual(cutFirst.packed);
      expect(sliceColumns(whole.scales, rows, blocks, from, to)).toEqual(cutFirst.scales);
    }
  });
});

describe('zero points', () => {
  it('put the smallest and the largest weight on the ends of the range', () => {
    // From −3 to 12 in 15 steps of 1.
    const weights = Float32Array.from([-3, 12, 0, 1, 5, 7.4, 7.6, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    const format = { ...plain(4, 16), symmetric: false };
    const quantised = quantiseRows(weights, 1, 16, format);
    expect([[...quantised.scales], [...quantised.zeroPoints!]]).toEqual([[1], [3]]);
    expect([...quantised.packed.subarray(0, 4)]).toEqual([0xf0, 0x43, 0xa8, 0x5b]);
    expect([...dequantiseRows(quantised, 1, 16, format).subarray(0, 7)]).toEqual([-3, 12, 0, 1, 5, 7, 8]);
    const eight = quantiseRows(weights, 1, 16, { ...format, bits: 8 });
    expect(eight.zeroPoints![0]).toBe(51); // 255 · 3 / 15
  });

  it('leave 0 exactly 0 in blocks that lie on one side of it, and in blocks of zeros', () => {
    const weights = Float32Array.from({ length: 48 }, (_, index) => (index < 16 ? 0 : index < 32 ? 5 : -5));
    weights[20] = 0;
    weights[40] = 0;
    for (const search of [false, true]) {
      const format = { bits: 4 as const, blockSize: 16, symmetric: false, search };
      const quantised = quantiseRows(weights, 1, 48, format);
      expect([...quantised.zeroPoints!]).toEqual([8, 0, 15]);
      const back = dequantiseRows(quantised, 1, 48, format);
      for (const [index, weight] of weights.entries()) expect(back[index]).toBeCloseTo(weight, 5);
      expect(quantised.scales[0]).toBe(0);
    }
  });

  it('are packed two a byte with 4 bits, every row in bytes of its own', () => {
    const zeroPoints = Uint8Array.from([1, 2, 3, 4, 5, 6]);
    expect([...packZeroPoints(zeroPoints, 2, 3, 4)]).toEqual([0x21, 0x03, 0x54, 0x06]);
    expect([...packZeroPoints(zeroPoints, 2, 3, 8)]).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe('searched scales', () => {
  const squaredError = (weights: Float32Array, blockSize: number, symmetric: boolean, search: boolean) => {
    const format = { bits: 4 as const, blockSize, symmetric, search };
    const back = dequantiseRows(quantiseRows(weights, 1, weights.length, format), 1, weights.length, format);
    return weights.reduce((sum, weight, index) => sum + (weight - back[index]!) ** 2, 0);
  };

  it.each([
    [32, true, 0.95],
    [128, true, 0.93],
    [32, false, 0.95],
    [128, false, 0.93],
  ])(
    `take squared error off normal weights in blocks of %i, symmetric: %s (seed ${testSeed})`,
    (blockSize, symmetric, share) => {
      const random = seededRandom(testSeed + 3);
      const weights = Float32Array.from({ length: 128 * 200 }, () => random.normal());
      const searched = squaredError(weights, blockSize, symmetric, true);
      expect(searched / squaredError(weights, blockSize, symmetric, false)).toBeLessThan(share);
    },
  );

  it(`are never worse than the scale of the largest weight, and as good as a search of 200 (seed ${testSeed})`, () => {
    const random = seededRandom(testSeed + 4);
    let sums = { searched: 0, best: 0 };
    for (let round = 0; round < 200; round++) {
      const weights = Float32Array.from({ length: 64 }, () => random.normal() ** 3);
      const searched = squaredError(weights, 64, true, true);
      expect(searched).toBeLessThanOrEqual(squaredError(weights, 64, true, false) * (1 + 1e-6));
      sums = { searched: sums.searched + searched, best: sums.best + bestError(weights) };
    }
    expect(sums.searched / sums.best).toBeLessThan(1.1);
  });

  /** Of 200 scales from half to twice the plain one, each the least squares of its levels. */
  function bestError(weights: Float32Array): number {
    const largest = weights.reduce((most, weight) => (Math.abs(weight) > Math.abs(most) ? weight : most), 0);
    let best = Number.POSITIVE_INFINITY;
    for (let step = 0; step < 200; step++) {
      const scale = (-largest / 8) * 2 ** (step / 100 - 1);
      const levels = [...weights].map((weight) => Math.max(-8, Math.min(7, Math.round(weight / scale))));
      const products = levels.reduce((sum, level, index) => sum + level * weights[index]!, 0);
      const fitted = products / levels.reduce((sum, level) => sum + level * level, 0);
      const error = levels.reduce((sum, level, index) => sum + (weights[index]! - level * fitted) ** 2, 0);
      best = Math.min(best, error);
    }
    return best;
  }

  it('change nothing at 8 bits', () => {
    const weights = Float32Array.from({ length: 64 }, (_, index) => Math.sin(index));
    const format = plain(8, 32);
    expect(quantiseRows(weights, 1, 64, { ...format, search: true })).toEqual(
      quantiseRows(weights, 1, 64, format),
    );
  });
});

describe('wrong arguments', () => {
  it('are bugs: a length that does not fit, a block size that MatMulNBits has not', () => {
    expect(() => quantiseRows(new Float32Array(31), 1, 32, plain(4, 16), 'w')).toThrow(
      'w: 31 weights, not 1 × 32',
    );
    expect(() => quantiseRows(new Float32Array(48), 1, 48, plain(4, 48))).toThrow('block size 48');
    expect(() =>
      dequantiseRows(
        { packed: new Uint8Array(7), scales: new Float32Array(1), zeroPoints: null },
        1,
        16,
        plain(4, 16),
      ),
    ).toThrow('7 bytes');
  });

  it('of a slice are bugs too', () => {
    expect(() => sliceColumns(new Float32Array(6), 2, 3, 1, 4)).toThrow('columns 1 to 4 of 3');
    expect(() => sliceColumns(new Float32Array(5), 2, 3, 0, 1)).toThrow('5 elements, not 2 × 3');
  });
});
