/**
 * Writes one ONNX graph: a small ModelProto whose weights lie outside of it.
 *
 * In      nodes, inputs, outputs, in the order of their calls; where each weight lies in its weights file
 * Out     the bytes of a `.onnx` file
 * Limits  a graph of some kilobytes: weights are external data (location, offset, length), only shapes and small constants are inside
 * Errors  none; a name that is defined twice or used before it is defined is a bug (assert)
 * Source  proto/onnx.proto, field numbers of the ONNX specification
 */
import assert from 'node:assert';
import protobuf from 'protobufjs';
import type { ElementType } from '../../proto/manifest.js';
import { protoFile } from '../../proto/proto-file.js';

/** IR 10 is the newest that both ai.onnx 24 graphs and older readers agree on; ONNX Runtime 1.30 reads up to 13. */
const IR_VERSION = 10;
/** Attention with `nonpad_kv_seqlen` is new in 24; one version for all segments. */
const OPSET_VERSION = 24;

/** TensorProto.DataType of the ONNX specification. */
export const DATA_TYPE: Readonly<Record<ElementType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  float16: 10,
  bfloat16: 16,
};

const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_INTS = 7;
const EXTERNAL = 1;

/** A number is an integer attribute; write `{ float: x }` for a float one, since 1 could be either. */
export type Attribute = number | readonly number[] | { readonly float: number };

/** A fixed size, or the name of a size that varies from run to run. */
export type Dimension = number | string;

/** `shardserve`: our own kernels (shard-worker/kernels). */
export type Domain = '' | 'com.microsoft' | 'shardserve';

/** Where a weight lies. */
export interface ExternalData {
  type: ElementType;
  shape: readonly number[];
  /** File, relative to the shard folder. */
  location: string;
  offset: number;
  bytes: number;
}

/** A decoded `.onnx` file, as plain data (int64 as number). */
export interface OnnxModel {
  ir_version: number;
  producer_name: string;
  producer_version: string;
  opset_import: { domain: string; version: number }[];
  graph: {
    name: string;
    node: {
      op_type: string;
      domain: string;
      name: string;
      input: string[];
      output: string[];
      attribute: { name: string; type: number; f?: number; i?: number; ints?: number[] }[];
    }[];
    initializer: {
      name: string;
      dims: number[];
      data_type: number;
      int32_data?: number[];
      int64_data?: number[];
      float_data?: number[];
      external_data?: { key: string; value: string }[];
    }[];
    input: OnnxValueInfo[];
    output: OnnxValueInfo[];
  };
}

export interface OnnxValueInfo {
  name: string;
  type: { tensor_type: { elem_type: number; shape: { dim: { dim_value?: number; dim_param?: string }[] } } };
}

export class OnnxWriter {
  readonly #name: string;
  readonly #nodes: object[] = [];
  readonly #initializers: object[] = [];
  readonly #inputs: object[] = [];
  readonly #outputs: object[] = [];
  readonly #types = new Set<string>();
  #usesKernels = false;

  constructor(name: string) {
    this.#name = name;
  }

  /** Declare a graph input. @returns its name */
  input(name: string, type: ElementType, shape: readonly Dimension[]): string {
    this.#define(name);
    this.#inputs.push(valueInfo(name, type, shape));
    return name;
  }

