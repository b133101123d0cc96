/**
 * What `--verify` cuts whole rows by, apart from the writer's own cutting.
 *
 * In      rows of a whole matrix. Out  their columns from one on, in rows of another width
 * Pure
 */

/** A range of columns of `from`, as far as they go, into rows of `into`. */
export function fillFrom<T extends Uint8Array | Float32Array>(
  into: T,
  width: number,
  from: T,
  fromWidth: number,
  rows: number,
  { first, count }: { first: number; count: number },
): void {
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < count && first + column < fromWidth; column++) {
      into[row * width + column] = from[row * fromWidth + first + column]!;
    }
  }
}
