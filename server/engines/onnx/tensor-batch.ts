/**
 * Several requests as one along the first axis, and their outputs apart again.
 *
 * In      the tensors of each request, in the order of the signature
 * Out     which requests go together; the joined inputs; each request's rows of every output
 * Limits  a model is batched where the first axis of every input and output varies; requests go together where all else is equal,
 *         or is to be filled up (padding.ts)
 * Errors  none: whether every output's first axis is the sum of the rows is asked before it is taken apart
 * Pure
 */
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';
import { filledUp, type PadValues, paddedShape } from './padding.js';

/** Rows may be put together. */
export const canBatch = ({ inputs, outputs }: Signature): boolean =>
  [...inputs, ...outputs].every(({ shape, type }) => shape !== null && shape[0] === -1 && type !== 'BYTES');

/** Equal for requests that may be put together. @param inputs in the signature's order, so that names go without saying */
export function batchKey(
  inputs: readonly NamedTensor[],
  outputs: readonly string[] | null,
  signature: Signature,
  pad: PadValues,
): string {
  let key = outputs === null ? '' : JSON.stringify(outputs);
  for (const [index, input] of inputs.entries())
    key += `;${input.type},${paddedShape(input, signature.inputs[index]!, pad)}`;
  return key;
}

/** Rows of a request, alike in all of its inputs; null: they are not alike, or there is none. */
export function rowsOf(inputs: readonly NamedTensor[]): number | null {
  const rows = inputs[0]?.shape[0] ?? 0;
  return rows > 0 && inputs.every(({ shape }) => shape[0] === rows) ? rows : null;
}

/** @param requests inputs of each, of the same key */
export function joinRows(requests: readonly (readonly NamedTensor[])[], pad: PadValues): NamedTensor[] {
  const [first = []] = requests;
  if (requests.length === 1) return [...first];
  return first.map((tensor, index) => {
    const given = requests.map((inputs) => inputs[index]!);
    const parts = Object.hasOwn(pad, tensor.name) ? filledUp(given, pad[tensor.name]!) : given;
    const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
    return {
      ...tensor,
      shape: [rows, ...parts[0]!.shape.slice(1)],
      bytes: Buffer.concat(parts.map(({ bytes }) => bytes)),
    };
  });
}

const sum = (rows: readonly number[]): number => rows.reduce((total, count) => total + count, 0);

/** Every output has a row for each row of the inputs. */
export const hasRowOfEach = (outputs: readonly NamedTensor[], rows: readonly number[]): boolean =>
  outputs.every(({ shape }) => shape[0] === sum(rows));

/** Each request's part of the outputs. */
export function splitRows(outputs: readonly NamedTensor[], rows: readonly number[]): NamedTensor[][] {
  const total = sum(rows);
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
