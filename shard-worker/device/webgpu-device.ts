/**
 * A GPU by WebGPU: ONNX Runtime's WebGPU provider (Dawn on Vulkan), which is inside the library that onnxruntime-node ships for Linux x64.
 *
 * In      the machine's Vulkan loader (libvulkan.so.1) and driver; nothing else is installed
 * Out     a remote device: buffers are the provider's, a segment is bound to them by IoBinding
 * Limits  the first adapter that Dawn finds: the provider has no choice among several (README). Not yet run on hardware, only on a software
 *         Vulkan device
 * Errors  UNSUPPORTED_PLATFORM: no Vulkan, no adapter, or no such provider in the library; an Error with ONNX Runtime's message
 * Source  onnxruntime 1.30: webgpu_provider_factory.cc (options), allocator.h (the name of its memory)
 */
import assert from 'node:assert/strict';
import koffi from 'koffi';
import { ServingError } from '../../proto/errors.js';
import { NativeArena, type PointerArray } from '../native/native-memory.js';
import { OrtTensors, openSession } from '../ort/open-session.js';
import { loadOrtApi, type OrtApi } from '../ort/ort-api.js';
import {
  type DeviceBuffer,
  type HostArray,
  type RemoteDevice,
  type Segment,
  type SegmentBinding,
  TENSOR_BYTES,
  type TensorHandle,
  type TensorType,
  type TransferCounters,
  tensorTypeOf,
} from './device.js';
import { PROBE_MODEL } from './probe-model.js';

const PROVIDER = 'WebGPU';
/** Name of the provider's memory. */
const BUFFER_MEMORY = 'WebGPU_Buf';
const ORT_DEVICE_ALLOCATOR = 0;
const ORT_ARENA_ALLOCATOR = 1;
const ORT_MEMORY_DEFAULT = 0;
const LOG_WARNING = 2;
const LOG_ERROR = 3;
/** Bytes of a buffer are whole words. */
const BUFFER_UNIT = 16;
/** V8 keeps typed arrays up to so many bytes in its own heap, where they move, unless they are made of an ArrayBuffer. */
const HEAP_BYTES = 64;

class WebgpuBuffer implements DeviceBuffer {
  readonly type: TensorType;
  readonly elements: number;
  readonly address: number;
  readonly #release: () => void;

  constructor(type: TensorType, elements: number, address: number, release: () => void) {
    this.type = type;
    this.elements = elements;
    this.address = address;
    this.#release = release;
  }

  free(): void {
    this.#release();
  }
}

class WebgpuBinding implements SegmentBinding {
  readonly handle: number;
  readonly #api: OrtApi;
  readonly #segment: Segment;
  readonly #onBind: (tensor: TensorHandle) => void;

  constructor(api: OrtApi, segment: WebgpuSegment, onBind: (tensor: TensorHandle) => void) {
    this.#api = api;
    this.#segment = segment;
    this.#onBind = onBind;
    this.handle = api.create('CreateIoBinding', segment.session);
  }

  setInput(index: number, tensor: TensorHandle): void {
    this.#onBind(tensor);
    this.#api.call.BindInput(this.handle, this.#segment.inputs[index], tensor);
  }

  setOutput(index: number, tensor: TensorHandle): void {
    this.#api.call.BindOutput(this.handle, this.#segment.outputs[index], tensor);
  }
}

class WebgpuSegment implements Segment {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly session: number;
  readonly #api: OrtApi;
  readonly #onBind: (tensor: TensorHandle) => void;

  constructor(
    api: OrtApi,
    session: number,
    names: { inputs: readonly string[]; outputs: readonly string[] },
    onBind: (tensor: TensorHandle) => void,
  ) {
    this.#api = api;
    this.session = session;
    this.inputs = names.inputs;
    this.outputs = names.outputs;
    this.#onBind = onBind;
  }

