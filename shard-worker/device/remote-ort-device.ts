/**
 * A device with memory of its own by a provider of ONNX Runtime: sessions, bindings and tensors over the provider's buffers.
 *
 * In      a provider: how sessions are put on it, how its memory is had, and how bytes cross
 * Out     RemoteDevice; what crosses is counted
 * Errors  those of the provider's start; an Error with ONNX Runtime's message; assertions
 */
import assert from 'node:assert/strict';
import koffi from 'koffi';
import { OrtTensors, openSession } from '../ort/open-session.js';
import {
  LOG_ERROR,
  LOG_FATAL,
  LOG_WARNING,
  ORT_ARENA_ALLOCATOR,
  ORT_MEMORY_DEFAULT,
  type OrtApi,
} from '../ort/ort-api.js';
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

/** Bytes of a buffer are whole words. */
const BUFFER_UNIT = 16;

/** Run option: which captured graph; -1: none. */
const GRAPH_ID = 'gpu_graph_id';
const NO_GRAPH = '-1';
/** A captured run keeps buffers and commands of its own, and is never given up. */
const MAX_CAPTURED = 32;

/** What the provider is given to open itself with. */
export interface ProviderHost {
  api: OrtApi;
  /** OrtEnv. */
  env: number;
  /** Puts a session on the provider. */
  openSession(model: Uint8Array, weightsFolder: string): number;
  tensors: TensorMaker;
}

/** Handles over memory of the host and of the device. */
export interface TensorMaker {
  host(data: HostArray, length: number): TensorHandle;
  remote(address: number, type: TensorType, length: number): TensorHandle;
}

/** An open provider's memory. */
export interface ProviderMemory {
  /** OrtMemoryInfo of its buffers. */
  readonly info: number;
  /** OrtRunOptions of every run; 0: none. */
  readonly runOptions: number;
  /** @throws Error where the device has no such memory left */
  allocate(bytes: number): number;
  free(address: number): void;
  /** Comes after the runs before it; the array may change when this returns. */
  upload(address: number, data: HostArray, length: number): void;
  /** Waits for the runs before it. */
  download(address: number, data: HostArray, length: number): void;
  close(): void;
}

export interface OrtProvider {
  readonly deviceClass: RemoteDevice['deviceClass'];
  readonly links: RemoteDevice['links'];
  readonly api: OrtApi;
  /** Entry of session options by which runs can be captured; null: not by this provider. */
  readonly captureEntry: string | null;
  /** To session options. @throws ServingError UNSUPPORTED_PLATFORM */
  append(options: number): void;
  /** Once, with the first session that it needs. @throws ServingError UNSUPPORTED_PLATFORM */
  open(host: ProviderHost): ProviderMemory;
}

/** Where a buffer of such a device is. */
export function addressOf(buffer: DeviceBuffer): number {
  assert(buffer instanceof RemoteBuffer);
  return buffer.address;
}

export class RemoteBuffer implements DeviceBuffer {
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

class RemoteBinding implements SegmentBinding {
  readonly handle: number;
  /** OrtRunOptions of its captured run; null: none. */
  captured: number | null = null;
  readonly #api: OrtApi;
  readonly #segment: Segment;
  readonly #onBind: (tensor: TensorHandle) => void;

  constructor(api: OrtApi, segment: RemoteSegment, onBind: (tensor: TensorHandle) => void) {
    this.#api = api;
    this.#segment = segment;
    this.#onBind = onBind;
    this.handle = api.create('CreateIoBinding', segment.session);
  }

  setInput(index: number, tensor: TensorHandle): void {
    this.captured = null;
    this.#onBind(tensor);
    this.#api.call.BindInput(this.handle, this.#segment.inputs[index], tensor);
  }

  setOutput(index: number, tensor: TensorHandle): void {
    this.captured = null;
    this.#api.call.BindOutput(this.handle, this.#segment.outputs[index], tensor);
  }
}

class RemoteSegment implements Segment {
  /** How many graphs there are; null: the session captures none. */
  #graphs: number | null;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly session: number;
  readonly #api: OrtApi;
  readonly #runOptions: number;
  readonly #counters: TransferCounters;
  readonly #onBind: (tensor: TensorHandle) => void;

