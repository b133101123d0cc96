/**
 * What depends on the device of a rank: where tensors live, how a segment runs, how memory is given back.
 *
 * CPU today (cpu-device.ts). A CUDA device fits behind the same calls: `reserve` gives device memory, `host` is null for it,
 * segments bind it by IoBinding, and `partial` buffers, which the collective allocates, are host memory the segment's output
 * is bound to.
 */
import type { ElementType } from '../../proto/manifest.js';

export type TensorType = Extract<ElementType, 'float32' | 'int64'>;

/** Memory of the device, reserved whole and touched as used. */
export interface DeviceMemory {
  readonly bytes: number;
  /** Where this process sees it; absent: nowhere. It never moves. */
  readonly address?: number;
  /** Views of the memory for this process; a device whose memory is not the host's throws. */
  float32(byteOffset: number, length: number): Float32Array;
  bigInt64(byteOffset: number, length: number): BigInt64Array;
  /** Give pages back; they read as zeros again. */
  discard(byteOffset: number, bytes: number): void;
  free(): void;
}

/** A handle of ONNX Runtime over memory that somebody else owns. */
export type TensorHandle = number;

/** The inputs and outputs of one run of a segment; rebound when shapes change. */
export interface SegmentBinding {
  /** Order of `Segment.inputs`. */
  setInput(index: number, tensor: TensorHandle): void;
  /** Order of `Segment.outputs`. */
  setOutput(index: number, tensor: TensorHandle): void;
}

/** An ONNX graph with its weights. */
export interface Segment {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  newBinding(): SegmentBinding;
  /** Runs to the end before it returns; outputs are written where they are bound. */
  run(binding: SegmentBinding): void;
  release(): void;
}

export interface Device {
  readonly deviceClass: 'cpu' | 'cuda';
  /** Whether segments may have operators of our own: shards in panels need them. */
  readonly hasKernels: boolean;
  reserve(bytes: number): DeviceMemory;
  /** View of `memory`, row-major `shape`. Valid until released. */
  tensor(memory: DeviceMemory, byteOffset: number, type: TensorType, shape: readonly number[]): TensorHandle;
  /** View of host memory that the caller keeps alive and that never moves. */
  hostTensor(data: Float32Array, length: number, shape: readonly number[]): TensorHandle;
  releaseTensor(tensor: TensorHandle): void;
  /** The next run of any segment gives memory for intermediate values that is free after it back to the system. */
  shrinkAfterNextRun(): void;
  /**
   * @param model bytes of the .onnx file
   * @param weightsFolder where its external data lies
   * @param inputs names in the order a binding numbers them, likewise outputs
   */
  loadSegment(
    model: Uint8Array,
    weightsFolder: string,
    inputs: readonly string[],
    outputs: readonly string[],
  ): Segment;
  close(): void;
}