  newBinding(): WebgpuBinding {
    return new WebgpuBinding(this.#api, this, this.#onBind);
  }

  run(binding: SegmentBinding): void {
    this.#api.call.RunWithBinding(this.session, 0, (binding as WebgpuBinding).handle);
  }

  release(): void {
    this.#api.releaseSession(this.session);
  }
}

export class WebgpuDevice implements RemoteDevice {
  readonly deviceClass = 'webgpu';
  readonly isRemote = true;
  readonly counters: TransferCounters = { uploads: 0, uploadedBytes: 0, downloads: 0, downloadedBytes: 0 };
  readonly #api: OrtApi;
  readonly #env: number;
  readonly #hostInfo: number;
  readonly #bufferInfo: number;
  readonly #allocator: number;
  readonly #tensors: OrtTensors;
  readonly #from: PointerArray;
  readonly #to: PointerArray;
  readonly #stillArrays: Readonly<Record<TensorType, HostArray>>;
  /** Bytes of host tensors: they cross when they are bound. */
  readonly #hostTensors = new Map<TensorHandle, number>();

  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor(options: { threads: number; logId: string }) {
    const api = loadOrtApi();
    this.#api = api;
    this.#tensors = new OrtTensors(api);
    const still = new ArrayBuffer(HEAP_BYTES);
    this.#stillArrays = {
      float32: new Float32Array(still),
      int32: new Int32Array(still),
      int64: new BigInt64Array(still),
    };
    const arena = new NativeArena(4096);
    this.#from = arena.pointers(1);
    this.#to = arena.pointers(1);
    const threading = api.create('CreateThreadingOptions');
    // What the graphs leave to the CPU are sizes.
    api.call.SetGlobalIntraOpNumThreads(threading, 1);
    api.call.SetGlobalInterOpNumThreads(threading, 1);
    api.call.SetGlobalSpinControl(threading, 0);
    this.#env = api.create('CreateEnvWithGlobalThreadPools', LOG_WARNING, options.logId, threading);
    this.#hostInfo = api.create('CreateCpuMemoryInfo', ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT);
    const names = [BUFFER_MEMORY, ORT_DEVICE_ALLOCATOR, 0, ORT_MEMORY_DEFAULT] as const;
    this.#bufferInfo = api.create('CreateMemoryInfo', ...names);
    // The provider's memory is asked for by way of a session that uses it. It lives as long as the device.
    const probe = this.#openSession(PROBE_MODEL, '.');
    this.#allocator = api.create('CreateAllocator', probe, this.#bufferInfo);
  }

  allocate(type: TensorType, elements: number): DeviceBuffer {
    const bytes = Math.max(1, Math.ceil((elements * TENSOR_BYTES[type]) / BUFFER_UNIT)) * BUFFER_UNIT;
    const address = this.#api.create('AllocatorAlloc', this.#allocator, bytes);
    return new WebgpuBuffer(type, elements, address, () =>
      this.#api.call.AllocatorFree(this.#allocator, address),
    );
  }

  tensor(buffer: DeviceBuffer, shape: readonly number[]): TensorHandle {
    assert(buffer instanceof WebgpuBuffer);
    return this.#tensors.create(this.#bufferInfo, buffer.address, buffer.type, shape, buffer.elements);
  }

  hostTensor(data: HostArray, length: number, shape: readonly number[]): TensorHandle {
    assert(length <= data.length, 'tensor outside its array');
    const tensor = this.#hostTensor(data, shape, length);
    this.#hostTensors.set(tensor, length * data.BYTES_PER_ELEMENT);
    return tensor;
  }

  releaseTensor(tensor: TensorHandle): void {
    this.#hostTensors.delete(tensor);
    this.#api.releaseValue(tensor);
  }

  upload(buffer: DeviceBuffer, data: HostArray, length: number): void {
    if (length === 0) return;
    const bytes = this.#copy(buffer, data, length, 'upload');
    this.counters.uploads++;
    this.counters.uploadedBytes += bytes;
  }

  download(buffer: DeviceBuffer, data: HostArray, length: number): void {
    if (length === 0) return;
    const bytes = this.#copy(buffer, data, length, 'download');
    this.counters.downloads++;
    this.counters.downloadedBytes += bytes;
  }

