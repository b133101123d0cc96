/**
 * The tensors of a checkpoint sorted as a stack of like layers and the rest, by their names alone.
 *
 * In      names and shapes
 * Out     `PREFIX.{layer}.SUFFIX` gathered over the layers; the tensors outside
 * Errors  what the caller makes of a reason: no stack, or layers that are not alike, naming the tensor
 * Pure
 */
import type { TensorInfo } from '../checkpoint/tensor-source.js';

export interface LayerTensors {
  /** `model.layers.{layer}` */
  prefix: string;
  numLayers: number;
  /** Layer 0's, by name after the prefix, `.weight` included. */
  layer: ReadonlyMap<string, readonly number[]>;
  outside: ReadonlyMap<string, readonly number[]>;
}

/** @param no the error that says why a model is not recognised */
export function layerTensors(
  tensors: ReadonlyMap<string, TensorInfo>,
  no: (why: string) => Error,
): LayerTensors {
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
  if (found === undefined) throw no('its tensors are not numbered by layer');
  if (more.length > 0) {
    throw no(
      `it has layers under ${found[0]} and under ${more[0]?.[0]} (an encoder or images beside a decoder?), and only one stack can be told`,
    );
  }
  const [prefix, stack] = found;
  return {
    prefix: `${prefix}.{layer}`,
    numLayers: stack.size,
    layer: commonLayer(prefix, stack, no),
    outside,
  };
}

/** Layer 0, once every other layer was seen to be like it. */
function commonLayer(
  prefix: string,
  stack: ReadonlyMap<number, ReadonlyMap<string, readonly number[]>>,
  no: (why: string) => Error,
): ReadonlyMap<string, readonly number[]> {
  const first = stack.get(0);
  if (first === undefined) throw no(`${prefix} has no layer 0`);
  for (let index = 1; index < stack.size; index++) {
    const layer = stack.get(index);
    if (layer === undefined) throw no(`${prefix} has ${stack.size} layers but no layer ${index}`);
    for (const [suffix, shape] of layer) {
      if (first.get(suffix)?.join() !== shape.join()) {
        throw no(
          `tensor ${prefix}.${index}.${suffix} has no like in layer 0${kindOf(suffix)}, and layers must be alike`,
        );
      }
    }
    for (const suffix of first.keys()) {
      if (!layer.has(suffix))
        throw no(
          `tensor ${prefix}.0.${suffix} has no like in layer ${index}${kindOf(suffix)}, and layers must be alike`,
        );
    }
  }
  return first;
}

/** What a tensor's name tells people of a model whose layers differ. */
const kindOf = (suffix: string): string =>
  /expert|router|gate\.weight$/.test(suffix) ? ' (experts in some layers only)' : '';
