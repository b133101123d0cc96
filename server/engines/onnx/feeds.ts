/**
 * A request's tensors against the model's signature.
 *
 * In      PredictRequest, Signature
 * Out     the inputs in the signature's order, named by it
 * Errors  BAD_REQUEST: an input that is missing, unknown or given twice, of another type or shape; an unknown output
 * Pure
 */
import { ServingError } from '../../../proto/errors.js';
import type { NamedTensor, PredictRequest } from '../../requests/predict-request.js';
import type { Signature, TensorSpec } from '../../requests/signature.js';
import { checkTensor } from '../../requests/tensor-types.js';

/** @throws ServingError BAD_REQUEST */
export function feedsOf(request: PredictRequest, { inputs, outputs }: Signature): NamedTensor[] {
  const names = (specs: readonly TensorSpec[]): string => specs.map(({ name }) => name).join(', ');
  for (const name of request.outputs ?? []) {
    if (!outputs.some((output) => output.name === name)) {
      throw new ServingError('BAD_REQUEST', `The model has no output ${name}; it has ${names(outputs)}`);
    }
  }
  const byPlace = request.inputs.every(({ name }) => name === '');
  const given = new Map(
    request.inputs.map((input, index) => {
      const name = byPlace ? (inputs[index]?.name ?? `input ${index}`) : input.name;
      return [name, { ...input, name }];
    }),
  );
  if (given.size < request.inputs.length) {
    throw new ServingError('BAD_REQUEST', 'An input is given twice');
  }
  for (const name of given.keys()) {
    if (!inputs.some((input) => input.name === name)) {
      throw new ServingError('BAD_REQUEST', `The model has no input ${name}; it has ${names(inputs)}`);
    }
  }
  return inputs.map((spec) => {
    const tensor = given.get(spec.name);
    if (!tensor) {
      throw new ServingError(
        'BAD_REQUEST',
        `Input ${spec.name} is missing; the model takes ${names(inputs)}`,
      );
    }
    checkAgainst(tensor, spec);
    return tensor;
  });
}

function checkAgainst(tensor: NamedTensor, { name, shape, type }: TensorSpec): void {
  if (tensor.type !== type) {
    throw new ServingError('BAD_REQUEST', `Input ${name} is ${tensor.type}, but the model takes ${type}`);
  }
  const fits =
    shape === null ||
    (shape.length === tensor.shape.length &&
      shape.every((axis, index) => axis === -1 || axis === tensor.shape[index]));
  if (!fits) {
    throw new ServingError(
      'BAD_REQUEST',
      `Input ${name} is [${tensor.shape.join(',')}], but the model takes [${shape.join(',')}] (-1: any)`,
    );
  }
  checkTensor(tensor);
}
