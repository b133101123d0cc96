/**
 * Tensors as JSON, and back.
 *
 * In      {"inputs": {"x": [[…], …], …}}, nested lists by name; {"inputs": [{"name", "shape", "datatype", "data"}, …]}, the Open
 *         Inference Protocol's; or a nested list alone, for a model of one input
 * Out     NamedTensors, of the types that the model's signature says; the answer in the form that was asked in
 * Limits  lists as deep as MAX_RANK; the body's own limit
 * Errors  ServingError BAD_REQUEST naming the input and what is wrong with it
 * Source  Open Inference Protocol, JSON form; int64 beyond 2^53 comes back as a number that JSON readers round
 */

import { ServingError } from '../../../proto/errors.js';
import { isObject } from '../../../proto/is-object.js';
import { type NamedTensor, TENSOR_TYPES, type TensorType } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';
import { elementsOfTensor, packedElements } from '../../requests/tensor-elements.js';
import { elementsOf, MAX_RANK } from '../../requests/tensor-types.js';

export { elementsOfTensor };

/** How the client writes tensors; the answer is written alike. */
export type TensorForm = 'named' | 'listed' | 'bare';

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** @throws ServingError BAD_REQUEST */
export function tensorsOfJson(
  body: unknown,
  { inputs: specs }: Signature,
): { inputs: NamedTensor[]; form: TensorForm } {
  const given = isObject(body) && Object.hasOwn(body, 'inputs') ? body.inputs : body;
  if (
    Array.isArray(given) &&
    given.length > 0 &&
    given.every((entry) => isObject(entry) && 'datatype' in entry)
  ) {
    return { inputs: given.map((entry) => listedTensor(entry)), form: 'listed' };
  }
  if (isObject(given)) {
    const inputs = Object.entries(given).map(([name, value]) => {
      const spec = specs.find((one) => one.name === name);
      if (!spec)
        throw bad(`The model has no input ${name}; it has ${specs.map((one) => one.name).join(', ')}`);
      return nestedTensor(name, value, spec.type);
    });
    return { inputs, form: 'named' };
  }
  const [only, another] = specs;
  if (only === undefined || another !== undefined) {
    throw bad(
      `The model has ${specs.length} inputs: give them by name, {"inputs": {"${only?.name ?? ''}": …}}`,
    );
  }
  return { inputs: [nestedTensor(only.name, given, only.type)], form: 'bare' };
}

function nestedTensor(name: string, value: unknown, type: TensorType): NamedTensor {
  const shape: number[] = [];
  for (let at = value; Array.isArray(at); at = (at as unknown[])[0]) {
    shape.push(at.length);
    if (shape.length > MAX_RANK) throw bad(`Input ${name} is nested deeper than ${MAX_RANK} lists`);
  }
  const elements: unknown[] = [];
  const flatten = (at: unknown, axis: number): void => {
    if (!Array.isArray(at) || at.length !== shape[axis]) {
      throw bad(`Input ${name} is ragged: its lists on level ${axis + 1} are not all ${shape[axis]} long`);
    }
    // Not spread: the innermost lists are long.
    if (axis === shape.length - 1) for (const one of at) elements.push(one);
    else for (const one of at) flatten(one, axis + 1);
  };
  if (shape.length === 0) elements.push(value);
  else flatten(value, 0);
  return { name, type, shape, bytes: packedElements(name, elements, type) };
}

/** The Open Inference Protocol's form of one tensor. @throws ServingError BAD_REQUEST */
export function listedTensor(entry: Record<string, unknown>): NamedTensor {
  const { data, datatype, name, shape } = entry;
  if (typeof name !== 'string') throw bad('An input has no name');
  if (!TENSOR_TYPES.includes(datatype as TensorType)) {
    throw bad(
      `datatype of ${name} is ${String(datatype).slice(0, 40)}; it must be one of ${TENSOR_TYPES.join(', ')}`,
    );
  }
  if (!Array.isArray(shape)) throw bad(`Input ${name} has no shape`);
  if (!Array.isArray(data)) throw bad(`Input ${name} has no data`);
  const count = elementsOf(name, shape as number[]);
  const elements = (data as unknown[]).flat(MAX_RANK);
  if (elements.length !== count) {
    throw bad(
      `data of ${name} has ${elements.length} elements, but its shape [${shape.join(',')}] has ${count}`,
    );
  }
  const type = datatype as TensorType;
  return { name, type, shape: shape as number[], bytes: packedElements(name, elements, type) };
}

/** Nested lists of a tensor. */
export function nestedOf(tensor: NamedTensor): unknown {
  const elements = elementsOfTensor(tensor);
  const { shape } = tensor;
  const nest = (axis: number, start: number, count: number): unknown => {
    const length = shape[axis];
    if (length === undefined) return elements[start];
    if (axis === shape.length - 1) return elements.slice(start, start + length);
    const step = length === 0 ? 0 : count / length;
    return Array.from({ length }, (_, index) => nest(axis + 1, start + index * step, step));
  };
  return nest(0, 0, elements.length);
}

/** The answer, in the form of the question. */
export function tensorsAsJson(outputs: readonly NamedTensor[], form: TensorForm): unknown {
  if (form === 'listed') {
    const listed = outputs.map((output) => {
      const { name, shape, type } = output;
      return { name, datatype: type, shape, data: elementsOfTensor(output) };
    });
    return { outputs: listed };
  }
  if (form === 'bare' && outputs.length === 1) return nestedOf(outputs[0]!);
  return Object.fromEntries(outputs.map((output) => [output.name, nestedOf(output)]));
}
