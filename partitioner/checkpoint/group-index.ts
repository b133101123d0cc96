/**
 * Each column's group where a file says it (`g_idx`): GPTQ and compressed-tensors in the order of activations.
 *
 * In      TensorSource of the checkpoint, the tensor's name; columns, groups, columns of a group
 * Out     a group a column; null: there is no such tensor, or the columns of a group lie side by side
 * Errors  ServingError CHECKPOINT_INVALID: another type or size, a group that is none
 */
import { ServingError } from '../../proto/errors.js';
import { printableName } from './json-file.js';
import { readIntegers, type TensorSource } from './tensor-source.js';

/** @throws ServingError CHECKPOINT_INVALID */
export function readGroupIndex(
  source: TensorSource,
  name: string,
  { columns, groups, groupSize }: { columns: number; groups: number; groupSize: number },
): Int32Array | null {
  const info = source.integers?.get(name);
  if (info === undefined) return null;
  if (info.type !== 'I32' || info.shape.join() !== String(columns))
    throw wrongTensor(name, `no I32 [${columns}]`);
  const groupOf = new Int32Array(readIntegers(source, name, 0, columns).buffer);
  const outside = groupOf.find((group) => group < 0 || group >= groups);
  if (outside !== undefined) throw wrongTensor(name, `names group ${outside} of ${groups}`);
  return groupOf.every((group, column) => group === Math.floor(column / groupSize)) ? null : groupOf;
}

/** @param what completes "Tensor NAME is …" */
export function wrongTensor(name: string, what: string): ServingError {
  return new ServingError('CHECKPOINT_INVALID', `Tensor ${printableName(name)} is ${what}`);
}