  constructor(
    api: OrtApi,
    session: number,
    { captures, counters, runOptions }: { captures: boolean; counters: TransferCounters; runOptions: number },
    names: { inputs: readonly string[]; outputs: readonly string[] },
    onBind: (tensor: TensorHandle) => void,
  ) {
    this.#api = api;
    this.session = session;
    this.#graphs = captures ? 0 : null;
    this.#runOptions = captures ? newRunOptions(api, NO_GRAPH) : runOptions;
    this.#counters = counters;
    this.inputs = names.inputs;
    this.outputs = names.outputs;
    this.#onBind = onBind;
  }

  newBinding(): RemoteBinding {
    return new RemoteBinding(this.#api, this, this.#onBind);
  }

  run(binding: SegmentBinding): void {
    const { captured, handle } = binding as RemoteBinding;
    this.#counters.runs++;
    if (captured !== null) this.#counters.replays++;
    this.#api.call.RunWithBinding(this.session, captured ?? this.#runOptions, handle);
  }

  capture(binding: SegmentBinding): void {
    if (this.#graphs === null || this.#graphs === MAX_CAPTURED) return;
    const bound = binding as RemoteBinding;
    const runOptions = newRunOptions(this.#api, String(++this.#graphs));
    try {
      this.#api.call.RunWithBinding(this.session, runOptions, bound.handle);
      bound.captured = runOptions;
    } catch {
      // An operator that cannot be captured: it runs as before.
      this.#graphs = null;
    }
  }

  release(): void {
    this.#api.releaseSession(this.session);
  }
}

function newRunOptions(api: OrtApi, graph: string): number {
  const runOptions = api.create('CreateRunOptions');
  api.call.AddRunConfigEntry(runOptions, GRAPH_ID, graph);
  return runOptions;
}

export class RemoteOrtDevice implements RemoteDevice {
  readonly deviceClass: RemoteDevice['deviceClass'];
  readonly isRemote = true;
  readonly counters: TransferCounters = {
    ...{ runs: 0, replays: 0, uploads: 0, uploadedBytes: 0, downloads: 0, downloadedBytes: 0 },
  };
  readonly links: RemoteDevice['links'];
  readonly #api: OrtApi;
  readonly #provider: OrtProvider;
  readonly #env: number;
  readonly #hostInfo: number;
  readonly #memory: ProviderMemory;
  readonly #tensors: OrtTensors;
  /** Bytes of host tensors: they cross when they are bound. */
  readonly #hostTensors = new Map<TensorHandle, number>();

  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor(provider: OrtProvider, options: { logId: string }) {
    const { api } = provider;
    this.#api = api;
    this.#provider = provider;
    this.#tensors = new OrtTensors(api);
    this.deviceClass = provider.deviceClass;
    this.links = provider.links;
    const threading = api.create('CreateThreadingOptions');
    // What the graphs leave to the CPU are sizes.
    api.call.SetGlobalIntraOpNumThreads(threading, 1);
    api.call.SetGlobalInterOpNumThreads(threading, 1);
    api.call.SetGlobalSpinControl(threading, 0);
    this.#env = api.create('CreateEnvWithGlobalThreadPools', LOG_WARNING, options.logId, threading);
    this.#hostInfo = api.create('CreateCpuMemoryInfo', ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT);
    this.#memory = provider.open({
      ...{ api, env: this.#env },
      openSession: (model, weightsFolder) => this.#openSession(model, weightsFolder),
      tensors: {
        host: (data, length) => this.#hostTensor(data, length, [length]),
        remote: (address, type, length) =>
          this.#tensors.create(this.#memory.info, address, type, [length], length),
      },
    });
  }

  allocate(type: TensorType, elements: number): DeviceBuffer {
    const bytes = Math.max(1, Math.ceil((elements * TENSOR_BYTES[type]) / BUFFER_UNIT)) * BUFFER_UNIT;
    const address = this.#memory.allocate(bytes);
    return new RemoteBuffer(type, elements, address, () => this.#memory.free(address));
  }

  tensor(buffer: DeviceBuffer, shape: readonly number[]): TensorHandle {
    assert(buffer instanceof RemoteBuffer);
    return this.#tensors.create(this.#memory.info, buffer.address, buffer.type, shape, buffer.elements);
  }

  hostTensor(data: HostArray, length: number, shape: readonly number[]): TensorHandle {
    const tensor = this.#hostTensor(data, length, shape);
    this.#hostTensors.set(tensor, length * data.BYTES_PER_ELEMENT);
    return tensor;
  }

  releaseTensor(tensor: TensorHandle): void {
    this.#hostTensors.delete(tensor);
    this.#api.releaseValue(tensor);
  }

  upload(buffer: DeviceBuffer, data: HostArray, length: number): void {
    if (length === 0) return;
    this.#memory.upload(crossing(buffer, data, length, 'upload'), data, length);
    this.counters.uploads++;
    this.counters.uploadedBytes += length * data.BYTES_PER_ELEMENT;
  }

  download(buffer: DeviceBuffer, data: HostArray, length: number): void {
    if (length === 0) return;
    this.#memory.download(crossing(buffer, data, length, 'download'), data, length);
    this.counters.downloads++;
    this.counters.downloadedBytes += length * data.BYTES_PER_ELEMENT;
  }

  /** The provider keeps what its buffers took, to use it again. */
  shrinkAfterNextRun(): void {}

  loadSegment(
    model: Uint8Array,
    weightsFolder: string,
    inputs: readonly string[],
    outputs: readonly string[],
    mayCapture = false,
  ): Segment {
    const capturing = mayCapture ? this.#openCapturing(model, weightsFolder) : null;
    const session = capturing ?? this.#openSession(model, weightsFolder);
    const { runOptions } = this.#memory;
    const run = { captures: capturing !== null, counters: this.counters, runOptions };
    return new RemoteSegment(this.#api, session, run, { inputs, outputs }, (tensor) =>
      this.#countBound(tensor),
    );
  }

  close(): void {
    this.#memory.close();
    this.#api.releaseEnv(this.#env);
  }

  /** null: the provider has no capturing, or not for this graph. */
  #openCapturing(model: Uint8Array, weightsFolder: string): number | null {
    const { captureEntry } = this.#provider;
    if (captureEntry === null) return null;
    try {
      return this.#openSession(model, weightsFolder, captureEntry);
    } catch {
      // Nodes on the CPU (a mixture's) or control flow.
      return null;
    }
  }

  #openSession(model: Uint8Array, weightsFolder: string, captureEntry: string | null = null): number {
    const api = this.#api;
    return openSession(api, this.#env, model, weightsFolder, (options) => {
      // A warning a session tells that sizes are computed on the CPU, an error that it cannot be captured.
      api.call.SetSessionLogSeverityLevel(options, captureEntry === null ? LOG_ERROR : LOG_FATAL);
      if (captureEntry !== null) api.call.AddSessionConfigEntry(options, captureEntry, '1');
      this.#provider.append(options);
    });
  }

  #countBound(tensor: TensorHandle): void {
    const bytes = this.#hostTensors.get(tensor);
    if (bytes === undefined) return;
    this.counters.uploads++;
    this.counters.uploadedBytes += bytes;
  }

  #hostTensor(data: HostArray, length: number, shape: readonly number[]): TensorHandle {
    assert(length <= data.length, 'tensor outside its array');
    const address = Number(koffi.address(data));
    return this.#tensors.create(this.#hostInfo, address, tensorTypeOf(data), shape, length);
  }
}

/** @returns where the buffer is */
function crossing(buffer: DeviceBuffer, data: HostArray, length: number, way: string): number {
  assert(buffer instanceof RemoteBuffer);
  assert.equal(tensorTypeOf(data), buffer.type, `${way} of another type`);
  assert(length <= data.length && length <= buffer.elements, `${way} of ${length} elements`);
  return buffer.address;
}
