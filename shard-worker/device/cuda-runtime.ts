/**
 * The CUDA runtime's functions that a device needs: memory, a stream, copies.
 *
 * In      libcudart.so.13 of the folder of libraries; NVIDIA's driver
 * Out     CudaRuntime, each function throwing an Error with CUDA's own words
 * Errors  UNSUPPORTED_PLATFORM: no driver, too old a driver, no such GPU
 * Source  CUDA runtime API 13: cudaSetDevice, cudaStreamCreateWithFlags, cudaMalloc, cudaFree, cudaMemcpy, cudaMemcpyAsync,
 *         cudaStreamQuery, cudaMemGetInfo, cudaGetDeviceCount, cudaGetErrorString; cudaMemcpyKind
 *
 * Not yet run on hardware.
 */
import koffi from 'koffi';
import { CUDA_DRIVER } from '../../proto/cuda-libraries.js';
import { ServingError } from '../../proto/errors.js';
import type { HostArray } from './device.js';

const HOST_TO_DEVICE = 1;
const DEVICE_TO_HOST = 2;
/** A stream that the legacy default stream, and so cudaMemcpy, waits for. */
const BLOCKING_STREAM = 0;
const DRIVER_TOO_OLD = 35;
const NO_DEVICE = 100;
/** cudaErrorNotReady: the stream has work left. */
const NOT_READY = 600;

/** By name, as the library has them; results are cudaError_t. */
export interface CudaFunctions {
  cudaGetDeviceCount(out: Int32Array): number;
  cudaSetDevice(device: number): number;
  cudaStreamCreateWithFlags(out: BigUint64Array, flags: number): number;
  cudaStreamDestroy(stream: bigint): number;
  cudaStreamQuery(stream: bigint): number;
  cudaMalloc(out: BigUint64Array, bytes: number): number;
  cudaFree(address: number): number;
  cudaMemcpy(to: HostArray, from: number, bytes: number, kind: number): number;
  cudaMemcpyAsync(to: number, from: HostArray, bytes: number, kind: number, stream: bigint): number;
  cudaMemGetInfo(free: BigUint64Array, total: BigUint64Array): number;
  cudaGetErrorString(error: number): string;
}

/** One GPU of this process. */
export class CudaRuntime {
  /** Everything is in its order. */
  readonly stream: bigint;
  readonly #functions: CudaFunctions;

  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor(functions: CudaFunctions, device: number) {
    this.#functions = functions;
    const count = new Int32Array(1);
    const code = functions.cudaGetDeviceCount(count);
    if (code !== 0) throw unsupported(this.#why(code));
    const gpus = count[0] ?? 0;
    if (device >= gpus) throw unsupported(`there is no GPU ${device}, the driver shows ${gpus}`);
    this.#do('cudaSetDevice', functions.cudaSetDevice(device));
    const stream = new BigUint64Array(1);
    this.#do('cudaStreamCreateWithFlags', functions.cudaStreamCreateWithFlags(stream, BLOCKING_STREAM));
    this.stream = stream[0] ?? 0n;
  }

  allocate(bytes: number): number {
    const out = new BigUint64Array(1);
    const code = this.#functions.cudaMalloc(out, bytes);
    if (code !== 0) {
      const { freeBytes, totalBytes } = this.memory();
      throw new Error(
        `the GPU has no ${bytes} bytes left (${freeBytes} of ${totalBytes} are free): ${this.#functions.cudaGetErrorString(code)}`,
      );
    }
    return Number(out[0]);
  }

  free(address: number): void {
    this.#do('cudaFree', this.#functions.cudaFree(address));
  }

  /** From memory that may be paged the call copies before it returns. */
  upload(address: number, data: HostArray, bytes: number): void {
    const { stream } = this;
    this.#do(
      'cudaMemcpyAsync',
      this.#functions.cudaMemcpyAsync(address, data, bytes, HOST_TO_DEVICE, stream),
    );
  }

