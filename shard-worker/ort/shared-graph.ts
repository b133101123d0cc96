/**
 * The graph of a segment without its weights: layers differ in nothing else, so one session serves them all.
 *
 * In      bytes of a `.onnx` file of ours
 * Out     the same graph with the weights of linears and norms as inputs, and names that say nothing of the layer: equal bytes, equal graphs;
 *         and where the weights lie. null: it has none of these
 * Limits  weights that other operators read stay in the graph: ONNX Runtime may compute something of them when it loads
 * Errors  an Error when the bytes are no such file
 * Source  proto/onnx.proto, whose field numbers stand here
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { lengthField, varintField, type WireField, wireFields } from './wire-fields.js';

export interface OuterWeight {
  /** The graph's input's. */
  readonly name: string;
  /** ONNX's number of the element type. */
  readonly type: number;
  readonly shape: readonly number[];
  /** File, relative to the shard folder. */
  readonly location: string;
  readonly offset: number;
  readonly bytes: number;
}

export interface SharedGraph {
  readonly model: Uint8Array;
  readonly weights: readonly OuterWeight[];
}

const MODEL = { graph: 7 } as const;
const GRAPH = { node: 1, name: 2, initializer: 5, input: 11, output: 12 } as const;
const NODE = { input: 1, output: 2, opType: 4, domain: 7 } as const;
const TENSOR = { dims: 1, type: 2, name: 8, external: 13 } as const;
const ENTRY = { key: 1, value: 2 } as const;
const VALUE_INFO = { name: 1, type: 2 } as const;
const TENSOR_TYPE = { type: 1, shape: 2 } as const;

/** Operators that compute of a weight in each run, whatever ONNX Runtime knows of it before; the inputs that are weights, from this one on. */
const FIRST_WEIGHT: Readonly<Record<string, number>> = {
  'shardserve.Linear': 1,
  'com.microsoft.SkipSimplifiedLayerNormalization': 2,
  'com.microsoft.SkipLayerNormalization': 2,
  '.SimplifiedLayerNormalization': 1,
  '.LayerNormalization': 1,
};

interface Initializer {
  readonly name: string;
  readonly fields: readonly WireField[];
  readonly isExternal: boolean;
}

export function sharedGraph(bytes: Uint8Array): SharedGraph | null {
  const model = wireFields(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const graph = model.find(({ number }) => number === MODEL.graph);
  assert(graph, 'a model has a graph');
  const fields = wireFields(graph.value);
  const nodes = all(fields, GRAPH.node).map(({ value }) => wireFields(value));
  const initializers = all(fields, GRAPH.initializer).map(({ value }) => initializerOf(wireFields(value)));
  const outer = outerWeights(initializers, nodes);
  if (outer.length === 0) return null;
  const names = namesWithoutLayer(fields, initializers, nodes);
  const renamed = (name: string): string => names.get(name) ?? name;
  const weights = outer.map(({ fields: parts, name }) => describe(parts, renamed(name)));
  const rename = (parts: readonly WireField[], isName: (number: number) => boolean): Buffer[] =>
    parts.map(({ bytes: whole, number, value }) =>
      isName(number) ? lengthField(number, renamed(value.toString())) : whole,
    );
  const others = initializers.filter((one) => !outer.includes(one));
  const shared = lengthField(MODEL.graph, [
    ...nodes.map((node) =>
      lengthField(
        GRAPH.node,
        rename(node, (number) => number === NODE.input || number === NODE.output),
      ),
    ),
    lengthField(GRAPH.name, 'segment'),
    ...others.map(({ fields: parts }) =>
      lengthField(
        GRAPH.initializer,
        rename(parts, (number) => number === TENSOR.name),
      ),
    ),
    ...all(fields, GRAPH.input).map(({ bytes: whole }) => whole),
    ...weights.map(asInput),
    ...all(fields, GRAPH.output).map(({ bytes: whole }) => whole),
  ]);
  const parts = model.map((field) => (field === graph ? shared : field.bytes));
  return { model: Buffer.concat(parts), weights };
}

const all = (fields: readonly WireField[], wanted: number): WireField[] =>
  fields.filter(({ number }) => number === wanted);

const text = (fields: readonly WireField[], wanted: number): string =>
  fields.find(({ number }) => number === wanted)?.value.toString() ?? '';

const texts = (fields: readonly WireField[], wanted: number): string[] =>
  all(fields, wanted).map(({ value }) => value.toString());

const initializerOf = (fields: readonly WireField[]): Initializer => ({
  name: text(fields, TENSOR.name),
  fields,
  isExternal: all(fields, TENSOR.external).length > 0,
});

/** Weights that no other operator reads. */
function outerWeights(
  initializers: readonly Initializer[],
  nodes: readonly (readonly WireField[])[],
): Initializer[] {
  const isOuter = new Map<string, boolean>();
  for (const node of nodes) {
    const operator = `${text(node, NODE.domain)}.${text(node, NODE.opType)}`;
    const first = FIRST_WEIGHT[operator] ?? Number.POSITIVE_INFINITY;
    for (const [index, name] of texts(node, NODE.input).entries())
      isOuter.set(name, index >= first && (isOuter.get(name) ?? true));
  }
  return initializers.filter(({ isExternal, name }) => isExternal && isOuter.get(name) === true);
}

/** New names for all values but the graph's own inputs and outputs, by which they are bound. */
function namesWithoutLayer(
  graph: readonly WireField[],
  initializers: readonly Initializer[],
  nodes: readonly (readonly WireField[])[],
): Map<string, string> {
  const bound = [...all(graph, GRAPH.input), ...all(graph, GRAPH.output)];
  const kept = new Set(bound.map(({ value }) => text(wireFields(value), VALUE_INFO.name)));
  const names = new Map<string, string>();
  for (const name of [
    ...initializers.map((one) => one.name),
    ...nodes.flatMap((node) => texts(node, NODE.output)),
  ]) {
    if (name !== '' && !kept.has(name)) names.set(name, `value-${names.size}`);
  }
  return names;
}

function describe(fields: readonly WireField[], name: string): OuterWeight {
  const entries = new Map(
    all(fields, TENSOR.external).map(({ value }) => {
      const entry = wireFields(value);
      return [text(entry, ENTRY.key), text(entry, ENTRY.value)];
    }),
  );
  const entry = (key: string): string => {
    const found = entries.get(key);
    assert(found, `external data has a ${key}`);
    return found;
  };
  const location = entry('location');
  // It is mapped by its path: a file of the shard folder, and no other.
  assert(path.basename(location) === location, `external data lies in ${location}, not beside its graph`);
  return {
    name,
    type: all(fields, TENSOR.type)[0]?.varint ?? 0,
    shape: all(fields, TENSOR.dims).map(({ varint }) => varint),
    location,
    offset: Number(entry('offset')),
    bytes: Number(entry('length')),
  };
}

function asInput({ name, shape, type }: OuterWeight): Buffer {
  const dimensions = shape.map((size) => lengthField(1, [varintField(1, size)]));
  const tensor = [varintField(TENSOR_TYPE.type, type), lengthField(TENSOR_TYPE.shape, dimensions)];
  return lengthField(GRAPH.input, [
    lengthField(VALUE_INFO.name, name),
    lengthField(VALUE_INFO.type, [lengthField(1, tensor)]),
  ]);
}