  /** The provider keeps what its buffers took, to use it again. */
  shrinkAfterNextRun(): void {}

  loadSegment(
    model: Uint8Array,
    weightsFolder: string,
    inputs: readonly string[],
    outputs: readonly string[],
  ): Segment {
    const session = this.#openSession(model, weightsFolder);
    return new WebgpuSegment(this.#api, session, { inputs, outputs }, (tensor) => this.#countBound(tensor));
  }

  close(): void {
    this.#api.releaseEnv(this.#env);
  }

  #openSession(model: Uint8Array, weightsFolder: string): number {
    const api = this.#api;
    return openSession(api, this.#env, model, weightsFolder, (options) => {
      // A warning a session tells that sizes are computed on the CPU.
      api.call.SetSessionLogSeverityLevel(options, LOG_ERROR);
      appendProvider(api, options);
    });
  }

  #copy(buffer: DeviceBuffer, data: HostArray, length: number, way: 'upload' | 'download'): number {
    assert.equal(tensorTypeOf(data), buffer.type, `${way} of another type`);
    assert(length <= data.length && length <= buffer.elements, `${way} of ${length} elements`);
    const remote = this.tensor(buffer, [length]);
    const isSmall = data.byteLength <= HEAP_BYTES;
    const still = isSmall ? this.#still(data, length) : data;
    const host = this.#hostTensor(still, [length], length);
    try {
      this.#from.set(0, way === 'upload' ? host : remote);
      this.#to.set(0, way === 'upload' ? remote : host);
      this.#api.call.CopyTensors(this.#env, this.#from.address, this.#to.address, 0, 1);
      if (isSmall && way === 'download') copyInto(data, still, length);
    } finally {
      this.#api.releaseValue(host);
      this.#api.releaseValue(remote);
    }
    return length * data.BYTES_PER_ELEMENT;
  }

  /** The same numbers where the engine doesn't move them. */
  #still(data: HostArray, length: number): HostArray {
    const still = this.#stillArrays[tensorTypeOf(data)];
    copyInto(still, data, length);
    return still;
  }

  #countBound(tensor: TensorHandle): void {
    const bytes = this.#hostTensors.get(tensor);
    if (bytes === undefined) return;
    this.counters.uploads++;
    this.counters.uploadedBytes += bytes;
  }

  #hostTensor(data: HostArray, shape: readonly number[], length: number): TensorHandle {
    const address = Number(koffi.address(data));
    return this.#tensors.create(this.#hostInfo, address, tensorTypeOf(data), shape, length);
  }
}

/** The first `length` elements of an array of the same type. */
function copyInto(target: HostArray, source: HostArray, length: number): void {
  for (let index = 0; index < length; index++) target[index] = source[index]!;
}

/** @throws ServingError UNSUPPORTED_PLATFORM */
function appendProvider(api: OrtApi, options: number): void {
  try {
    api.call.SessionOptionsAppendExecutionProvider(options, PROVIDER, 0, 0, 0);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ServingError('UNSUPPORTED_PLATFORM', whyNoAdapter(reason), { cause });
  }
}

/** What to do about it, by ONNX Runtime's words. */
export function whyNoAdapter(reason: string): string {
  if (/not (?:enabled|supported|available)|unknown provider/i.test(reason) && !/adapter/i.test(reason)) {
    return `device webgpu: ONNX Runtime for linux-${process.arch} has no WebGPU provider (${reason})`;
  }
  return (
    'device webgpu: no GPU is to be had by Vulkan. It needs the Vulkan loader (libvulkan.so.1; Debian: libvulkan1) and ' +
    "the card's Vulkan driver, whose .json VK_DRIVER_FILES may name; in a container NVIDIA_DRIVER_CAPABILITIES must have graphics " +
    `(ONNX Runtime: ${ownWords(reason)})`
  );
}

/** Without the source line and the condition that it begins with. */
function ownWords(text: string): string {
  const [line = ''] = text.trim().split('\n');
  return (/ was false\. (.+)$/.exec(line)?.[1] ?? line).slice(-200);
}
