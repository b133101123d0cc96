/** partitioner/plan/plan.ts, plan-items.ts, degrees.ts: every rule of the split, and that slices make the whole. */

import { describe, expect, it } from 'vitest';
import { attentionOutBlock, possibleDegrees } from '../../../partitioner/plan/degrees.js';
import type { ModelShape } from '../../../partitioner/plan/model-shape.js';
import { makePlan, type Plan, storedTensors } from '../../../partitioner/plan/plan.js';
import type { LinearItem } from '../../../partitioner/plan/plan-item.js';
import { TENSOR_ALIGNMENT } from '../../../partitioner/plan/plan-items.js';
import { downBlock, reproducibleDegrees } from '../../../partitioner/plan/sum-pieces.js';
import {
  chooseWeightFormat,
  FP32_FORMAT,
  linearBits,
  type WeightFormat,
} from '../../../partitioner/quantise/weight-format.js';
import { REPRODUCIBLE_DEGREES } from '../../../proto/partition.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { toyShape } from '../../fixtures/toy-config.js';

const FP32 = FP32_FORMAT;
/** Layers. */
const FEW = 2;
const int4 = (blockSize: number): WeightFormat => chooseWeightFormat({ dtype: 'int4', blockSize }, 0, FEW);
/** Every degree for itself. */
const apart = (blockSize: number): WeightFormat =>
  chooseWeightFormat({ dtype: 'int4', blockSize, reproducibleDegree: 1 }, 0, FEW);

function planOf(worldSize: number, changes: Record<string, unknown> = {}, format = FP32): Plan {
  return makePlan({ shape: toyShape(changes), worldSize, format, embeddingType: 'float16' });
}

function linear(plan: Plan, name: string): LinearItem {
  const item = plan.items.find(
    (candidate) => candidate.name === name || candidate.name === `${name}.piece-0`,
  );
  if (item?.kind !== 'linear') throw new Error(`no linear ${name}`);
  return item;
}

const code = 'TENSOR_PARALLEL_INVALID';

