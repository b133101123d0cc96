/**
 * Pieces that a weight is read in.
 *
 * In      rows, floats of one row; values that a source returned
 * Out     ranges of rows of at most CHUNK_FLOATS; the values multiplied
 * Pure
 */

/** Floats of one chunk of rows: 16 MiB. */
const CHUNK_FLOATS = 1 << 22;

/** Ranges of rows that stay within a chunk; at least a row each. */
export function* rowChunks(rows: number, rowFloats: number): Generator<[start: number, end: number]> {
  const step = Math.max(1, Math.floor(CHUNK_FLOATS / rowFloats));
  for (let start = 0; start < rows; start += step) yield [start, Math.min(rows, start + step)];
}

/** In place: what a source returns is the caller's. Each product is rounded to float32 once. */
export function scaled(values: Float32Array, factor: number): Float32Array {
  if (factor !== 1) for (let index = 0; index < values.length; index++) values[index]! *= factor;
  return values;
}
