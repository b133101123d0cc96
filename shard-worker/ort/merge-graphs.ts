/**
 * Several graphs of ours as one: what one makes and the next reads stays inside, and a device is asked once.
 *
 * In      bytes of `.onnx` files, in the order in which they would run; which of the device's buffers each input and output is
 * Out     one graph, its inputs and outputs by buffer. null: it may not be run so (below)
 * In place  a buffer that is read and later written by another graph becomes an input and an output over the same memory. That is right where
 *         everything that reads it comes before what writes it whatever the order, that is, where the writer needs the readers' results
 * Errors  an Error when the bytes are no such file
 * Source  proto/onnx.proto, whose field numbers stand here
 */
import assert from 'node:assert/strict';
import { lengthField, type WireField, wireFields } from './wire-fields.js';

export interface GraphPart {
  model: Uint8Array;
  /** Graph's own name → buffer. */
  inputs: Readonly<Record<string, string>>;
  outputs: Readonly<Record<string, string>>;
}

export interface MergedGraph {
  model: Uint8Array;
  /** Name in the graph → buffer. */
  inputs: Record<string, string>;
  outputs: Record<string, string>;
}

const MODEL = { graph: 7, opset: 8 } as const;
const GRAPH = { node: 1, name: 2, initializer: 5, input: 11, output: 12 } as const;
const NODE = { input: 1, output: 2, name: 3 } as const;
const TENSOR_NAME = 8;
const VALUE_INFO = { name: 1, type: 2 } as const;
/** Field numbers from a value's type down to the name of a dimension. */
const TO_DIMENSION = [VALUE_INFO.type, 1, 2, 1, 2] as const;

interface Node {
  inputs: string[];
  outputs: string[];
}

/**
 * @param kept buffers that somebody reads later
 * @param ownDimensions names of dimensions that have another size in each part; all others have the same in all
 */
export function mergeGraphs(
  parts: readonly GraphPart[],
  kept: ReadonlySet<string>,
  ownDimensions: readonly string[] = [],
): MergedGraph | null {
  /** Buffer → the value that it has by now. */
  const current = new Map<string, { value: string; info: Buffer[] }>();
  const outer = new Map<string, Buffer[]>();
  const [nodes, initializers]: [Buffer[], Buffer[]] = [[], []];
  const edges: Node[] = [];
  const headers = new Map<string, Buffer>();
  for (const [at, part] of parts.entries()) {
    const model = wireFields(Buffer.from(part.model.buffer, part.model.byteOffset, part.model.byteLength));
    const graph = model.find(({ number }) => number === MODEL.graph);
    assert(graph, 'a model has a graph');
    for (const { bytes, number } of model)
      if (number !== MODEL.graph) headers.set(bytes.toString('hex'), bytes);
    const fields = wireFields(graph.value);
    const names = new Map<string, string>([['', '']]);
    const renamed = (name: string): string => names.get(name) ?? `${at}/${name}`;
    const renamedDimension = (name: string): string =>
      ownDimensions.includes(name) ? `${at}/${name}` : name;
    const infoOf = (info: Buffer, name: string): Buffer[] => [
      lengthField(VALUE_INFO.name, name),
      ...withDimensions(info, renamedDimension),
    ];
    for (const { value } of all(fields, GRAPH.input)) {
      const name = text(wireFields(value), VALUE_INFO.name);
      const buffer = part.inputs[name];
      assert(buffer !== undefined, `input ${name} is a buffer`);
      const inside = current.get(buffer)?.value;
      if (inside === undefined) outer.set(buffer, infoOf(value, outside(buffer)));
      names.set(name, inside ?? outside(buffer));
    }
    for (const { value } of all(fields, GRAPH.node)) {
      const node = wireFields(value);
      edges.push({
        inputs: texts(node, NODE.input).map(renamed),
        outputs: texts(node, NODE.output).map(renamed),
      });
      nodes.push(withNames(GRAPH.node, node, [NODE.input, NODE.output, NODE.name], renamed));
    }
    for (const { value } of all(fields, GRAPH.initializer))
      initializers.push(withNames(GRAPH.initializer, wireFields(value), [TENSOR_NAME], renamed));
    for (const { value } of all(fields, GRAPH.output)) {
      const name = text(wireFields(value), VALUE_INFO.name);
      const buffer = part.outputs[name];
      assert(buffer !== undefined, `output ${name} is a buffer`);
      current.set(buffer, { value: renamed(name), info: infoOf(value, renamed(name)) });
    }
  }
  const made = [...current].filter(([buffer]) => kept.has(buffer));
  if (made.some(([buffer, { value }]) => outer.has(buffer) && !isAfter(edges, value, outside(buffer))))
    return null;
  const graph = lengthField(MODEL.graph, [
    ...nodes,
    lengthField(GRAPH.name, 'segments'),
    ...initializers,
    ...[...outer.values()].map((info) => lengthField(GRAPH.input, info)),
    ...made.map(([, { info }]) => lengthField(GRAPH.output, info)),
  ]);
  return {
    model: Buffer.concat([...headers.values(), graph]),
    inputs: Object.fromEntries([...outer.keys()].map((buffer) => [outside(buffer), buffer])),
    outputs: Object.fromEntries(made.map(([buffer, { value }]) => [value, buffer])),
  };
}

/** What a buffer has before the first graph. */
const outside = (buffer: string): string => `outside/${buffer}`;

/** Every node that reads `input` is the one that makes `output`, or one whose results that needs. */
function isAfter(nodes: readonly Node[], output: string, input: string): boolean {
  const maker = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const before = new Set<Node>();
  const wanted = [output];
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const node = maker.get(name);
    if (node === undefined || before.has(node)) continue;
    before.add(node);
    wanted.push(...node.inputs);
  }
  return nodes.every((node) => !node.inputs.includes(input) || before.has(node));
}

function withNames(
  number: number,
  fields: readonly WireField[],
  names: readonly number[],
  renamed: (name: string) => string,
): Buffer {
  return lengthField(
    number,
    fields.map((field) =>
      names.includes(field.number) ? lengthField(field.number, renamed(field.value.toString())) : field.bytes,
    ),
  );
}

/** A value's type with its dimensions renamed, without its name. */
function withDimensions(info: Buffer, renamed: (name: string) => string): Buffer[] {
  const walk = (bytes: Buffer, depth: number): Buffer[] =>
    wireFields(bytes).map((field) => {
      if (field.number !== TO_DIMENSION[depth]) return field.bytes;
      if (depth === TO_DIMENSION.length - 1)
        return lengthField(field.number, renamed(field.value.toString()));
      return lengthField(field.number, walk(field.value, depth + 1));
    });
  return walk(info, 0).filter((_, at) => wireFields(info)[at]?.number !== VALUE_INFO.name);
}

const all = (fields: readonly WireField[], wanted: number): WireField[] =>
  fields.filter(({ number }) => number === wanted);

const text = (fields: readonly WireField[], wanted: number): string =>
  fields.find(({ number }) => number === wanted)?.value.toString() ?? '';

const texts = (fields: readonly WireField[], wanted: number): string[] =>
  all(fields, wanted).map(({ value }) => value.toString());
