import { describe, expect, it } from 'vitest';
import { MASKED } from '../../../../shard-worker/sampler/keep-bits.js';
import { Processors } from '../../../../shard-worker/sampler/processors.js';
import { seededRandom } from '../../../fixtures/seeded-random.js';
import { type SequenceParts, sequenceOf } from './choosing.js';

const apply = (logits: number[], parts: SequenceParts, base = 0): number[] => {
  const row = Float32Array.from(logits);
  new Processors(base, row.length).apply(row, sequenceOf(parts), null);
  return [...row];
};

describe('the logit processors', () => {
  it('divide a positive and multiply a negative logit by the repetition penalty, once an id, prompt included', () => {
    const parts = { sampling: { repetitionPenalty: 2 }, promptIds: [0, 0, 1], newIds: [1, 2] };
    expect(apply([4, -4, 0, 4], parts)).toEqual([2, -8, 0, 4]);
  });

  it('take presence once and frequency by count, over new tokens only', () => {
    const parts = {
      sampling: { presencePenalty: 0.5, frequencyPenalty: 0.25 },
      promptIds: [3],
      newIds: [0, 1, 0, 0],
    };
    expect(apply([10, 10, 10, 10], parts)).toEqual([8.75, 9.25, 10, 10]);
    expect(apply([10, 10, 10, 10], parts)).toEqual([8.75, 9.25, 10, 10]);
  });

  it('run in the order repetition, presence and frequency, bias, end ids', () => {
    const parts = {
      sampling: { repetitionPenalty: 2, presencePenalty: 1, logitBias: { 0: 3, 1: 50 }, minNewTokens: 2 },
      newIds: [0],
      endIds: [1],
    };
    // (8 / 2) − 1 + 3, not (8 + 3) / 2 − 1.
    expect(apply([8, 8], parts)).toEqual([6, MASKED]);
  });

  it('let end ids pass once min_new_tokens are there', () => {
    const parts = { sampling: { minNewTokens: 2 }, newIds: [0, 0], endIds: [1] };
    expect(apply([1, 2], parts)).toEqual([1, 2]);
  });

  it('touch only ids of their slice', () => {
    const parts = {
      sampling: { repetitionPenalty: 2, presencePenalty: 1, logitBias: { 99: 1, 102: 1 }, minNewTokens: 9 },
      promptIds: [0, 100],
      newIds: [103, 101],
      endIds: [3, 104],
    };
    expect(apply([4, 4, 4], parts, 100)).toEqual([2, 1, 5]);
  });

  it.each([0, 3, 8, 37])(
    'mask whole runs of a row known to be finite as they mask one by one, from id %i on',
    (base) => {
      const random = seededRandom(base);
      for (const count of [1, 7, 64, 203]) {
        // Runs of none, of all and of some, and a mask that ends before the slice.
        const bits = Uint8Array.from({ length: random.integer(5, 32) }, (_, at) =>
          at % 7 === 6 ? random.integer(0, 255) : at % 11 === 10 ? 0xff : 0,
        );
        const ids = Array.from({ length: 9 }, () => random.integer(0, base + count));
        for (const mask of [
          { bits, ids: [] },
          { bits: new Uint8Array(), ids },
        ]) {
          const rows = [false, true].map((allFinite) => {
            const row = Float32Array.from({ length: count + 3 }, (_, at) => at);
            new Processors(base, count).apply(row, { ...sequenceOf({}), mask }, null, allFinite);
            return row;
          });
          expect(rows[1]).toEqual(rows[0]);
        }
      }
    },
  );

  it.each([0, 3, 32, 37])(
    'mask what has no bit, from id %i on, and leave what is no number to be found',
    (base) => {
      const random = seededRandom(base);
      const bits = Uint8Array.from({ length: 12 }, (_, at) => (at % 3 === 0 ? 0xff : random.integer(0, 255)));
      const row = Float32Array.from({ length: 80 }, (_, at) => (at % 13 === 5 ? Number.NaN : at));
      const expected = [...row].map((logit, at) =>
        Number.isNaN(logit) || ((bits[(base + at) >> 3] ?? 0) >> ((base + at) & 7)) & 1 ? logit : MASKED,
      );
      const sequence = sequenceOf({});
      sequence.mask = { ids: [], bits };
      new Processors(base, row.length).apply(row, sequence, null);
      expect([...row]).toEqual(expected);
    },
  );

  it.each([0, 3, 8, 13])('mask the same where all are known to be numbers, from id %i on', (base) => {
    const random = seededRandom(100 + base);
    // Runs of one kind, cut anywhere, between bytes of any bits; ids behind the last bit have none.
    const byte = (): number => [0, 0xff, random.integer(0, 255)][random.integer(0, 2)]!;
    for (let round = 0; round < 50; round++) {
      const runs = Array.from({ length: 8 }, () => new Array<number>(random.integer(1, 4)).fill(byte()));
      const sequence = sequenceOf({});
      sequence.mask = { ids: [], bits: Uint8Array.from(runs.flat()) };
      const row = Float32Array.from({ length: random.integer(1, 200) }, (_, at) => at);
      const looked = row.slice();
      new Processors(base, row.length).apply(looked, sequence, null);
      new Processors(base, row.length).apply(row, sequence, null, true);
      expect([...row]).toEqual([...looked]);
    }
  });

  it('forget the row before', () => {
    const processors = new Processors(0, 2);
    for (let round = 0; round < 3; round++) {
      const row = Float32Array.of(4, 4);
      processors.apply(row, sequenceOf({ sampling: { repetitionPenalty: 2 }, promptIds: [round % 2] }), null);
      expect([...row]).toEqual(round % 2 === 0 ? [2, 4] : [4, 2]);
    }
  });

  it('save what the model made of each id they change', () => {
    const saved = new Map<number, number>();
    const parts = {
      sampling: { repetitionPenalty: 2, logitBias: { 10: 1 }, minNewTokens: 9 },
      promptIds: [10],
      endIds: [11],
    };
    const row = Float32Array.of(4, 5, 6);
    new Processors(10, 3).apply(row, sequenceOf(parts), saved);
    expect(saved).toEqual(
      new Map([
        [10, 4],
        [11, 5],
      ]),
    );
  });

  it('hold an overflow within float32, and leave what the model made infinite', () => {
    const parts = { sampling: { repetitionPenalty: 1e-30 }, promptIds: [0, 1, 2] };
    const [large, infinite, nan] = apply([1e20, Number.POSITIVE_INFINITY, Number.NaN], parts);
    expect(large).toBe(Math.fround(3.4e38));
    expect(infinite).toBe(Number.POSITIVE_INFINITY);
    expect(nan).toBeNaN();
  });
});
