/** Hidden states of a text's tokens → one row: every pooling by hand. */
import { describe, expect, it } from 'vitest';
import type { Pooling } from '../../../proto/manifest.js';
import { pool } from '../../../shard-worker/pooling.js';

/** Packed: a text of one token, and one of three; two columns. */
const HIDDEN = Float32Array.of(10, 20, 1, -2, 3, -4, 5, 9);
const SPANS = [
  { offset: 0, count: 1, outputRows: 1 },
  { offset: 1, count: 3, outputRows: 1 },
];

function pooled(poolings: readonly Pooling[], spans = SPANS): number[] {
  const rows = new Float32Array(spans.length * poolings.length * 2);
  pool(poolings, spans, HIDDEN, rows, 2);
  return Array.from(rows);
}

describe('pooling', () => {
  it.each<[Pooling, number[]]>([
    ['first', [1, -2]],
    ['last', [5, 9]],
    ['max', [5, 9]],
    ['mean', [3, 1]],
    ['mean-sqrt', [Math.fround(9 / Math.sqrt(3)), Math.fround(3 / Math.sqrt(3))]],
    ['mean-by-place', [Math.fround((1 + 6 + 15) / 6), Math.fround((-2 - 8 + 27) / 6)]],
  ])('%s', (pooling, expected) => {
    const [one, other, ...rest] = pooled([pooling]);
    expect([one, other]).toEqual([10, 20]);
    rest.forEach((value, column) => {
      expect(value).toBeCloseTo(expected[column]!, 6);
    });
  });

  it('sets the results of several side by side', () => {
    expect(pooled(['last', 'first'])).toEqual([10, 20, 10, 20, 5, 9, 1, -2]);
  });

  it('leaves out a span that wants nothing', () => {
    const [first, second] = SPANS;
    const spans = [{ ...first!, outputRows: 0 }, second!];
    expect(pooled(['mean'], spans).slice(0, 2)).toEqual([3, 1]);
  });
});
