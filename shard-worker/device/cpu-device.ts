/**
 * The CPU device: segments by ONNX Runtime's CPU provider, tensors over native memory of this process.
 *
 * One environment with one global thread pool and one arena for all segments: a session of its own for each would start a
 * pool and keep an arena a segment. One thread means no pool at all.
 *
 * Limits  threads as given (from cgroup and affinity by the coordinator)
 * Errors  an Error with ONNX Runtime's message
 */
import assert from 'node:assert/strict';
import koffi from 'koffi';
import { type Kernels, loadKernels } from '../native/kernels.js';
import { NativeArena, NativeMemory, type PointerArray } from '../native/native-memory.js';
import { OrtTensors, openSession } from '../ort/open-session.js';
import {
  LOG_WARNING,
  loadOrtApi,
  ORT_ARENA_ALLOCATOR,
  ORT_MEMORY_DEFAULT,
  type OrtApi,
} from '../ort/ort-api.js';
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

  constructor(inputs: PointerArray, outputs: PointerArray) {
    this.inputs = inputs;
    this.outputs = outputs;
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

class CpuSegment implements Segment {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly #api: OrtApi;
  readonly #arena: NativeArena;
  readonly #session: number;
  readonly #next: NextRun;
  readonly #inputNames: PointerArray;
  readonly #outputNames: PointerArray;

  constructor(
    api: OrtApi,
    arena: NativeArena,
    session: number,
    next: NextRun,
    inputs: readonly string[],
    outputs: readonly string[],
  ) {
    this.#api = api;
    this.#arena = arena;
    this.#session = session;
    this.#next = next;
    this.inputs = inputs;
    this.outputs = outputs;
    this.#inputNames = this.#names(inputs);
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
    return new CpuBinding(
      this.#arena.pointers(this.inputs.length),
      this.#arena.pointers(this.outputs.length),
    );
  }

  run(binding: SegmentBinding): void {
    const { inputs, outputs } = binding as CpuBinding;
    const { options } = this.#next;
    if (options !== 0) this.#next.options = 0;
    this.#api.call.Run(
      this.#session,
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
    this.#api.releaseSession(this.#session);
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
    const api = this.#api;
    const session = openSession(api, this.#env, model, weightsFolder, (options) => {
      api.call.AddSessionConfigEntry(options, 'session.use_env_allocators', '1');
      if (this.#kernels) api.check('RegisterCustomOps', this.#kernels.register(options, api.base));
    });
    return new CpuSegment(api, this.#arena, session, this.#next, inputs, outputs);
  }

  close(): void {
    this.#api.releaseEnv(this.#env);
  }
}
