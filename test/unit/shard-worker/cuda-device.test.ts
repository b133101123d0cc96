/** The CUDA device as far as a machine without a GPU goes: what is missing is told, and copies go in one stream's order. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { CUDA_FILES } from '../../../proto/cuda-libraries.js';
import { cudaProviderOptions } from '../../../shard-worker/device/cuda-device.js';
import { type CudaFunctions, CudaRuntime } from '../../../shard-worker/device/cuda-runtime.js';
import { openDevice } from '../../../shard-worker/device/open-device.js';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function folderWith(names: readonly string[]): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'cuda-'));
  folders.push(folder);
  for (const name of names) writeFileSync(path.join(folder, name), '');
  return folder;
}

const open = (cudaFolder: string) => () =>
  openDevice({ device: 'cuda', rank: 0, threads: 1, cudaFolder, gpus: [0] });

describe('opening', () => {
  it('names the libraries that are missing and the command that fetches them', () => {
    const all = folderWith(CUDA_FILES.filter((name) => !name.includes('cublas')));
    expect(open(all)).toThrow(
      `device cuda: libraries are missing in ${all} (libcublasLt.so.13, libcublas.so.13): npx shardserve gpu install puts them there`,
    );
  });

  it('names the driver where the libraries are there', () => {
    // A machine with a driver goes further, to files that are empty.
    expect(open(folderWith(CUDA_FILES))).toThrow(/device cuda: (?:no NVIDIA driver \(libcuda\.so\.1\)|.*)/);
    expect(open(folderWith(CUDA_FILES))).toThrow(expect.objectContaining({ code: 'UNSUPPORTED_PLATFORM' }));
  });
});

/** A driver that writes down what it is asked. */
function recorded(fields: Partial<CudaFunctions> = {}): { functions: CudaFunctions; calls: unknown[][] } {
  const calls: unknown[][] = [];
  const note =
    (name: string, result: number) =>
    (...args: unknown[]): number => {
      calls.push([name, ...args]);
      return result;
    };
  const functions: CudaFunctions = {
    cudaGetDeviceCount: (out) => {
      out[0] = 2;
      return 0;
    },
    cudaSetDevice: note('set', 0),
    cudaStreamCreateWithFlags: (out, flags) => {
      out[0] = 77n;
      return note('stream', 0)(flags);
    },
    cudaStreamDestroy: note('destroy', 0),
    cudaStreamQuery: () => 0,
    cudaMalloc: (out, bytes) => {
      out[0] = 4096n;
      return note('malloc', 0)(bytes);
    },
    cudaFree: note('free', 0),
    cudaMemcpy: note('copy', 0),
    cudaMemcpyAsync: note('copy-async', 0),
    cudaMemGetInfo: (free, total) => {
      free[0] = 10n;
      total[0] = 100n;
      return 0;
    },
    cudaGetErrorString: (code) => `error ${code}`,
    ...fields,
  };
  return { functions, calls };
}

describe('the runtime', () => {
  it('takes its GPU, uploads in its stream, and waits for it when it reads', () => {
    const { calls, functions } = recorded();
    const runtime = new CudaRuntime(functions, 1);
    const data = Float32Array.of(1, 2, 3);
    const address = runtime.allocate(16);
    runtime.upload(address, data, 12);
    runtime.download(address, data, 8);
    runtime.free(address);
    expect(calls).toEqual([
      ['set', 1],
      ['stream', 0],
      ['malloc', 16],
      ['copy-async', 4096, data, 12, 1, 77n],
      ['copy', data, 4096, 8, 2],
      ['free', 4096],
    ]);
  });

  it.each([
    [35, /device cuda: NVIDIA's driver is older than 580/],
    [100, /device cuda: NVIDIA's driver shows no GPU/],
    [3, /device cuda: CUDA does not start: error 3 \(3\)/],
  ])('says what CUDA error %i means', (code, message) => {
    expect(() => new CudaRuntime(recorded({ cudaGetDeviceCount: () => code }).functions, 0)).toThrow(message);
  });

  it('refuses a GPU that there is not, and tells what is free where memory ends', () => {
    expect(() => new CudaRuntime(recorded().functions, 2)).toThrow(
      'device cuda: there is no GPU 2, the driver shows 2',
    );
    const full = new CudaRuntime(recorded({ cudaMalloc: () => 2 }).functions, 0);
    expect(() => full.allocate(50)).toThrow('the GPU has no 50 bytes left (10 of 100 are free): error 2');
  });

  it('tells whether its stream is done, and what failed in it', () => {
    const codes = [600, 0, 700];
    const runtime = new CudaRuntime(recorded({ cudaStreamQuery: () => codes.shift()! }).functions, 0);
    expect([runtime.isDone(), runtime.isDone()]).toEqual([false, true]);
    expect(() => runtime.isDone()).toThrow('CUDA cudaStreamQuery: error 700 (700)');
  });

  it('gives the provider the same GPU and stream', () => {
    expect(cudaProviderOptions(3, 77n)).toMatchObject({ device_id: '3', user_compute_stream: '77' });
  });
});
