/**
 * Requests of different lengths as one batch: shorter ones are filled up, and their answers cut again.
 *
 * In      option.pad_inputs, values by input; the signature with the names of its axes
 * Out     tensors made longer or shorter along any axis but the first
 * Errors  ServingError CHECKPOINT_INVALID: the model does not say which axes of its outputs belong to which of its inputs
 * Pure
 */
import { ServingError } from '../../../proto/errors.js';
import type { NamedTensor, TensorType } from '../../requests/predict-request.js';
import type { Signature, TensorSpec } from '../../requests/signature.js';
import { ELEMENT_BYTES } from '../../requests/tensor-types.js';

/** Value by input. */
export type PadValues = Readonly<Record<string, number>>;
export const NO_PADDING: PadValues = Object.freeze({});
/** Length by the name of an axis. */
export type AxisLengths = ReadonlyMap<string, number>;

/** @throws ServingError CHECKPOINT_INVALID */
export function checkPadding(pad: PadValues, { inputs, outputs }: Signature): void {
  for (const name of Object.keys(pad)) {
    const spec = inputs.find((input) => input.name === name);
    if (!spec)
      throw invalid(`the model has no input ${name}; it has ${inputs.map((one) => one.name).join(', ')}`);
    if (fillOf(spec.type, 0) === null) throw invalid(`input ${name} is ${spec.type}, which is not filled up`);
  }
  const padded = inputs.filter(({ name }) => Object.hasOwn(pad, name));
  for (const spec of [...padded, ...outputs]) {
    const at = varyingAxes(spec).find((axis) => !spec.axes?.[axis]);
    if (at !== undefined)
      throw invalid(`axis ${at} of ${spec.name} varies and has no name: what belongs together is not known`);
  }
}

/** Those of the padded inputs of one request; null: two of one name differ. */
export function axisLengths(
  inputs: readonly NamedTensor[],
  signature: Signature,
  pad: PadValues,
): AxisLengths | null {
  const lengths = new Map<string, number>();
  if (pad === NO_PADDING) return lengths;
  for (const [index, spec] of signature.inputs.entries()) {
    if (!Object.hasOwn(pad, spec.name)) continue;
    for (const axis of varyingAxes(spec)) {
      const name = spec.axes![axis]!;
      const length = inputs[index]!.shape[axis]!;
      if (lengths.has(name) && lengths.get(name) !== length) return null;
      lengths.set(name, length);
    }
  }
  return lengths;
}

/** What must be alike in requests that go together. */
export function paddedShape({ name, shape }: NamedTensor, spec: TensorSpec, pad: PadValues): string {
  const isPadded = Object.hasOwn(pad, name);
  let told = '*';
  for (let axis = 1; axis < shape.length; axis++)
    told += isPadded && spec.shape?.[axis] === -1 ? ',*' : `,${shape[axis]}`;
  return told;
}

/** What requests that go together take at most, each as long as the longest. */
export function joinedBytes(all: readonly (readonly NamedTensor[])[]): number {
  const [first = []] = all;
  return first.reduce((sum, { bytes, shape, type }, at) => {
    const parts = all.map((inputs) => inputs[at]!);
    const size = ELEMENT_BYTES[type];
    if (size === null) return sum + parts.reduce((whole, part) => whole + part.bytes.byteLength, 0);
    const rows = parts.reduce((whole, part) => whole + (part.shape[0] ?? 1), 0);
    const row = shape.slice(1).reduce((product, length, axis) => {
      const longest = Math.max(length, ...parts.map((part) => part.shape[axis + 1] ?? 0));
      return product * longest;
    }, size);
    return sum + Math.max(bytes.byteLength, rows * row);
  }, 0);
}

/** Each as long as the longest. */
export function filledUp(parts: readonly NamedTensor[], value: number): NamedTensor[] {
  const longest = parts[0]!.shape.map((_, axis) => Math.max(...parts.map(({ shape }) => shape[axis] ?? 0)));
  return parts.map((part) => resized(part, [part.shape[0] ?? 0, ...longest.slice(1)], value));
}

/** One request's output, as long as it would be alone. */
export function cut(
  output: NamedTensor,
  spec: TensorSpec,
  own: AxisLengths,
  joined: AxisLengths,
): NamedTensor {
  const shape = output.shape.map((length, axis) => {
    const name = axis === 0 ? null : (spec.axes?.[axis] ?? null);
    return name !== null && joined.get(name) === length ? (own.get(name) ?? length) : length;
  });
  return resized(output, shape, 0);
}

const varyingAxes = ({ shape }: TensorSpec): number[] =>
  (shape ?? []).flatMap((length, axis) => (axis > 0 && length === -1 ? [axis] : []));

/** Rows of the last axis are copied; what is new is filled. */
function resized(tensor: NamedTensor, shape: readonly number[], value: number): NamedTensor {
  if (shape.every((length, axis) => length === tensor.shape[axis])) return tensor;
  const size = ELEMENT_BYTES[tensor.type] ?? 1;
  const count = shape.reduce((product, axis) => product * axis, 1);
  const bytes = Buffer.alloc(count * size, fillOf(tensor.type, value) ?? Buffer.alloc(1));
  const common = shape.map((length, axis) => Math.min(length, tensor.shape[axis] ?? 0));
  const rowBytes = (common.at(-1) ?? 1) * size;
  const copy = (axis: number, from: number, to: number): void => {
    if (axis >= shape.length - 1) {
      bytes.set(tensor.bytes.subarray(from * size, from * size + rowBytes), to * size);
      return;
    }
    const strideOf = (all: readonly number[]): number =>
      all.slice(axis + 1).reduce((product, one) => product * one, 1);
    const fromStride = strideOf(tensor.shape);
    const toStride = strideOf(shape);
    for (let index = 0; index < common[axis]!; index++)
      copy(axis + 1, from + index * fromStride, to + index * toStride);
  };
  if (count > 0) copy(0, 0, 0);
  return { ...tensor, shape, bytes };
}

/** null: values of this type are not filled up. */
function fillOf(type: TensorType, value: number): Buffer | null {
  const one = Buffer.alloc(ELEMENT_BYTES[type] ?? 1);
  switch (type) {
    case 'INT64':
      one.writeBigInt64LE(BigInt(value));
      return one;
    case 'INT32':
      one.writeInt32LE(value);
      return one;
    case 'INT8':
      one.writeInt8(value);
      return one;
    case 'BOOL':
    case 'UINT8':
      one.writeUInt8(value);
      return one;
    case 'FP32':
      one.writeFloatLE(value);
      return one;
    case 'FP64':
      one.writeDoubleLE(value);
      return one;
    default:
      return null;
  }
}

const invalid = (what: string): ServingError =>
  new ServingError('CHECKPOINT_INVALID', `option.pad_inputs cannot be kept: ${what}`);