  /** Waits for the stream. */
  download(address: number, data: HostArray, bytes: number): void {
    this.#do('cudaMemcpy', this.#functions.cudaMemcpy(data, address, bytes, DEVICE_TO_HOST));
  }

  /** Whether the stream has done all that it was given. */
  isDone(): boolean {
    const code = this.#functions.cudaStreamQuery(this.stream);
    if (code === NOT_READY) return false;
    this.#do('cudaStreamQuery', code);
    return true;
  }

  memory(): { freeBytes: number; totalBytes: number } {
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)];
    this.#do('cudaMemGetInfo', this.#functions.cudaMemGetInfo(free, total));
    return { freeBytes: Number(free[0]), totalBytes: Number(total[0]) };
  }

  close(): void {
    this.#functions.cudaStreamDestroy(this.stream);
  }

  #do(name: string, code: number): void {
    if (code !== 0) throw new Error(`CUDA ${name}: ${this.#functions.cudaGetErrorString(code)} (${code})`);
  }

  #why(code: number): string {
    const words = this.#functions.cudaGetErrorString(code);
    if (code === DRIVER_TOO_OLD)
      return `NVIDIA's driver is older than ${CUDA_DRIVER}, which CUDA 13 needs, or there is none (${words})`;
    if (code === NO_DEVICE)
      return `NVIDIA's driver shows no GPU; CUDA_VISIBLE_DEVICES may hide it (${words})`;
    return `CUDA does not start: ${words} (${code})`;
  }
}

/** A collected handle unloads its library. */
const keepAlive: unknown[] = [];

/**
 * CUDA numbers GPUs from the fastest on, unless it is told; NVML (server/machine/nvml.ts), by which ranks are given theirs, by their place on the bus.
 * So whatever the environment says of it is no longer true. The driver reads it when it starts, not when it is loaded.
 */
export function numberAsNvml(): void {
  process.env.CUDA_DEVICE_ORDER = 'PCI_BUS_ID';
}

/** @throws ServingError UNSUPPORTED_PLATFORM */
export function loadCudaFunctions(library: string): CudaFunctions {
  numberAsNvml();
  try {
    const cudart = koffi.load(library);
    keepAlive.push(cudart);
    const bind = (name: string, result: string, ...parameters: string[]) =>
      cudart.func(name, result, parameters) as unknown;
    return {
      cudaGetDeviceCount: bind('cudaGetDeviceCount', 'int', 'void *'),
      cudaSetDevice: bind('cudaSetDevice', 'int', 'int'),
      cudaStreamCreateWithFlags: bind('cudaStreamCreateWithFlags', 'int', 'void *', 'unsigned int'),
      cudaStreamDestroy: bind('cudaStreamDestroy', 'int', 'uintptr_t'),
      cudaStreamQuery: bind('cudaStreamQuery', 'int', 'uintptr_t'),
      cudaMalloc: bind('cudaMalloc', 'int', 'void *', 'size_t'),
      cudaFree: bind('cudaFree', 'int', 'uintptr_t'),
      cudaMemcpy: bind('cudaMemcpy', 'int', 'void *', 'uintptr_t', 'size_t', 'int'),
      cudaMemcpyAsync: bind(
        'cudaMemcpyAsync',
        'int',
        ...['uintptr_t', 'void *', 'size_t', 'int', 'uintptr_t'],
      ),
      cudaMemGetInfo: bind('cudaMemGetInfo', 'int', 'void *', 'void *'),
      cudaGetErrorString: bind('cudaGetErrorString', 'const char *', 'int'),
    } as CudaFunctions;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw unsupported(`the CUDA runtime does not load: ${reason}`);
  }
}

/** Loaded for all that come after it in this process. @throws ServingError UNSUPPORTED_PLATFORM */
export function preload(library: string): void {
  try {
    keepAlive.push(koffi.load(library, { global: true }));
  } catch (cause) {
    throw unsupported(cause instanceof Error ? cause.message : String(cause));
  }
}

export const unsupported = (why: string): ServingError =>
  new ServingError('UNSUPPORTED_PLATFORM', `device cuda: ${why}`);
