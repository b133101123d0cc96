/**
 * NVIDIA's GPUs by NVML, the library that comes with the driver.
 *
 * In      libnvidia-ml.so.1
 * Out     name, UUID, memory and use of each GPU; of one that is cut (MIG), of each of its parts in its place
 * Errors  none: without the library, or where it refuses, there are no NVIDIA GPUs to be seen, and `why` says so
 * Source  NVML API reference: nvmlInit_v2, nvmlDeviceGetCount_v2, nvmlDeviceGetHandleByIndex_v2, nvmlDeviceGetName, nvmlDeviceGetUUID,
 *         nvmlDeviceGetMemoryInfo { total, free, used: 64 bits each }, nvmlDeviceGetUtilizationRates { gpu, memory: percent, 32 bits each },
 *         nvmlDeviceGetMigMode { current, pending }, nvmlDeviceGetMaxMigDeviceCount, nvmlDeviceGetMigDeviceHandleByIndex
 *
 * Not yet run on hardware.
 */
import koffi from 'koffi';
import type { Gpu } from './visible-gpus.js';

const LIBRARY = 'libnvidia-ml.so.1';
const SUCCESS = 0;
/** NVML_DEVICE_UUID_V2_BUFFER_SIZE and NVML_DEVICE_NAME_V2_BUFFER_SIZE. */
const TEXT_BYTES = 96;
/** One machine's. */
const MAX_GPUS = 64;

/** The functions used; each returns 0 or what failed. */
export interface NvmlFunctions {
  init(): number;
  count(out: Uint32Array): number;
  handle(index: number, out: BigUint64Array): number;
  name(device: bigint, text: Uint8Array, bytes: number): number;
  uuid(device: bigint, text: Uint8Array, bytes: number): number;
  memory(device: bigint, out: BigUint64Array): number;
  utilisation(device: bigint, out: Uint32Array): number;
  migMode(device: bigint, current: Uint32Array, pending: Uint32Array): number;
  migCount(device: bigint, out: Uint32Array): number;
  migHandle(device: bigint, index: number, out: BigUint64Array): number;
}

export interface Nvml {
  gpus(): Gpu[];
}

/** @returns why there are none, where there are none */
export function openNvml(load: () => NvmlFunctions = loadFunctions): { nvml: Nvml | null; why: string } {
  let functions: NvmlFunctions;
  try {
    functions = load();
  } catch {
    return { nvml: null, why: `no NVIDIA driver (${LIBRARY})` };
  }
  const code = functions.init();
  if (code !== SUCCESS) return { nvml: null, why: `NVIDIA's driver does not answer (NVML error ${code})` };
  return { nvml: new LoadedNvml(functions), why: '' };
}

class LoadedNvml implements Nvml {
  readonly #functions: NvmlFunctions;

  constructor(functions: NvmlFunctions) {
    this.#functions = functions;
  }

  gpus(): Gpu[] {
    const count = new Uint32Array(1);
    if (this.#functions.count(count) !== SUCCESS) return [];
    const found: Gpu[] = [];
    for (let index = 0; index < Math.min(count[0] ?? 0, MAX_GPUS); index++) {
      const device = this.#device(index);
      if (device === null) continue;
      for (const part of this.#parts(device) ?? [device]) found.push(this.#describe(index, part));
    }
    return found;
  }

  #describe(index: number, device: bigint): Gpu {
    const memory = this.#memory(device);
    return {
      index,
      name: text((out) => this.#functions.name(device, out, out.length)) ?? 'NVIDIA GPU',
      uuid: text((out) => this.#functions.uuid(device, out, out.length)),
      totalBytes: memory?.total ?? null,
      freeBytes: memory?.free ?? null,
      busyShare: this.#busyShare(device),
    };
  }

  /** null: the GPU is whole. */
  #parts(device: bigint): bigint[] | null {
    const [mode, pending, count] = [new Uint32Array(1), new Uint32Array(1), new Uint32Array(1)];
    if (this.#functions.migMode(device, mode, pending) !== SUCCESS || mode[0] !== 1) return null;
    if (this.#functions.migCount(device, count) !== SUCCESS) return [];
    const parts: bigint[] = [];
    for (let index = 0; index < Math.min(count[0] ?? 0, MAX_GPUS); index++) {
      const out = new BigUint64Array(1);
      if (this.#functions.migHandle(device, index, out) === SUCCESS) parts.push(out[0] ?? 0n);
    }
    return parts;
  }

  #device(index: number): bigint | null {
    const out = new BigUint64Array(1);
    return this.#functions.handle(index, out) === SUCCESS ? (out[0] ?? null) : null;
  }

  #busyShare(device: bigint): number | null {
    const out = new Uint32Array(2);
    return this.#functions.utilisation(device, out) === SUCCESS ? (out[0] ?? 0) / 100 : null;
  }

  #memory(device: bigint): { total: number; free: number } | null {
    const out = new BigUint64Array(3);
    if (this.#functions.memory(device, out) !== SUCCESS) return null;
    const [total = 0, free = 0] = [...out].map(Number);
    return { total, free };
  }
}

function text(read: (out: Uint8Array) => number): string | null {
  const out = new Uint8Array(TEXT_BYTES);
  if (read(out) !== SUCCESS) return null;
  const end = out.indexOf(0);
  return new TextDecoder().decode(out.subarray(0, end < 0 ? out.length : end));
}

/** A collected handle unloads its library. */
const keepAlive: unknown[] = [];

/** @throws Error: there is no such library, or it lacks a function */
function loadFunctions(): NvmlFunctions {
  const library = koffi.load(LIBRARY);
  keepAlive.push(library);
  const bind = (name: string, ...parameters: string[]) =>
    library.func(name, 'int', parameters) as unknown as (...args: unknown[]) => number;
  return {
    init: bind('nvmlInit_v2'),
    count: bind('nvmlDeviceGetCount_v2', 'void *'),
    handle: bind('nvmlDeviceGetHandleByIndex_v2', 'unsigned int', 'void *'),
    name: bind('nvmlDeviceGetName', 'uintptr_t', 'void *', 'unsigned int'),
    uuid: bind('nvmlDeviceGetUUID', 'uintptr_t', 'void *', 'unsigned int'),
    memory: bind('nvmlDeviceGetMemoryInfo', 'uintptr_t', 'void *'),
    utilisation: bind('nvmlDeviceGetUtilizationRates', 'uintptr_t', 'void *'),
    migMode: bind('nvmlDeviceGetMigMode', 'uintptr_t', 'void *', 'void *'),
    migCount: bind('nvmlDeviceGetMaxMigDeviceCount', 'uintptr_t', 'void *'),
    migHandle: bind('nvmlDeviceGetMigDeviceHandleByIndex', 'uintptr_t', 'unsigned int', 'void *'),
  };
}
