/**
 * The CPU device: segments by ONNX Runtime's CPU provider, tensors over native memory of this process.
 *
 * One environment with one global thread pool and one arena for all segments: a session of its own for each would start a
 * pool and keep an arena a segment. One thread means no pool at all. One session for all segments that are the same but for their
 * weights, as layers are: these are inputs then, in mapped files.
 *
 * Limits  threads as given (from cgroup and affinity by the coordinator)
 * Errors  an Error with ONNX Runtime's message
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import koffi from 'koffi';
import { type Kernels, loadKernels } from '../native/kernels.js';
import { type MappedFile, mapFile } from '../native/mapped-file.js';
import { NativeArena, NativeMemory, type PointerArray } from '../native/native-memory.js';
import { OrtTensors, openSession } from '../ort/open-session.js';
import {
  LOG_WARNING,
  loadOrtApi,
  ORT_ARENA_ALLOCATOR,
  ORT_MEMORY_DEFAULT,
  type OrtApi,
} from '../ort/ort-api.js';
import { type OuterWeight, sharedGraph } from '../ort/shared-graph.js';
import {
  type HostArray,
  type HostDevice,
  type HostMemory,
  type Segment,
  type SegmentBinding,
  TENSOR_BYTES,
  type TensorHandle,
  type TensorType,
  tensorTypeOf,
} from './device.js';

class CpuBinding implements SegmentBinding {
  readonly inputs: PointerArray;
  readonly outputs: PointerArray;

  /** @param weights behind the inputs */
  constructor(inputs: PointerArray, outputs: PointerArray, weights: readonly TensorHandle[]) {
    this.inputs = inputs;
    this.outputs = outputs;
    weights.forEach((weight, index) => {
      inputs.set(inputs.count - weights.length + index, weight);
    });
  }

  setInput(index: number, tensor: TensorHandle): void {
    this.inputs.set(index, tensor);
  }

  setOutput(index: number, tensor: TensorHandle): void {
    this.outputs.set(index, tensor);
  }
}

/** OrtRunOptions of the next run of any segment, 0: none. */
interface NextRun {
  options: number;
}

/** A session and who runs in it. */
interface Session {
  readonly handle: number;
  segments: number;
}

/** What a graph is not told but given in every run. */
interface GivenWeights {
  readonly names: readonly string[];
  readonly tensors: readonly TensorHandle[];
}

class CpuSegment implements Segment {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly #api: OrtApi;
  readonly #arena: NativeArena;
  readonly #session: Session;
  readonly #weights: readonly TensorHandle[];
  readonly #next: NextRun;
  readonly #inputNames: PointerArray;
  readonly #outputNames: PointerArray;

  constructor(
    api: OrtApi,
    arena: NativeArena,
    session: Session,
    next: NextRun,
    inputs: readonly string[],
    outputs: readonly string[],
    weights: GivenWeights,
  ) {
    this.#api = api;
    this.#arena = arena;
    this.#session = session;
    this.#next = next;
    this.inputs = inputs;
    this.outputs = outputs;
    this.#weights = weights.tensors;
    session.segments++;
    this.#inputNames = this.#names([...inputs, ...weights.names]);
    this.#outputNames = this.#names(outputs);
  }

  #names(names: readonly string[]): PointerArray {
    const pointers = this.#arena.pointers(names.length);
    names.forEach((name, index) => {
      pointers.set(index, this.#arena.text(name));
    });
    return pointers;
  }

  newBinding(): CpuBinding {
    const weights = this.#weights;
    const inputs = this.#arena.pointers(this.inputs.length + weights.length);
    return new CpuBinding(inputs, this.#arena.pointers(this.outputs.length), weights);
  }

  run(binding: SegmentBinding): void {
    const { inputs, outputs } = binding as CpuBinding;
    const { options } = this.#next;
    if (options !== 0) this.#next.options = 0;
    this.#api.call.Run(
      this.#session.handle,
      options,
      this.#inputNames.address,
      inputs.address,
      inputs.count,
      this.#outputNames.address,
      outputs.count,
      outputs.address,
    );
  }

