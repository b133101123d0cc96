/**
 * Weights at 8 bits with one scale an output, in the layout of com.microsoft.MatMulIntegerToFloat: what steps of many rows multiply by.
 *
 * In      weights float32 [rows = outputs, columns = inputs], row-major, in pieces of rows
 * Out     codes int8 [inputs, outputs] in −127 … 127, scales float32 [outputs]; w = code · scale, scale = largest magnitude / 127.
 *         An output of zeros has scale 0
 * Bound   |w − code · scale| ≤ scale / 2, and float32 rounding
 * Why so  the weights are those that the block-wise format computes with, not the checkpoint's: few rows and many rows are one model,
 *         to within this rounding, which for 4-bit weights is a small part of their own
 * Limits  memory: the codes of one linear, since a file is written from its start to its end and its columns come from all rows
 * Errors  none: the weights were finite when they were quantised
 */

/** Rows and columns that are turned together: both sides of it stay in the first-level cache. */
const TILE = 64;
const LARGEST_CODE = 127;
/** No code plus it is below 0. */
const OFFSET = 128;
const ABOVE_ZERO = OFFSET + 0.5;

export class OutputQuantiser {
  /** [inputs, outputs] */
  readonly codes: Int8Array;
  /** [outputs] */
  readonly scales: Float32Array;
  readonly #outputs: number;

  constructor(outputs: number, inputs: number) {
    this.codes = new Int8Array(inputs * outputs);
    this.scales = new Float32Array(outputs);
    this.#outputs = outputs;
  }

  /**
   * @param weights [rows, columns], columns ≤ inputs; inputs beyond them stay 0
   * @param firstOutput output that the rows begin with
   */
  add(weights: Float32Array, rows: number, columns: number, firstOutput: number): void {
    const { codes, scales } = this;
    const outputs = this.#outputs;
    const inverses = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      let largest = 0;
      for (let index = row * columns; index < (row + 1) * columns; index++) {
        const weight = weights[index]!;
        if (weight > largest) largest = weight;
        else if (-weight > largest) largest = -weight;
      }
      const scale = Math.fround(largest / LARGEST_CODE);
      scales[firstOutput + row] = scale;
      inverses[row] = scale === 0 ? 0 : 1 / scale;
    }
    const tile = new Int8Array(TILE * TILE);
    for (let firstRow = 0; firstRow < rows; firstRow += TILE) {
      const height = Math.min(TILE, rows - firstRow);
      for (let firstColumn = 0; firstColumn < columns; firstColumn += TILE) {
        const width = Math.min(TILE, columns - firstColumn);
        for (let row = 0; row < height; row++) {
          const inverse = inverses[firstRow + row]!;
          const from = (firstRow + row) * columns + firstColumn;
          for (let column = 0; column < width; column++) {
            // Above 0 cutting off rounds down; written out, since a call takes five times as long.
            tile[column * TILE + row] = ((weights[from + column]! * inverse + ABOVE_ZERO) | 0) - OFFSET;
          }
        }
        for (let column = 0; column < width; column++) {
          const into = (firstColumn + column) * outputs + firstOutput + firstRow;
          const turned = column * TILE;
          for (let row = 0; row < height; row++) codes[into + row] = tile[turned + row]!;
        }
      }
    }
  }
}
