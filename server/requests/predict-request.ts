/**
 * Named tensors for a model that is no language model: plain data, the same for every dialect.
 *
 * A PredictRequest is valid by itself (bytes and shape agree); whether it fits the model's inputs is decided when it is submitted.
 */
import type { AddressedRequest } from './addressed-request.js';

/** Element types, as the Open Inference Protocol names them. */
export const TENSOR_TYPES = [
  ...['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64'],
  ...['FP16', 'FP32', 'FP64', 'BYTES'],
] as const;

export type TensorType = (typeof TENSOR_TYPES)[number];

export interface NamedTensor {
  name: string;
  type: TensorType;
  shape: readonly number[];
  /** Little-endian, in row-major order; of BYTES each element behind its length in 4 bytes. */
  bytes: Uint8Array;
}

export interface PredictRequest extends AddressedRequest {
  kind: 'predict';
  /** In the order of the model's inputs where `name` is ''. */
  inputs: readonly NamedTensor[];
  /** Names of the wanted outputs; null: all. */
  outputs: readonly string[] | null;
}
