/**
 * Column ranges of row-major matrices: how a row-parallel weight is cut after the whole tensor was quantised.
 *
 * In      a matrix [rows, columns] of any typed array; or packed blocks [rows, blocks, blobBytes]
 * Out     a copy of the range, [rows, to − from]
 * Errors  a range outside the matrix is a bug (assert)
 */
import assert from 'node:assert/strict';

/**
 * @param matrix [rows, columns]: scales [rows, blocks], plain weights, or bytes
 * @returns [rows, toColumn − fromColumn]
 */
export function sliceColumns<T extends Uint8Array | Uint16Array | Float32Array>(
  matrix: T,
  rows: number,
  columns: number,
  fromColumn: number,
  toColumn: number,
): T {
  assert(matrix.length === rows * columns, `${matrix.length} elements, not ${rows} × ${columns}`);
  assert(
    0 <= fromColumn && fromColumn <= toColumn && toColumn <= columns,
    `columns ${fromColumn} to ${toColumn} of ${columns}`,
  );
  const width = toColumn - fromColumn;
  const Kind = matrix.constructor as new (length: number) => T;
  const slice = new Kind(rows * width);
  for (let row = 0; row < rows; row++) {
    slice.set(matrix.subarray(row * columns + fromColumn, row * columns + toColumn), row * width);
  }
  return slice;
}

/**
 * Whole blocks of a quantised matrix.
 *
 * @param packed [rows, blocks, blobBytes]
 * @returns [rows, toBlock − fromBlock, blobBytes]
 */
export function sliceColumnsPacked(
  packed: Uint8Array,
  rows: number,
  blocks: number,
  blobBytes: number,
  fromBlock: number,
  toBlock: number,
): Uint8Array {
  return sliceColumns(packed, rows, blocks * blobBytes, fromBlock * blobBytes, toBlock * blobBytes);
}
