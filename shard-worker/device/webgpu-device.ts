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
import { ServingError } from '../../proto/errors.js';
import { NativeArena, type PointerArray } from '../native/native-memory.js';
import { loadOrtApi, ORT_DEVICE_ALLOCATOR, ORT_MEMORY_DEFAULT, type OrtApi } from '../ort/ort-api.js';
import { type HostArray, type HostType, tensorTypeOf } from './device.js';
import { PROBE_MODEL } from './probe-model.js';
import {
  type OrtProvider,
  type ProviderHost,
  type ProviderMemory,
  RemoteOrtDevice,
} from './remote-ort-device.js';

const PROVIDER = 'WebGPU';
/** Name of the provider's memory. */
const BUFFER_MEMORY = 'WebGPU_Buf';
/** V8 keeps typed arrays up to so many bytes in its own heap, where they move, unless they are made of an ArrayBuffer. */
const HEAP_BYTES = 64;

export class WebgpuDevice extends RemoteOrtDevice {
  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor(options: { logId: string }) {
    super(new WebgpuProvider(), options);
  }
}

class WebgpuProvider implements OrtProvider {
  readonly deviceClass = 'webgpu';
  readonly links = null;
  readonly captureEntry = 'ep.webgpuexecutionprovider.enableGraphCapture';
  readonly api = loadOrtApi();

  append(options: number): void {
    appendProvider(this.api, options);
  }

  open(host: ProviderHost): ProviderMemory {
    return new WebgpuMemory(host);
  }
}

class WebgpuMemory implements ProviderMemory {
  readonly info: number;
  readonly runOptions = 0;
  readonly #host: ProviderHost;
  readonly #allocator: number;
  readonly #from: PointerArray;
  readonly #to: PointerArray;
  readonly #stillArrays: Readonly<Record<HostType, HostArray>>;

  constructor(host: ProviderHost) {
    const { api } = host;
    this.#host = host;
    const still = new ArrayBuffer(HEAP_BYTES);
    this.#stillArrays = {
      float32: new Float32Array(still),
      int32: new Int32Array(still),
      int64: new BigInt64Array(still),
    };
    const arena = new NativeArena(4096);
    this.#from = arena.pointers(1);
    this.#to = arena.pointers(1);
    const names = [BUFFER_MEMORY, ORT_DEVICE_ALLOCATOR, 0, ORT_MEMORY_DEFAULT] as const;
    this.info = api.create('CreateMemoryInfo', ...names);
    // The provider's memory is asked for by way of a session that uses it. It lives as long as the device.
    const probe = host.openSession(PROBE_MODEL, '.');
    this.#allocator = api.create('CreateAllocator', probe, this.info);
  }

  allocate(bytes: number): number {
    return this.#host.api.create('AllocatorAlloc', this.#allocator, bytes);
  }

  free(address: number): void {
    this.#host.api.call.AllocatorFree(this.#allocator, address);
  }

  upload(address: number, data: HostArray, length: number): void {
    this.#copy(address, this.#still(data, length), length, 'upload');
  }

  download(address: number, data: HostArray, length: number): void {
    const still = this.#still(data, length);
    this.#copy(address, still, length, 'download');
    if (still !== data) copyInto(data, still, length);
  }

  close(): void {}

  #copy(address: number, data: HostArray, length: number, way: 'upload' | 'download'): void {
    const { api, env, tensors } = this.#host;
    const remote = tensors.remote(address, tensorTypeOf(data), length);
    const host = tensors.host(data, length);
    try {
      this.#from.set(0, way === 'upload' ? host : remote);
      this.#to.set(0, way === 'upload' ? remote : host);
      api.call.CopyTensors(env, this.#from.address, this.#to.address, 0, 1);
    } finally {
      api.releaseValue(host);
      api.releaseValue(remote);
    }
  }

  /** The same numbers where the engine doesn't move them. */
  #still(data: HostArray, length: number): HostArray {
    if (data.byteLength > HEAP_BYTES) return data;
    const still = this.#stillArrays[tensorTypeOf(data)];
    copyInto(still, data, length);
    return still;
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
