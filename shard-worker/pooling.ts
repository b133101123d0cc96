/**
 * Pooling: the hidden states of a text's tokens become one row.
 *
 * In      poolings of the manifest, the step's spans, hidden states float32 [tokens, columns]
 * Out     a row for each span that wants one, float32 [rows, poolings · columns]
 * Limits  a few additions a number: 512 tokens of 1024 columns take well under a millisecond. Sums are in double precision
 * Source  sentence-transformers' Pooling
 */
import type { Pooling } from '../proto/manifest.js';
import type { Span } from './span.js';

export function pool(
  poolings: readonly Pooling[],
  spans: readonly Pick<Span, 'offset' | 'count' | 'outputRows'>[],
  hidden: Float32Array,
  pooled: Float32Array,
  columns: number,
): void {
  let at = 0;
  for (const { count, offset, outputRows } of spans) {
    if (outputRows === 0) continue;
    const tokens = hidden.subarray(offset * columns, (offset + count) * columns);
    for (const pooling of poolings) {
      poolTokens(pooling, tokens, pooled.subarray(at, at + columns));
      at += columns;
    }
  }
}

function poolTokens(pooling: Pooling, tokens: Float32Array, into: Float32Array): void {
  const columns = into.length;
  const count = tokens.length / columns;
  switch (pooling) {
    case 'first':
      into.set(tokens.subarray(0, columns));
      return;
    case 'last':
      into.set(tokens.subarray((count - 1) * columns));
      return;
    case 'max':
      into.set(tokens.subarray(0, columns));
      for (let at = columns; at < tokens.length; at++) {
        const column = at % columns;
        into[column] = Math.max(into[column]!, tokens[at]!);
      }
      return;
    case 'mean':
      weigh(tokens, into, () => 1 / count);
      return;
    case 'mean-sqrt':
      weigh(tokens, into, () => 1 / Math.sqrt(count));
      return;
    case 'mean-by-place':
      weigh(tokens, into, (index) => (2 * (index + 1)) / (count * (count + 1)));
      return;
  }
}

function weigh(tokens: Float32Array, into: Float32Array, weightOf: (index: number) => number): void {
  const columns = into.length;
  const sums = new Float64Array(columns);
  for (let start = 0, index = 0; start < tokens.length; start += columns, index++) {
    const weight = weightOf(index);
    for (let column = 0; column < columns; column++) sums[column]! += weight * tokens[start + column]!;
  }
  into.set(sums);
}
