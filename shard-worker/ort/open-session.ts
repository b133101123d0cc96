/**
 * What every device asks of a session and of its tensors.
 *
 * In      ONNX Runtime's C API; a graph whose weights lie in a folder
 * Out     a session's handle; a tensor's over memory that somebody else holds
 * Errors  an Error with ONNX Runtime's message; assertions
 */
import assert from 'node:assert/strict';
import { ORT_TENSOR_TYPE, TENSOR_BYTES, type TensorHandle, type TensorType } from '../device/device.js';
import type { OrtApi } from './ort-api.js';

/** ORT_ENABLE_BASIC: the graphs are written fused; more would only cost load time. */
const OPTIMISE_BASIC = 1;
const MAX_RANK = 4;

/** @param configure what the device adds to the session's options */
export function openSession(
  api: OrtApi,
  env: number,
  model: Uint8Array,
  weightsFolder: string,
  configure: (options: number) => void,
): number {
  const options = api.create('CreateSessionOptions');
  try {
    api.call.DisablePerSessionThreads(options);
    // The pattern cache is keyed by shape and never evicted; the number of tokens changes every step.
    api.call.DisableMemPattern(options);
    api.call.SetSessionGraphOptimizationLevel(options, OPTIMISE_BASIC);
    api.call.AddSessionConfigEntry(
      options,
      'session.model_external_initializers_file_folder_path',
      weightsFolder,
    );
    configure(options);
    return api.create('CreateSessionFromArray', env, model, model.byteLength, options);
  } finally {
    api.releaseSessionOptions(options);
  }
}

export class OrtTensors {
  readonly #api: OrtApi;
  /** Scratch: the C call copies it. */
  readonly #shape = new BigInt64Array(MAX_RANK);

  constructor(api: OrtApi) {
    this.#api = api;
  }

  /**
   * @param info the kind of memory
   * @param room elements that the memory has at the address
   */
  create(
    info: number,
    address: number,
    type: TensorType,
    shape: readonly number[],
    room: number,
  ): TensorHandle {
    assert(shape.length <= MAX_RANK);
    let elements = 1;
    for (let axis = 0; axis < shape.length; axis++) {
      const size = shape[axis] ?? 0;
      this.#shape[axis] = BigInt(size);
      elements *= size;
    }
    assert(elements <= room, `tensor of ${elements} elements in memory for ${room}`);
    return this.#api.create(
      'CreateTensorWithDataAsOrtValue',
      info,
      address,
      elements * TENSOR_BYTES[type],
      this.#shape,
      shape.length,
      ORT_TENSOR_TYPE[type],
    );
  }
}
