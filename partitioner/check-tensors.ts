/**
 * Compares what a checkpoint holds with what the model's shape asks for.
 *
 * In      ModelShape, TensorSource
 * Errors  ServingError CHECKPOINT_INVALID naming the tensor: missing, of a type that can't be read, of another shape, or
 *         unknown (a weight that nobody uses means that the model computes something nobody here computes)
 */
import { ServingError } from '../proto/errors.js';
import { requireTensor, type TensorSource } from './checkpoint/tensor-source.js';
import { expectedTensors, type ModelShape } from './model-shape.js';

/** @throws ServingError CHECKPOINT_INVALID */
export function checkTensors(shape: ModelShape, source: TensorSource): void {
  const expected = expectedTensors(shape);
  for (const { name, shape: size } of expected) {
    const found = requireTensor(source, name);
    if (found.shape.join() !== size.join()) {
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `Tensor ${name} has shape [${found.shape.join(', ')}], config.json asks for [${size.join(', ')}]`,
      );
    }
  }
  const known = new Set(expected.map((tensor) => tensor.name));
  // A tied checkpoint may carry the head a second time; transformers does not read it either.
  known.add(`${shape.names.head}.weight`);
  for (const name of [...source.tensors.keys(), ...(source.unsupported?.keys() ?? [])]) {
    if (known.has(name) || shape.names.ignored.some((pattern) => pattern.test(name))) continue;
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `Tensor ${name} has no place in ${shape.architecture} with this config.json`,
    );
  }
}
