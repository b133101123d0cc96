/**
 * The process that runs one ONNX model by onnxruntime-node: what it is given is a stranger's file, so it is a process of its own, with no
 * environment, and its crash is nobody else's.
 *
 * In      ToOnnx messages on its channel
 * Out     FromOnnx messages; it ends when the channel closes
 * Limits  one batch at a time; float16 as its bits; no sequences, maps or optional values; MAX_TENSORS inputs and outputs; MAX_OUTPUT_BYTES
 *         of a batch; memory by SessionOptions.memoryMb
 * Errors  `failed` ends it; `refused` is one batch's, also one that finds no memory
 * Source  onnxruntime-node 1.30, InferenceSession
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { NamedTensor, TensorType } from '../../requests/predict-request.js';
import type { TensorSpec } from '../../requests/signature.js';
import { elementsOf, MAX_RANK, packStrings, unpackStrings } from '../../requests/tensor-types.js';
import type { FromOnnx, SessionOptions, ToOnnx } from './onnx-messages.js';

/** A file may say that it has any number, and give them names of any length: the server reads them. */
const MAX_TENSORS = 1024;
const MAX_NAME = 1024;
/** What a batch may answer: a file of a few bytes can make any number. */
const MAX_OUTPUT_BYTES = 512 * 1024 * 1024;
/** As ONNX Runtime and V8 say it. */
const NO_MEMORY = /bad_?alloc|bad allocation|failed to allocate|allocation failed|out of memory/i;

/** ONNX Runtime's names and ours. */
const TYPES: readonly (readonly [Tensor.Type, TensorType])[] = [
  ['bool', 'BOOL'],
  ['uint8', 'UINT8'],
  ['uint16', 'UINT16'],
  ['uint32', 'UINT32'],
  ['uint64', 'UINT64'],
  ['int8', 'INT8'],
  ['int16', 'INT16'],
  ['int32', 'INT32'],
  ['int64', 'INT64'],
  ['float16', 'FP16'],
  ['float32', 'FP32'],
  ['float64', 'FP64'],
  ['string', 'BYTES'],
];
const ortTypeOf = new Map(TYPES.map(([ort, own]) => [own, ort]));
const typeOf = new Map<string, TensorType>(TYPES);

const ARRAYS = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
} as const;

let session: InferenceSession | null = null;

/** Said where it is set. */
let memoryMb = 0;

async function load(file: string, options: SessionOptions): Promise<FromOnnx> {
  memoryMb = options.memoryMb;
  if (memoryMb > 0) (await import('../data-limit.js')).limitData(memoryMb * 1024 * 1024);
  session = await InferenceSession.create(file, {
    executionProviders: ['cpu'],
    intraOpNumThreads: options.intraOpThreads,
    interOpNumThreads: options.interOpThreads,
    graphOptimizationLevel: options.optimisation,
    executionMode: options.parallel ? 'parallel' : 'sequential',
    logSeverityLevel: 3,
  });
  const specs = (all: readonly InferenceSession.ValueMetadata[], what: string): TensorSpec[] => {
    if (all.length > MAX_TENSORS) throw new Error(`it has ${all.length} ${what}s, of at most ${MAX_TENSORS}`);
    return all.map((value) => {
      if (value.name.length > MAX_NAME)
        throw new Error(`the name of an ${what} has ${value.name.length} characters, of at most ${MAX_NAME}`);
      const type = value.isTensor ? typeOf.get(value.type) : undefined;
      if (!value.isTensor || type === undefined) {
        const is = value.isTensor ? `a tensor of ${value.type}` : 'no tensor';
        throw new Error(`${what} ${value.name} is ${is}, which is not served`);
      }
      if (value.shape.length > MAX_RANK)
        throw new Error(`${what} ${value.name} has ${value.shape.length} axes, of at most ${MAX_RANK}`);
      const shape = value.shape.map((axis) => (typeof axis === 'number' && axis >= 0 ? axis : -1));
      const axes = value.shape.map((axis) => (typeof axis === 'string' && axis !== '' ? axis : null));
      return { name: value.name, type, shape, axes };
    });
  };
  return {
    kind: 'loaded',
    signature: {
      inputs: specs(session.inputMetadata, 'input'),
      outputs: specs(session.outputMetadata, 'output'),
    },
  };
}

function ortTensor({ bytes, name, shape, type }: NamedTensor): Tensor {
  const ort = ortTypeOf.get(type);
  if (ort === undefined) throw new Error(`${type} is unknown`);
  if (type === 'BYTES') {
    const strings = unpackStrings(name, bytes, elementsOf(name, shape)).map((one) => one.toString('utf8'));
    return new Tensor('string', strings, shape);
  }
  const Typed = ARRAYS[type];
  const size = Typed.BYTES_PER_ELEMENT;
  // What came over the channel may begin at any byte. Not slice(), which of a Buffer is a view.
  const { buffer, byteLength, byteOffset } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new Tensor(ort, new Typed(buffer as ArrayBuffer, byteOffset, byteLength / size) as never, shape);
}

function namedTensor(name: string, value: InferenceSession.OnnxValueMapType[string]): NamedTensor {
  if (!(value instanceof Tensor)) throw new Error(`output ${name} is no tensor`);
  const type = typeOf.get(value.type);
  if (type === undefined) throw new Error(`output ${name} is a tensor of ${value.type}, which is not served`);
  const { data } = value;
  const bytes =
    type === 'BYTES'
      ? packStrings(data as unknown as string[])
      : new Uint8Array(
          (data as Float32Array).buffer,
          (data as Float32Array).byteOffset,
          (data as Float32Array).byteLength,
        );
  return { name, type, shape: [...value.dims], bytes };
}

async function run(message: Extract<ToOnnx, { kind: 'run' }>): Promise<FromOnnx> {
  const { id, inputs, outputs } = message;
  try {
    if (session === null) throw new Error('no model is loaded');
    const feeds = Object.fromEntries(inputs.map((input) => [input.name, ortTensor(input)]));
    const started = process.hrtime.bigint();
    const values = outputs === null ? await session.run(feeds) : await session.run(feeds, [...outputs]);
    const us = Number((process.hrtime.bigint() - started) / 1000n);
    const named = Object.entries(values).map(([name, value]) => namedTensor(name, value));
    const bytes = named.reduce((sum, one) => sum + one.bytes.byteLength, 0);
    if (bytes > MAX_OUTPUT_BYTES)
      throw new Error(`the outputs have ${bytes} bytes, of at most ${MAX_OUTPUT_BYTES}`);
    return { kind: 'ran', id, outputs: named, us };
  } catch (error) {
    return { kind: 'refused', id, message: told(error as Error) };
  }
}

/** What has found no memory is told with the limit. */
const told = ({ message }: Error): string =>
  memoryMb > 0 && NO_MEMORY.test(message)
    ? `it needs more memory than option.onnx_memory_mb, which is ${memoryMb}, leaves: ${message}`
    : message;

const send = (message: FromOnnx): void => {
  process.send?.(message, undefined, undefined, () => {});
};

let line: Promise<void> = Promise.resolve();
process.on('message', (message: ToOnnx) => {
  line = line.then(async () => {
    if (message.kind === 'run') {
      send(await run(message));
      return;
    }
    try {
      send(await load(message.file, message.options));
    } catch (error) {
      send({ kind: 'failed', message: told(error as Error) });
    }
  });
});
process.on('disconnect', () => process.exit(0));