  release(): void {
    for (const weight of this.#weights) this.#api.releaseValue(weight);
    if (--this.#session.segments === 0) this.#api.releaseSession(this.#session.handle);
  }
}

export class CpuDevice implements HostDevice {
  readonly deviceClass = 'cpu';
  readonly isRemote = false;
  readonly #api: OrtApi;
  readonly #arena = new NativeArena();
  readonly #env: number;
  readonly #memoryInfo: number;
  readonly #next: NextRun = { options: 0 };
  readonly #shrinkingRun: number;
  /** null: this machine has none. */
  readonly #kernels: Kernels | null = loadKernels();
  readonly #tensors: OrtTensors;
  /** By the bytes of their graphs. */
  readonly #shared = new Map<string, Session>();
  /** By their paths. */
  readonly #files = new Map<string, MappedFile>();

  constructor(options: { threads: number; threadsSpin?: boolean; logId: string }) {
    const api = loadOrtApi();
    this.#api = api;
    this.#tensors = new OrtTensors(api);
    this.#kernels?.setThreads(options.threads);
    const threading = api.create('CreateThreadingOptions');
    api.call.SetGlobalIntraOpNumThreads(threading, options.threads);
    api.call.SetGlobalInterOpNumThreads(threading, 1);
    // A pool that spins goes on for tens of ms after the step's last run; a shorter time can be set for pools of single sessions only.
    api.call.SetGlobalSpinControl(threading, options.threadsSpin ? 1 : 0);
    this.#env = api.create('CreateEnvWithGlobalThreadPools', LOG_WARNING, options.logId, threading);
    this.#memoryInfo = api.create('CreateCpuMemoryInfo', ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT);
    api.call.CreateAndRegisterAllocator(this.#env, this.#memoryInfo, 0);
    this.#shrinkingRun = api.create('CreateRunOptions');
    api.call.AddRunConfigEntry(this.#shrinkingRun, 'memory.enable_memory_arena_shrinkage', 'cpu:0');
  }

  get hasKernels(): boolean {
    return this.#kernels !== null;
  }

  reserve(bytes: number): NativeMemory {
    return new NativeMemory(bytes);
  }

  tensor(memory: HostMemory, byteOffset: number, type: TensorType, shape: readonly number[]): TensorHandle {
    assert(memory instanceof NativeMemory);
    const room = Math.floor((memory.bytes - byteOffset) / TENSOR_BYTES[type]);
    return this.#tensors.create(this.#memoryInfo, memory.address + byteOffset, type, shape, room);
  }

  hostTensor(data: HostArray, length: number, shape: readonly number[]): TensorHandle {
    assert(length <= data.length, 'tensor outside its array');
    const address = Number(koffi.address(data));
    return this.#tensors.create(this.#memoryInfo, address, tensorTypeOf(data), shape, length);
  }

  releaseTensor(tensor: TensorHandle): void {
    this.#api.releaseValue(tensor);
  }

  shrinkAfterNextRun(): void {
    this.#next.options = this.#shrinkingRun;
  }

  loadSegment(
    model: Uint8Array,
    weightsFolder: string,
    inputs: readonly string[],
    outputs: readonly string[],
  ): Segment {
    // Without our kernels ONNX Runtime packs the weights of products, which it must know for that.
    const graph = this.#kernels ? sharedGraph(model) : null;
    const weights = graph?.weights ?? [];
    const session = graph
      ? this.#sharedSession(graph.model, weightsFolder)
      : this.#open(model, weightsFolder);
    const given: GivenWeights = {
      names: weights.map(({ name }) => name),
      tensors: weights.map((weight) => this.#mapped(weight, weightsFolder)),
    };
    return new CpuSegment(this.#api, this.#arena, session, this.#next, inputs, outputs, given);
  }

  #sharedSession(graph: Uint8Array, weightsFolder: string): Session {
    // What a graph keeps of its weights lies in this folder.
    const key = `${weightsFolder}\n${Buffer.from(graph).toString('latin1')}`;
    const shared = this.#shared.get(key);
    if (shared && shared.segments > 0) return shared;
    const session = this.#open(graph, weightsFolder);
    this.#shared.set(key, session);
    return session;
  }

  #open(model: Uint8Array, weightsFolder: string): Session {
    const api = this.#api;
    const handle = openSession(api, this.#env, model, weightsFolder, (options) => {
      api.call.AddSessionConfigEntry(options, 'session.use_env_allocators', '1');
      if (this.#kernels) api.check('RegisterCustomOps', this.#kernels.register(options, api.base));
    });
    return { handle, segments: 0 };
  }

  #mapped({ bytes, location, offset, shape, type }: OuterWeight, folder: string): TensorHandle {
    const file = this.#fileAt(path.join(folder, location));
    assert(
      offset >= 0 && bytes >= 0 && offset + bytes <= file.bytes,
      `${location} has ${file.bytes} bytes, not ${bytes} at ${offset}`,
    );
    const dimensions = BigInt64Array.from(shape, BigInt);
    return this.#api.create(
      'CreateTensorWithDataAsOrtValue',
      this.#memoryInfo,
      file.address + offset,
      bytes,
      dimensions,
      dimensions.length,
      type,
    );
  }

  /** Whole, and once: a process may have only so many mappings (vm.max_map_count), and step-memory.ts goes over all of them. */
  #fileAt(file: string): MappedFile {
    const mapped = this.#files.get(file) ?? mapFile(file);
    this.#files.set(file, mapped);
    return mapped;
  }

  close(): void {
    this.#api.releaseEnv(this.#env);
  }
}
