/**
 * What depends on the device of a rank: where tensors live, how a segment runs, how memory is given back.
 *
 * Two kinds. A host device computes in this process's own memory: tensors are views of it, at any offset. A remote device has memory
 * of its own that nobody here sees: buffers are written by `upload` and read by `download`, whole from their start, and both are counted.
 */
import type { ElementType } from '../../proto/manifest.js';

export type TensorType = Extract<ElementType, 'float32' | 'float16' | 'int32' | 'int64'>;

/** Types that cross between host and device; halves stay there. */
export type HostType = Exclude<TensorType, 'float16'>;

/** Bytes of one element. */
export const TENSOR_BYTES: Readonly<Record<TensorType, number>> = {
  float32: 4,
  float16: 2,
  int32: 4,
  int64: 8,
};

/** ONNXTensorElementDataType. */
export const ORT_TENSOR_TYPE: Readonly<Record<TensorType, number>> = {
  float32: 1,
  float16: 10,
  int32: 6,
  int64: 7,
};

/** What this process keeps of a tensor. */
export type HostArray = Float32Array | Int32Array | BigInt64Array;

export function tensorTypeOf(data: HostArray): HostType {
  if (data instanceof Float32Array) return 'float32';
  return data instanceof Int32Array ? 'int32' : 'int64';
}

/** Memory of this process, reserved whole and touched as used. It never moves. */
export interface HostMemory {
  readonly bytes: number;
  /** Absent in tests alone. */
  readonly address?: number;
  /** Views, made anew with each call: keep them. */
  float32(byteOffset: number, length: number): Float32Array;
  bigInt64(byteOffset: number, length: number): BigInt64Array;
  /** Give pages back; they read as zeros again. */
  discard(byteOffset: number, bytes: number): void;
  free(): void;
}

/** Memory of a remote device, of one element type. It is not zeroed. */
export interface DeviceBuffer {
  readonly type: TensorType;
  readonly elements: number;
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
  /**
   * On a host device it has ended when this returns, outputs are written where they are bound. On a remote one it comes after the runs and
   * uploads before it, and before what is asked for later.
   */
  run(binding: SegmentBinding): void;
  /**
   * From now on the binding's runs are replayed as one, until it is bound anew. The segment runs, perhaps twice, on what its buffers hold.
   * Absent: the device or the graph cannot; later runs are as before, too, where the device refuses.
   */
  capture?(binding: SegmentBinding): void;
  release(): void;
}

/** Loads a segment of a rank's shards. */
export type LoadSegment = (segment: string, inputs: readonly string[], outputs: readonly string[]) => Segment;

interface AnyDevice {
  /**
   * View of host memory that the caller keeps alive and that never moves (a small typed array moves unless it is made of an ArrayBuffer). A remote device's segment reads it when it is bound, and only
   * inputs that are wanted there, sizes and lengths, are bound so.
   */
  hostTensor(data: HostArray, length: number, shape: readonly number[]): TensorHandle;
  releaseTensor(tensor: TensorHandle): void;
  /** The next run of any segment gives memory for intermediate values that is free after it back to the system. */
  shrinkAfterNextRun(): void;
  /**
   * @param model bytes of the .onnx file
   * @param weightsFolder where its external data lies
   * @param inputs names in the order a binding numbers them, likewise outputs
   * @param mayCapture nothing of it is computed by what the host holds, but for sizes
   */
  loadSegment(
    model: Uint8Array,
    weightsFolder: string,
    inputs: readonly string[],
    outputs: readonly string[],
    mayCapture?: boolean,
  ): Segment;
  close(): void;
}

export interface HostDevice extends AnyDevice {
  readonly deviceClass: 'cpu';
  readonly isRemote: false;
  /** Whether segments may have operators of our own: shards in panels need them. */
  readonly hasKernels: boolean;
  reserve(bytes: number): HostMemory;
  /** View of `memory`, row-major `shape`. Valid until released. */
  tensor(memory: HostMemory, byteOffset: number, type: TensorType, shape: readonly number[]): TensorHandle;
}

/** What the host asked a device for since the start: runs of segments, and bytes that crossed. */
export interface TransferCounters {
  runs: number;
  /** Captured ones among these. */
  replays: number;
  uploads: number;
  uploadedBytes: number;
  downloads: number;
  downloadedBytes: number;
}

/** A library by which devices of several ranks add without the host (cuda's: nccl.ts). */
export interface DeviceLinks {
  /** With its version. */
  readonly name: string;
  /** Rank 0's: what all ranks of a group join by. */
  newId(): Uint8Array;
  /**
   * This rank's end of a group whose other ranks do the same now.
   *
   * @throws Error in the library's words, or that others did not come in time
   */
  join(group: { rank: number; worldSize: number; id: Uint8Array; timeoutMs: number }): Promise<DeviceLink>;
}

/** A rank's end. */
export interface DeviceLink {
  /**
   * The first `floats` of `sum` become those of all ranks' `partial`; of all ranks, in the same order. It comes after what the device was asked
   * for before, and before what it is asked for later.
   */
  sum(partial: DeviceBuffer, sum: DeviceBuffer, floats: number): void;
  /** Whether the device has done all that it was asked for. @throws Error what failed meanwhile */
  isDone(): boolean;
  /** Ends sums that run, here; others of the group may wait for this rank in vain. Nothing can be asked for later. */
  abort(): void;
}

export interface RemoteDevice extends AnyDevice {
  readonly deviceClass: 'webgpu' | 'cuda';
  readonly isRemote: true;
  readonly counters: Readonly<TransferCounters>;
  /** How it adds with other ranks' devices; a sentence: why it cannot; null: none of its kind can. */
  readonly links: DeviceLinks | string | null;
  /** @throws Error where the device has no such memory left */
  allocate(type: TensorType, elements: number): DeviceBuffer;
  /** The buffer's first elements in row-major `shape`. Valid until released. */
  tensor(buffer: DeviceBuffer, shape: readonly number[]): TensorHandle;
  /** The buffer's first `length` elements become those of `data`. */
  upload(buffer: DeviceBuffer, data: HostArray, length: number): void;
  /** The first `length` elements of `data` become the buffer's; waits for the runs before. */
  download(buffer: DeviceBuffer, data: HostArray, length: number): void;
}

export type Device = HostDevice | RemoteDevice;
export type DeviceClass = Device['deviceClass'];
