/** partitioner/quantise/block-quantise.ts: layout, error bound, and blocks that are not whole. */
import { describe, expect, it } from 'vitest';
import {
  BLOCK_SIZES,
  blockBytes,
  blocksPerRow,
  dequantiseRows,
  type QuantisedBits,
  quantiseRows,
} from '../../../../partitioner/quantise/block-quantise.js';
import { sliceColumns, sliceColumnsPacked } from '../../../../partitioner/quantise/slice.js';
import { type SeededRandom, seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const BITS: readonly QuantisedBits[] = [4, 8];

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
    const { packed, scales } = quantiseRows(Float32Array.from(block), 1, 16, 4, 16);
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
      const quantised = quantiseRows(weights, 1, 32, bits, 16);
      expect(quantised.scales[1]).toBe(Math.fround(-largest / zero));
      expect(dequantiseRows(quantised, 1, 32, bits, 16)[17]).toBe(largest);
    }
  });

  it('clip the opposite of the largest value by one level', () => {
    const weights = new Float32Array(16);
    weights[3] = zero;
    weights[4] = -zero;
    const back = dequantiseRows(quantiseRows(weights, 1, 16, bits, 16), 1, 16, bits, 16);
    expect([back[3], back[4]]).toEqual([zero, -(zero - 1)]);
  });

  it('give a block of zeros scale 0 and q = zero', () => {
    const weights = new Float32Array(32);
    weights[16] = 1;
    const { packed, scales } = quantiseRows(weights, 1, 32, bits, 16);
    expect(scales[0]).toBe(0);
    const bytes = blockBytes(bits, 16);
    expect([...packed.subarray(0, bytes)]).toEqual(Array(bytes).fill(bits === 4 ? 0x88 : 0x80));
    expect(scales[1]).not.toBe(0);
  });

  it('count a block of subnormals as zeros: its scale does not exist in float32', () => {
    const { packed, scales } = quantiseRows(new Float32Array(16).fill(-(2 ** -127)), 1, 16, bits, 16);
    expect(scales[0]).toBe(0);
    expect(new Set(packed)).toEqual(new Set([bits === 4 ? 0x88 : 0x80]));
    // The smallest normal number still works, with a subnormal scale.
    const smallest = quantiseRows(new Float32Array(16).fill(2 ** -126), 1, 16, bits, 16);
    expect(dequantiseRows(smallest, 1, 16, bits, 16)[0]).toBe(2 ** -126);
  });

  it('pad the last block of a row with q = zero', () => {
    const weights = Float32Array.from([1, 1, 1, 2, 2, 2]);
    const { packed, scales } = quantiseRows(weights, 2, 3, bits, 16);
    expect([...scales]).toEqual([Math.fround(-1 / zero), Math.fround(-2 / zero)]);
    const row = bits === 4 ? [0x00, 0x80, ...Array(6).fill(0x88)] : [0, 0, 0, ...Array(13).fill(0x80)];
    expect([...packed]).toEqual([...row, ...row]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuse %d and say where it stands',
    (wrong) => {
      const weights = new Float32Array(3 * 40).fill(1);
      weights[2 * 40 + 35] = wrong;
      expect(() => quantiseRows(weights, 3, 40, bits, 16, 'model.x.weight', 100)).toThrow(
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
      const quantised = quantiseRows(weights, rows, columns, bits, blockSize);
      const back = dequantiseRows(quantised, rows, columns, bits, blockSize);
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
      const whole = quantiseRows(weights, rows, columns, bits, blockSize);
      const top = quantiseRows(weights.subarray(0, cut * columns), cut, columns, bits, blockSize);
      const bottom = quantiseRows(weights.subarray(cut * columns), rows - cut, columns, bits, blockSize);
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
      const whole = quantiseRows(weights, rows, columns, bits, blockSize);
      const lastColumn = Math.min(to * blockSize, columns);
      const piece = sliceColumns(weights, rows, columns, from * blockSize, lastColumn);
      const cutFirst = quantiseRows(piece, rows, lastColumn - from * blockSize, bits, blockSize);
      const bytes = blockBytes(bits, blockSize);
      expect(sliceColumnsPacked(whole.packed, rows, blocks, bytes, from, to)).toEqual(cutFirst.packed);
      expect(sliceColumns(whole.scales, rows, blocks, from, to)).toEqual(cutFirst.scales);
    }
  });
});

describe('wrong arguments', () => {
  it('are bugs: a length that does not fit, a block size that MatMulNBits has not', () => {
    expect(() => quantiseRows(new Float32Array(31), 1, 32, 4, 16, 'w')).toThrow('w: 31 weights, not 1 × 32');
    expect(() => quantiseRows(new Float32Array(48), 1, 48, 4, 48)).toThrow('block size 48');
    expect(() =>
      dequantiseRows({ packed: new Uint8Array(7), scales: new Float32Array(1) }, 1, 16, 4, 16),
    ).toThrow('7 bytes');
  });

  it('of a slice are bugs too', () => {
    expect(() => sliceColumns(new Float32Array(6), 2, 3, 1, 4)).toThrow('columns 1 to 4 of 3');
    expect(() => sliceColumns(new Float32Array(5), 2, 3, 0, 1)).toThrow('5 elements, not 2 × 3');
  });
});