describe('degrees', () => {
  it('give every rank a head: as many as heads, where KV heads are fewer they are replicated', () => {
    expect(possibleDegrees(toyShape(), FP32)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const uneven = { num_attention_heads: 12, num_key_value_heads: 6, head_dim: 16 };
    expect(possibleDegrees(toyShape(uneven), FP32)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    const each = { num_attention_heads: 5, num_key_value_heads: 5, head_dim: 16 };
    expect(possibleDegrees(toyShape(each), FP32)).toEqual([1, 2, 3, 4, 5]);
  });

  it('that leave a rank empty are refused with those that do not', () => {
    expect(() => planOf(9)).toThrow(expect.objectContaining({ code }));
    expect(() => planOf(9)).toThrow(
      'a rank would be empty: there are 8 attention heads, 2 for each of 4 KV heads; degrees that work: 1, 2, 3, 4, 5, 6, 7, 8',
    );
    for (const degree of [0, -2, 1.5, 65, Number.NaN]) {
      expect(() => planOf(degree)).toThrow(`degree ${degree}: expected a whole number from 1 to 64`);
    }
  });

  it('deal heads out unevenly: SmolLM2-135M has 9 heads and 3 KV heads', () => {
    const nine = { num_attention_heads: 9, num_key_value_heads: 3, head_dim: 64 };
    const starts = (degree: number, part: number): number[][] =>
      linear(planOf(degree, nine), 'layer-0.qkv').parts[part]!.rowSlices.map(({ start, count }) => [
        start / 64,
        count / 64,
      ]);
    expect(planOf(2, nine).perRank).toMatchObject({ numHeads: 6, numKvHeads: 2 });
    expect(starts(2, 0)).toEqual([
      [0, 6],
      [6, 3],
    ]);
    expect(starts(2, 1)).toEqual([
      [0, 2],
      [2, 1],
    ]);
    expect(planOf(4, nine).perRank).toMatchObject({ numHeads: 3, numKvHeads: 1 });
    expect(starts(4, 0)).toEqual([
      [0, 2],
      [2, 1],
      [3, 3],
      [6, 3],
    ]);
    expect(starts(4, 1)).toEqual([
      [0, 1],
      [0, 1],
      [1, 1],
      [2, 1],
    ]);
    expect(linear(planOf(4, nine), 'layer-0.attention-out').columnSlices).toEqual(
      [
        [0, 2],
        [2, 1],
        [3, 3],
        [6, 3],
      ].map(([start, count]) => ({ start: start! * 64, count: count! * 64 })),
    );
  });

  it('a quantised output projection is cut on block borders only', () => {
    // 8 heads of 8: a rank of 8 would hold half a block of 16.
    // 4 KV heads over 3 ranks are 2, 1 and 1, of 2 queries each.
    expect(possibleDegrees(toyShape(), int4(32))).toEqual([1, 2, 3, 4]);
    expect(() => planOf(8, {}, int4(32))).toThrow(
      '8 columns of the int4 output projection are no whole blocks of 16; degrees that work: 1, 2, 3, 4',
    );
  });
});

describe('the output projection has one block size at every degree', () => {
  it.each([
    [{ head_dim: 64 }, 128, 64],
    [{ head_dim: 256 }, 128, 128],
    [{ head_dim: 96 }, 128, 32],
    [{ head_dim: 8 }, 128, 16],
    [{ head_dim: 64, num_attention_heads: 12, num_key_value_heads: 4 }, 128, 64],
    [{ head_dim: 64 }, 32, 32],
  ])('%j, block %i → %i', (changes, asked, expected) => {
    const shape = toyShape(changes);
    expect(attentionOutBlock(shape, int4(asked))).toBe(expected);
    for (const degree of possibleDegrees(shape, int4(asked))) {
      const plan = planOf(degree, changes, int4(asked));
      expect(linear(plan, 'layer-0.attention-out').format?.blockSize).toBe(expected);
      expect(linear(plan, 'layer-0.down').format?.blockSize).toBe(downBlock(shape, int4(asked), 112, true));
    }
  });
});

describe('sizes of one rank', () => {
  it('heads and KV heads are divided; KV heads fewer than ranks are replicated', () => {
    expect(planOf(2).perRank).toMatchObject({ numHeads: 4, numKvHeads: 2, headDim: 8 });
    const plan = planOf(8);
    expect(plan.perRank).toMatchObject({ numHeads: 1, numKvHeads: 1 });
    const [query, key, value] = linear(plan, 'layer-1.qkv').parts;
    expect(query?.rowSlices.map(({ start }) => start / 8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(key?.rowSlices.map(({ start }) => start / 8)).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    expect(value?.rowSlices).toEqual(key?.rowSlices);
  });

  it('ffn is padded to ranks × block, the vocabulary to ranks × 16', () => {
    const sizes = (plan: Plan) => [linear(plan, 'layer-0.down').inputs, plan.perRank.vocab];
    expect(sizes(planOf(1))).toEqual([112, 144]);
    expect(sizes(planOf(4))).toEqual([32, 48]);
    expect(sizes(planOf(2, {}, apart(32)))).toEqual([64, 80]);
    const { columnSlices } = linear(planOf(4), 'layer-0.down');
    expect(columnSlices).toEqual([
      { start: 0, count: 32 },
      { start: 32, count: 32 },
      { start: 64, count: 32 },
      { start: 96, count: 16 },
    ]);
  });

  it('keys and values of a token: two of 4 bytes a KV head dimension and layer', () => {
    expect(planOf(2).kvBytesPerTokenPerRank).toBe(2 * 2 * 2 * 8 * 4);
  });
});

describe('pieces of row-parallel linears', () => {
  const slicesOf = (plan: Plan, name: string) =>
    plan.items.flatMap((item) =>
      item.kind === 'linear' && item.name.startsWith(name)
        ? item.columnSlices.map(({ start, count }, rank) => [rank, item.piece?.index ?? 0, start, count])
        : [],
    );

  it('are the same columns at every degree that divides their number', () => {
    const columns = [1, 2, 4].map((degree) =>
      slicesOf(planOf(degree, { intermediate_size: 256 }, int4(32)), 'layer-0.down')
        .map(([, , start, count]) => [start, count])
        .sort(([a = 0], [b = 0]) => a - b),
    );
    expect(columns[0]).toEqual([0, 64, 128, 192].map((start) => [start, 64]));
    expect(columns[1]).toEqual(columns[0]);
    expect(columns[2]).toEqual(columns[0]);
    // [rank, piece, start, count]
    expect(slicesOf(planOf(2, {}, int4(32)), 'layer-1.attention-out')).toEqual([
      [0, 0, 0, 16],
      [1, 0, 32, 16],
      [0, 1, 16, 16],
      [1, 1, 48, 16],
    ]);
  });

  it('follow the degrees that the heads allow; none in fp32, with experts, or where not wanted', () => {
    const degrees = (changes: Record<string, unknown>, format: WeightFormat) =>
      reproducibleDegrees(toyShape(changes), format);
    expect(degrees({}, int4(32))).toEqual([1, 2, 4]);
    expect(degrees({ num_attention_heads: 6, num_key_value_heads: 6, head_dim: 16 }, int4(32))).toEqual([
      1, 2,
    ]);
    expect(degrees({ num_attention_heads: 7, num_key_value_heads: 7, head_dim: 16 }, int4(32))).toEqual([1]);
    expect(degrees({}, apart(32))).toEqual([1]);
    expect(degrees({}, FP32)).toEqual([1]);
    const eight = chooseWeightFormat({ dtype: 'int8', blockSize: 16, reproducibleDegree: 8 }, 0, FEW);
    expect(degrees({ head_dim: 16 }, eight)).toEqual([1, 2, 4, 8]);
    const experts = { ...toyShape(), experts: {} } as unknown as ModelShape;
    expect(reproducibleDegrees(experts, int4(32))).toEqual([1]);
  });

  it('have smaller blocks where that saves padding', () => {
    const block = (ffn: number, asked = 128) => downBlock(toyShape(), int4(asked), ffn, true);
    expect(block(5632)).toBe(128);
    // 4 × 128 would be 1024, 4 × 64 is 768.
    expect(block(704)).toBe(64);
    expect(block(704, 32)).toBe(32);
    expect(downBlock(toyShape(), apart(128), 704, true)).toBe(128);
  });

  it('at other degrees are of the degree itself, of the same blocks', () => {
    const format = int4(32);
    const plan = planOf(4, { num_attention_heads: 4, num_key_value_heads: 4, head_dim: 16 }, format);
    expect(plan.piecesPerRank).toBe(1);
    const eight = planOf(8, { head_dim: 16 }, format);
    expect(eight.piecesPerRank).toBe(1);
    expect(linear(eight, 'layer-0.down').piece).toBeNull();
    const { blockSize } = linear(planOf(1, { head_dim: 16 }, format), 'layer-0.down').format!;
    expect(linear(eight, 'layer-0.down').format?.blockSize).toBe(blockSize);
  });

  it('carry the bias once', () => {
    const items = planOf(2, { mlp_bias: true, attention_bias: true }, int4(32)).items.filter(
      (item): item is LinearItem => item.kind === 'linear' && item.split === 'row',
    );
    expect(items.map(({ piece, bias }) => [piece?.index, bias !== null])).toEqual(
      items.map((_, index) => [index % 2, index % 2 === 0]),
    );
  });
});

describe('stored tensors', () => {
  it('the query carries 1/sqrt(headDim): in its weight, or in its norm', () => {
    const factors = (plan: Plan) => linear(plan, 'layer-0.qkv').parts.map((part) => part.factor);
    expect(factors(planOf(1))).toEqual([1 / Math.sqrt(8), 1, 1]);
    const shape: ModelShape = { ...toyShape(), headNorm: 'per-head' };
    const plan = makePlan({ shape, worldSize: 1, format: FP32, embeddingType: 'float32' });
    expect(factors(plan)).toEqual([1, 1, 1]);
    const norms = plan.items.filter((item) => /^layer-0\.(query|key)-norm$/.test(item.name));
    expect(norms.map((item) => item.kind === 'copy' && item.factor)).toEqual([1 / Math.sqrt(8), 1]);
  });

  it('quantised: packed blocks and scales; the last block of a row may be partly padding', () => {
    const { weight, scales } = linear(planOf(2, {}, int4(128)), 'layer-0.qkv');
    expect(weight).toMatchObject({ type: 'uint8', shape: [64, 1, 64], split: 'column' });
    expect(scales).toMatchObject({ type: 'float32', shape: [64, 1] });
    const int8 = chooseWeightFormat({ dtype: 'int8', blockSize: 32, reproducibleDegree: 1 }, 0, FEW);
    expect(linear(planOf(2, {}, int8), 'layer-0.down').weight.shape).toEqual([64, 2, 32]);
  });

  it('a bias of a row-parallel linear is on rank 0, of a column-parallel one with its rows', () => {
    const plan = planOf(2, { attention_bias: true, mlp_bias: true });
    const split = (name: string) => linear(plan, name).bias?.split;
    expect(split('layer-0.qkv')).toBe('column');
    expect(split('layer-0.attention-out')).toBe('rank-0');
    expect(split('layer-0.gate-up')).toBe('column');
    expect(split('layer-0.down')).toBe('rank-0');
    expect(linear(planOf(2), 'layer-0.down').bias).toBeNull();
  });

  it('a tied head is made of the embedding, an untied one of its own weight', () => {
    expect(linear(planOf(2), 'head').weight.sources).toEqual(['model.embed_tokens.weight']);
    const untied = planOf(2, { tie_word_embeddings: false });
    expect(linear(untied, 'head').weight.sources).toEqual(['lm_head.weight']);
    expect(untied.parameters - planOf(2).parameters).toBe(131 * 64);
  });
});

/** Elements of a part that no rank, or more than one, holds. */
function strayRows([item, ...pieces]: readonly LinearItem[]): string[] {
  const wrong: string[] = [];
  for (const part of item?.parts ?? []) {
    const mayRepeat = item?.split === 'column' && item.name.endsWith('.qkv') && part !== item.parts[0];
    const held = new Int32Array(part.rows * part.columns);
    for (const { columnSlices, inputs } of [item!, ...pieces]) {
      part.rowSlices.forEach((rows, rank) => {
        const columns = columnSlices[rank]!;
        if (rows.count > part.rowsPerRank || columns.count > inputs) wrong.push(`${part.source} overflows`);
        for (let row = rows.start; row < rows.start + rows.count; row++) {
          for (let column = columns.start; column < columns.start + columns.count; column++) {
            held[row * part.columns + column]!++;
          }
        }
      });
    }
    if (held.some((count) => (mayRepeat ? count < 1 : count !== 1))) wrong.push(part.source);
  }
  return wrong;
}

describe(`random shapes (TEST_SEED=${testSeed})`, () => {
  const random = seededRandom(testSeed);
  const cases = Array.from({ length: 40 }, (_, index) => {
    const kvHeads = random.pick([1, 2, 3, 4, 5]);
    const changes = {
      num_hidden_layers: random.integer(1, 2),
      num_key_value_heads: kvHeads,
      num_attention_heads: kvHeads * random.pick([1, 2, 3, 4, 8]),
      head_dim: random.pick([2, 8, 16, 24, 32]),
      hidden_size: random.integer(8, 90),
      intermediate_size: random.integer(5, 200),
      vocab_size: random.integer(3, 150),
      attention_bias: random.next() < 0.5,
      mlp_bias: random.next() < 0.5,
      tie_word_embeddings: random.next() < 0.5,
    };
    const quantisation = {
      dtype: random.pick(['fp32', 'int8', 'int4'] as const),
      blockSize: random.pick([16, 32, 64, 128]),
      symmetric: random.next() < 0.5,
      eightBit: random.next() < 0.5 ? (['head', 'down'] as const) : [],
      reproducibleDegree: random.pick(REPRODUCIBLE_DEGREES),
    };
    return { index, changes, format: chooseWeightFormat(quantisation, 0, FEW) };
  });

  it.each(cases)(
    '$index: slices make the whole without overlap, and tensors lie apart',
    ({ changes, format }) => {
      for (const degree of possibleDegrees(toyShape(changes), format)) {
        const plan = planOf(degree, changes, format);
        const linears = plan.items.filter((item): item is LinearItem => item.kind === 'linear');
        const whole = linears.filter(({ piece }) => (piece?.index ?? 0) === 0);
        const withPieces = whole.map((item) => {
          const at = linears.indexOf(item);
          return linears.slice(at, at + (item.piece?.of ?? 1));
        });
        expect(withPieces.flatMap(strayRows)).toEqual([]);
        if (format.blockSize !== null) {
          for (const item of linears.filter(({ split }) => split === 'row')) {
            const starts = item.columnSlices.filter(({ count }) => count > 0).map(({ start }) => start);
            expect(starts.filter((start) => start % item.format!.blockSize !== 0)).toEqual([]);
          }
        }
        const ends = { shared: 0, rank: 0 };
        for (const { file, offset, bytes } of storedTensors(plan)) {
          expect(offset % TENSOR_ALIGNMENT).toBe(0);
          expect(offset).toBeGreaterThanOrEqual(ends[file]);
          ends[file] = offset + bytes;
        }
        expect(ends).toEqual({ shared: plan.sharedBytes, rank: plan.rankBytes });
      }
    },
  );
});

describe('the weight format', () => {
  it('auto is fp32 below 200 MB of float32, int8 below a billion parameters, else int4', () => {
    expect(chooseWeightFormat({}, 49_999_999, FEW)).toEqual(FP32);
    expect(chooseWeightFormat({}, 50_000_000, FEW).dtype).toBe('int8');
    expect(chooseWeightFormat({}, 999_999_999, FEW).dtype).toBe('int8');
    expect(chooseWeightFormat({ blockSize: 64 }, 1_000_000_000, FEW)).toEqual(int4(64));
    expect(chooseWeightFormat({ dtype: 'int8', scales: 'search', eightBit: ['head'] }, 1, FEW)).toEqual({
      dtype: 'int8',
      blockSize: 32,
      layout: 'blocks',
      symmetric: true,
      scales: 'nearest',
      eightBit: [],
      reproducibleDegree: 4,
      activationBits: 8,
    });
  });

  it('rows keep 16 bits below a billion parameters where our own kernels run, unless 8 are asked for', () => {
    const bits = (options: object, parameters: number) =>
      chooseWeightFormat({ dtype: 'int4', ...options }, parameters, FEW).activationBits;
    expect(bits({ layout: 'panels' }, 999_999_999)).toBe(16);
    expect(bits({ layout: 'panels' }, 1_000_000_000)).toBe(8);
    expect(bits({ layout: 'panels', activationBits: 16 }, 1_000_000_000)).toBe(16);
    expect(bits({ layout: 'panels', activationBits: 8 }, 1)).toBe(8);
    expect(bits({ layout: 'blocks' }, 1)).toBe(8);
    expect(bits({ layout: 'panels', dtype: 'fp32' }, 1)).toBeUndefined();
  });

  it('int8 searches its scales below a billion parameters, in panels without zero points', () => {
    const scales = (options: object, parameters: number) =>
      chooseWeightFormat({ dtype: 'int8', layout: 'panels', ...options }, parameters, FEW).scales;
    expect(scales({}, 1)).toBe('search');
    expect(scales({ scales: 'nearest' }, 1)).toBe('nearest');
    expect(scales({}, 1_000_000_000)).toBe('nearest');
    expect(scales({ symmetric: false }, 1)).toBe('nearest');
    expect(scales({ layout: 'blocks' }, 1)).toBe('nearest');
  });

  it('int4 in panels has zero points and its head at 8 bits, in a small model qkv and two layers too, unless other things are asked for', () => {
    const layout = 'panels';
    const eightBit = (parameters: number, options = {}, numLayers = 11) =>
      chooseWeightFormat({ dtype: 'int4', layout, ...options }, parameters, numLayers).eightBit;
    expect(chooseWeightFormat({ dtype: 'int4', layout }, 1, FEW).symmetric).toBe(false);
    expect(eightBit(999_999_999)).toEqual(['head', 'qkv']);
    expect(eightBit(999_999_999, {}, 12)).toEqual(['head', 'qkv', 'first', 'last']);
    expect(eightBit(1_000_000_000, {}, 12)).toEqual(['head']);
    expect(eightBit(1, { eightBit: ['down'] })).toEqual(['down']);
    expect(eightBit(1, { layout: 'blocks' })).toEqual([]);
    const plain = { dtype: 'int4', layout, symmetric: true, eightBit: [] } as const;
    expect(chooseWeightFormat(plain, 1, FEW)).toMatchObject({ symmetric: true, eightBit: [] });
    expect(chooseWeightFormat({ dtype: 'int8', layout }, 1, FEW)).toMatchObject({
      symmetric: true,
      eightBit: [],
    });
  });

  it('leaves chosen linears at 8 bits, and gives each its own zero points', () => {
    const format = chooseWeightFormat(
      { dtype: 'int4', blockSize: 16, symmetric: false, eightBit: ['last', 'head'], reproducibleDegree: 1 },
      0,
      FEW,
    );
    expect(format.eightBit).toEqual(['head', 'last']);
    const plan = planOf(2, { num_hidden_layers: 3 }, format);
    const bits = plan.items.flatMap((item) =>
      item.kind === 'linear' ? [[item.name, item.format?.bits]] : [],
    );
    expect(bits.filter(([, width]) => width === 8).map(([name]) => name)).toEqual([
      'layer-2.qkv',
      'layer-2.attention-out',
      'layer-2.gate-up',
      'layer-2.down',
      'head',
    ]);
    // A rank's 64 columns are four blocks: two bytes of zero points with 4 bits, four with 8.
    expect(linear(plan, 'layer-0.down').zeroPoints).toMatchObject({
      type: 'uint8',
      shape: [64, 2],
      split: 'row',
    });
    expect(linear(plan, 'layer-2.down').zeroPoints?.shape).toEqual([64, 4]);
    expect(linear(plan, 'layer-0.down').weight).toMatchObject({
      shape: [64, 4, 8],
      packing: { bits: 4, blockSize: 16 },
    });
    expect(linearBits({ ...format, eightBit: ['first', 'down'] }, 'layer-1.down', 3)).toBe(8);
    expect(linearBits({ ...format, eightBit: ['first'] }, 'layer-10.down', 11)).toBe(4);
    // With latents three linears make what the one makes elsewhere.
    for (const linear of ['layer-1.qkv', 'layer-1.latents', 'layer-1.query'])
      expect(linearBits({ ...format, eightBit: ['qkv'] }, linear, 3)).toBe(8);
    expect(linearBits({ ...format, eightBit: ['qkv'] }, 'layer-1.attention-out', 3)).toBe(4);
  });

  it('refuses a block there is no kernel for', () => {
    expect(() => chooseWeightFormat({ dtype: 'int4', blockSize: 48 }, 1, FEW)).toThrow(
      'block size 48 is not one of 16, 32, 64, 128, 256',
    );
  });
});
