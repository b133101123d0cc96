/** What a model of tensors takes and gives, as its file says. Plain data, for validation and for metadata routes. */
import type { TensorType } from './predict-request.js';

export interface TensorSpec {
  name: string;
  type: TensorType;
  /** -1: varies from request to request. null: the file does not say. */
  shape: readonly number[] | null;
  /** What the file calls each axis, null where it does not; absent: it calls none. */
  axes?: readonly (string | null)[];
}

export interface Signature {
  inputs: readonly TensorSpec[];
  outputs: readonly TensorSpec[];
}
