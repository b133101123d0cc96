/**
 * The tensors of a checkpoint sorted as a stack of like layers and the rest, by their names alone.
 *
 * In      names and shapes
 * Out     `PREFIX.{layer}.SUFFIX` gathered over the layers; the tensors outside
 * Errors  ServingError CHECKPOINT_INVALID: no stack, or layers that are not alike, naming the tensor
 * Pure
 */
import { checkpointError } from '../checkpoint/json-file.js';
import type { TensorInfo } from '../checkpoint/tensor-source.js';

export interface LayerTensors {
  /** `model.layers.{layer}` */
  prefix: string;
  numLayers: number;
  /** Of layer 0, by name after the prefix, `.weight` included. */
  layer: ReadonlyMap<string, readonly number[]>;
  outside: ReadonlyMap<string, readonly number[]>;
}

/** @param where checkpoint, for messages */
export function layerTensors(tensors: ReadonlyMap<string, TensorInfo>, where: string): LayerTensors {
  const stacks = new Map<string, Map<number, Map<string, readonly number[]>>>();
  const outside = new Map<string, readonly number[]>();
  for (const { name, shape } of tensors.values()) {
    const [, prefix, index, suffix] = /^(.+?)\.(\d{1,4})\.(.+)$/.exec(name) ?? [];
    if (prefix === undefined || suffix === undefined) {
      outside.set(name, shape);
      continue;
    }
    const stack = stacks.get(prefix) ?? new Map<number, Map<string, readonly number[]>>();
    stacks.set(prefix, stack);
    const layer = stack.get(Number(index)) ?? new Map<string, readonly number[]>();
    stack.set(Number(index), layer);
    layer.set(suffix, shape);
  }
  const [found, ...more] = stacks;
  if (found === undefined) throw checkpointError(where, 'no tensors of numbered layers');
  if (more.length > 0) {
    throw checkpointError(
      where,
      `layers under ${found[0]} and under ${more[0]?.[0]}: only one stack can be told`,
    );
  }
  const [prefix, stack] = found;
  return {
    prefix: `${prefix}.{layer}`,
    numLayers: stack.size,
    layer: commonLayer(prefix, stack, where),
    outside,
  };
}

/** Layer 0, once every other layer was seen to be like it. */
function commonLayer(
  prefix: string,
  stack: ReadonlyMap<number, ReadonlyMap<string, readonly number[]>>,
  where: string,
): ReadonlyMap<string, readonly number[]> {
  const first = stack.get(0);
  if (first === undefined) throw checkpointError(where, `${prefix} has no layer 0`);
  for (let index = 1; index < stack.size; index++) {
    const layer = stack.get(index);
    if (layer === undefined)
      throw checkpointError(where, `${prefix} has ${stack.size} layers but no layer ${index}`);
    for (const [suffix, shape] of layer) {
      if (first.get(suffix)?.join() !== shape.join()) {
        throw checkpointError(
          where,
          `tensor ${prefix}.${index}.${suffix} has no like in layer 0: layers must be alike`,
        );
      }
    }
    for (const suffix of first.keys()) {
      if (!layer.has(suffix))
        throw checkpointError(where, `tensor ${prefix}.0.${suffix} has no like in layer ${index}`);
    }
  }
  return first;
}