  /** Declare a value that a node makes as a graph output. */
  output(name: string, type: ElementType, shape: readonly Dimension[]): void {
    assert(this.#types.has(name), `${this.#name}: output ${name} is made by no node`);
    this.#outputs.push(valueInfo(name, type, shape));
  }

  /** A weight that lies in a weights file. @returns its name */
  weight(name: string, data: ExternalData): string {
    this.#define(name);
    this.#initializers.push({
      name,
      dims: data.shape,
      data_type: DATA_TYPE[data.type],
      data_location: EXTERNAL,
      external_data: [
        { key: 'location', value: data.location },
        { key: 'offset', value: String(data.offset) },
        { key: 'length', value: String(data.bytes) },
      ],
    });
    return name;
  }

  /** A small int64 vector inside the graph: sizes of a Split or Reshape. @returns its name */
  integers(name: string, values: readonly number[], shape: readonly number[] = [values.length]): string {
    this.#define(name);
    this.#initializers.push({
      name,
      dims: shape,
      data_type: DATA_TYPE.int64,
      int64_data: values,
    });
    return name;
  }

  /** A small float32 constant inside the graph. @returns its name */
  floats(name: string, values: readonly number[], shape: readonly number[] = [values.length]): string {
    this.#define(name);
    this.#initializers.push({ name, dims: shape, data_type: DATA_TYPE.float32, float_data: values });
    return name;
  }

  /**
   * @param inputs names, in the operator's order; '' leaves an optional one out
   * @param outputs names, in the operator's order; '' leaves an optional one out
   * @returns the first output's name
   */
  node(
    opType: string,
    inputs: readonly string[],
    outputs: readonly [string, ...string[]],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain: Domain = '',
  ): string {
    for (const used of inputs) {
      assert(used === '' || this.#types.has(used), `${this.#name}: ${opType} uses undefined ${used}`);
    }
    for (const made of outputs) if (made !== '') this.#define(made);
    this.#usesKernels ||= domain === 'shardserve';
    this.#nodes.push({
      name: `${opType}_${this.#nodes.length}`,
      op_type: opType,
      domain,
      input: inputs,
      output: outputs,
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    });
    return outputs[0];
  }

  /** @param producerVersion version of this tool, for whoever opens the file */
  encode(producerVersion: string): Uint8Array {
    assert(this.#outputs.length > 0, `${this.#name}: a graph without an output`);
    return modelType()
      .encode({
        ir_version: IR_VERSION,
        producer_name: 'shardserve',
        producer_version: producerVersion,
        opset_import: [
          { domain: '', version: OPSET_VERSION },
          { domain: 'com.microsoft', version: 1 },
          // Unknown where our kernels are not registered, so only named where it is used.
          ...(this.#usesKernels ? [{ domain: 'shardserve', version: 1 }] : []),
        ],
        graph: {
          name: this.#name,
          node: this.#nodes,
          initializer: this.#initializers,
          input: this.#inputs,
          output: this.#outputs,
        },
      })
      .finish();
  }

  #define(name: string): void {
    assert(!this.#types.has(name), `${this.#name}: ${name} is defined twice`);
    this.#types.add(name);
  }
}

/**
 * Read a `.onnx` file of ours again (tests, --verify).
 *
 * @throws Error when the bytes are no protobuf message of that kind
 */
export function decodeOnnx(bytes: Uint8Array): OnnxModel {
  const type = modelType();
  return type.toObject(type.decode(bytes), { longs: Number, arrays: true }) as OnnxModel;
}

let loadedType: protobuf.Type | undefined;

function modelType(): protobuf.Type {
  if (!loadedType) {
    const root = new protobuf.Root().loadSync(protoFile('onnx.proto'), { keepCase: true });
    loadedType = root.lookupType('onnx.ModelProto');
  }
  return loadedType;
}

function attribute(name: string, value: Attribute): object {
  if (typeof value === 'number') {
    assert(Number.isSafeInteger(value), `attribute ${name} = ${value} is not an integer`);
    return { name, i: value, type: ATTRIBUTE_INT };
  }
  if ('float' in value) return { name, f: value.float, type: ATTRIBUTE_FLOAT };
  return { name, ints: value, type: ATTRIBUTE_INTS };
}

function valueInfo(name: string, type: ElementType, shape: readonly Dimension[]): object {
  const dim = shape.map((size) => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }));
  return { name, type: { tensor_type: { elem_type: DATA_TYPE[type], shape: { dim } } } };
}
