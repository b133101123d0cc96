/**
 * How many queries of a sequence a device's attention computes right in one run: known answers before the first request.
 *
 * A GPU's driver is not ours, and the provider takes another shader from 32 queries on. SwiftShader, whose subgroups are of 4, gives wrong
 * numbers by it, without a word; so may others (README).
 *
 * In      a segment's attention over made-up queries, keys and values
 * Out     the most queries a run may have
 * Errors  UNSUPPORTED_PLATFORM: also few queries give wrong numbers
 */
import { ServingError } from '../proto/errors.js';

/** From here on the provider computes otherwise. */
const OTHER_SHADER_QUERIES = 32;
const CHECKED_QUERIES = 40;
/** For outputs whose size is about 0.1; float32 in any order is within 1e-6, halves within 1e-3 of the scores' size. */
const TOLERANCE = { float32: 1e-4, float16: 5e-3 };
/** Scores of several units: a soft cap or a window that is left out is seen. */
const QUERY_SIZE = 4;

export interface AttentionShape {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  softCap: number | null;
  window: number | null;
  /** What it computes in; absent: float32. */
  type?: 'float32' | 'float16';
}

export interface AttentionSample {
  tokens: number;
  query: Float32Array;
  key: Float32Array;
  value: Float32Array;
}

/**
 * @param attend runs a sample from row 0 of an empty slot; outputs as packed as queries
 * @param most queries that there is room for
 * @throws ServingError UNSUPPORTED_PLATFORM
 */
export function queriesTogether(
  shape: AttentionShape,
  most: number,
  attend: (sample: AttentionSample) => Float32Array,
): number {
  const tolerance = TOLERANCE[shape.type ?? 'float32'];
  const isRight = (tokens: number): boolean => {
    const sample = makeSample(shape, tokens);
    const expected = referenceAttention(shape, sample);
    const seen = attend(sample);
    return expected.every((value, index) => Math.abs(value - (seen[index] ?? Number.NaN)) <= tolerance);
  };
  if (most >= CHECKED_QUERIES && isRight(CHECKED_QUERIES)) return Number.POSITIVE_INFINITY;
  const few = Math.min(most, OTHER_SHADER_QUERIES - 1);
  if (isRight(few)) return few;
  throw new ServingError(
    'UNSUPPORTED_PLATFORM',
    `the GPU's driver computes attention wrongly (${few} queries of ${shape.numHeads} heads of ${shape.headDim})`,
  );
}

function makeSample({ headDim, numHeads, numKvHeads }: AttentionShape, tokens: number): AttentionSample {
  const made = (columns: number, seed: number, size = 0.5): Float32Array =>
    Float32Array.from({ length: tokens * columns }, (_, index) => Math.sin((index + 1) * seed) * size);
  const kvColumns = numKvHeads * headDim;
  return {
    ...{ tokens, query: made(numHeads * headDim, 12.9898, QUERY_SIZE) },
    ...{ key: made(kvColumns, 78.233), value: made(kvColumns, 37.719) },
  };
}

/** The definition, in double precision. */
export function referenceAttention(shape: AttentionShape, sample: AttentionSample): Float32Array {
  const { headDim, numHeads, numKvHeads, softCap, window } = shape;
  const { key, query, tokens, value } = sample;
  const out = new Float32Array(query.length);
  for (let token = 0; token < tokens; token++) {
    const first = window === null ? 0 : Math.max(0, token + 1 - window);
    for (let head = 0; head < numHeads; head++) {
      const q = (token * numHeads + head) * headDim;
      const kvHead = Math.floor(head / (numHeads / numKvHeads));
      const at = (row: number): number => (row * numKvHeads + kvHead) * headDim;
      const scores: number[] = [];
      for (let row = first; row <= token; row++) {
        let score = 0;
        for (let column = 0; column < headDim; column++) score += query[q + column]! * key[at(row) + column]!;
        scores.push(softCap === null ? score : softCap * Math.tanh(score / softCap));
      }
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const sum = weights.reduce((total, weight) => total + weight, 0);
      for (let column = 0; column < headDim; column++) {
        let mean = 0;
        weights.forEach((weight, index) => {
          mean += weight * value[at(first + index) + column]!;
        });
        out[q + column] = mean / sum;
      }
    }
  }
  return out;
}
