/**
 * Tensors of the protocol's messages → NamedTensors, and outputs → messages with raw contents.
 *
 * In      inputs with contents, or raw_input_contents, one an input
 * Out     NamedTensors; outputs always raw, as Triton answers
 * Errors  BAD_REQUEST naming the input: contents of another type, too many or few, raw and typed contents together
 * Source  Open Inference Protocol: which contents field holds which data type; FP16 and BF16 only raw
 */
import { ServingError } from '../../proto/errors.js';
import { type NamedTensor, TENSOR_TYPES, type TensorType } from '../requests/predict-request.js';
import { checkTensor, ELEMENT_BYTES, packStrings } from '../requests/tensor-types.js';
import type {
  InferRequestMessage,
  InferResponseMessage,
  TensorContents,
  TensorMessage,
} from './oip-messages.js';

type ContentsField = keyof TensorContents;

const FIELD: Readonly<Record<TensorType, ContentsField | null>> = {
  BOOL: 'bool_contents',
  UINT8: 'uint_contents',
  UINT16: 'uint_contents',
  UINT32: 'uint_contents',
  UINT64: 'uint64_contents',
  INT8: 'int_contents',
  INT16: 'int_contents',
  INT32: 'int_contents',
  INT64: 'int64_contents',
  FP16: null,
  FP32: 'fp32_contents',
  FP64: 'fp64_contents',
  BYTES: 'bytes_contents',
};

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** @throws ServingError BAD_REQUEST */
export function tensorsOfMessage({ inputs, raw_input_contents: raw }: InferRequestMessage): NamedTensor[] {
  if (raw.length > 0 && raw.length !== inputs.length) {
    throw bad(`raw_input_contents has ${raw.length} entries, but there are ${inputs.length} inputs`);
  }
  return inputs.map((input, index) => {
    const type = typeOf(input);
    const shape = input.shape.map(Number);
    const typed = contentsOf(input, type);
    const bytes = raw[index];
    if (bytes !== undefined && typed !== null) {
      throw bad(`Input ${input.name} has contents and raw_input_contents: give one of them`);
    }
    const tensor = { name: input.name, type, shape, bytes: bytes ?? typed ?? new Uint8Array(0) };
    checkTensor(tensor);
    return tensor;
  });
}

function typeOf({ datatype, name }: TensorMessage): TensorType {
  if (TENSOR_TYPES.includes(datatype as TensorType)) return datatype as TensorType;
  throw bad(`datatype of ${name} is ${datatype.slice(0, 40)}; it must be one of ${TENSOR_TYPES.join(', ')}`);
}

/** null: there are none. */
function contentsOf({ contents, name }: TensorMessage, type: TensorType): Uint8Array | null {
  if (contents === null) return null;
  const field = FIELD[type];
  for (const [other, values] of Object.entries(contents) as [ContentsField, readonly unknown[]][]) {
    if (values.length > 0 && other !== field) {
      throw bad(
        `Input ${name} is ${type}, but its contents are in ${other}: ${field ?? 'raw_input_contents'} is its place`,
      );
    }
  }
  if (field === null || contents[field].length === 0) return null;
  if (type === 'BYTES') return packStrings(contents.bytes_contents);
  const values = contents[field] as readonly (number | string | boolean)[];
  const size = ELEMENT_BYTES[type] ?? 0;
  const bytes = Buffer.alloc(values.length * size);
  values.forEach((value, index) => {
    try {
      write(bytes, index * size, type, value);
    } catch {
      throw bad(`Input ${name} is ${type}, but holds ${value}`);
    }
  });
  return bytes;
}

/** @throws RangeError: out of the type's range */
function write(bytes: Buffer, at: number, type: TensorType, value: number | string | boolean): void {
  switch (type) {
    case 'BOOL':
      bytes.writeUInt8(value === true ? 1 : 0, at);
      return;
    case 'FP32':
      bytes.writeFloatLE(Number(value), at);
      return;
    case 'FP64':
      bytes.writeDoubleLE(Number(value), at);
      return;
    case 'INT64':
      bytes.writeBigInt64LE(BigInt(value), at);
      return;
    case 'UINT64':
      bytes.writeBigUInt64LE(BigInt(value), at);
      return;
    default: {
      const size = ELEMENT_BYTES[type] ?? 0;
      if (type.startsWith('U')) bytes.writeUIntLE(Number(value), at, size);
      else bytes.writeIntLE(Number(value), at, size);
    }
  }
}

/** The answer's outputs, raw. */
export function outputsOf(
  outputs: readonly NamedTensor[],
): Pick<InferResponseMessage, 'outputs' | 'raw_output_contents'> {
  return {
    outputs: outputs.map(({ name, shape, type }) => ({ name, datatype: type, shape })),
    raw_output_contents: outputs.map(({ bytes }) => bytes),
  };
}
