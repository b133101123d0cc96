/**
 * Several requests as one along the first axis, and their outputs apart again.
 *
 * In      the tensors of each request, in the order of the signature
 * Out     which requests go together; the joined inputs; each request's rows of every output
 * Limits  a model is batched where the first axis of every input and output varies; requests go together where all else is equal
 * Errors  none: an output whose first axis is not the sum of the rows is told by null
 * Pure
 */
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';

/** Rows may be put together. */
export const canBatch = ({ inputs, outputs }: Signature): boolean =>
  [...inputs, ...outputs].every(({ shape, type }) => shape !== null && shape[0] === -1 && type !== 'BYTES');

/** Equal for requests that may be put together. */
export const batchKey = (inputs: readonly NamedTensor[], outputs: readonly string[] | null): string =>
  JSON.stringify([inputs.map(({ name, shape, type }) => [name, type, shape.slice(1)]), outputs]);

/** Rows of a request, alike in all of its inputs; null: they are not alike, or there is none. */
export function rowsOf(inputs: readonly NamedTensor[]): number | null {
  const rows = new Set(inputs.map(({ shape }) => shape[0]));
  const [only] = rows;
  return rows.size === 1 && only !== undefined && only > 0 ? only : null;
}

/** @param requests inputs of each, of the same key */
export function joinRows(requests: readonly (readonly NamedTensor[])[]): NamedTensor[] {
  const [first = []] = requests;
  if (requests.length === 1) return [...first];
  return first.map((tensor, index) => {
    const parts = requests.map((inputs) => inputs[index]!);
    const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
    return {
      ...tensor,
      shape: [rows, ...tensor.shape.slice(1)],
      bytes: Buffer.concat(parts.map(({ bytes }) => bytes)),
    };
  });
}

/** Each request's part of the outputs; null: an output has no row for each row of the inputs. */
export function splitRows(outputs: readonly NamedTensor[], rows: readonly number[]): NamedTensor[][] | null {
  const total = rows.reduce((sum, count) => sum + count, 0);
  if (!outputs.every(({ shape }) => shape[0] === total)) return null;
  let start = 0;
  return rows.map((count) => {
    const from = start;
    start += count;
    return outputs.map((output) => {
      const rowBytes = output.bytes.byteLength / total;
      return {
        ...output,
        shape: [count, ...output.shape.slice(1)],
        bytes: output.bytes.subarray(from * rowBytes, (from + count) * rowBytes),
      };
    });
  });
}
