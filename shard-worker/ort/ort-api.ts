/**
 * ONNX Runtime's C API by koffi, over the library that the package onnxruntime-node ships.
 *
 * Why not the package's own API: it copies every fetched output, has no shared thread pool and no way to bind memory of ours.
 * The function table is append-only but versioned, so the library's version is pinned and checked here.
 *
 * In      nothing: the library is found through the package; or the path of another build of the same version (cuda-device.ts)
 * Out     `loadOrtApi()`: the functions we use, each throwing an Error with ONNX Runtime's message when it fails
 * Errors  UNSUPPORTED_PLATFORM when the library is missing or of another version
 * Source  onnxruntime_c_api.h of 1.30.0; slot numbers checked against its static assertions
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import koffi from 'koffi';
import { ServingError } from '../../proto/errors.js';

const ORT_VERSION = '1.30.0';
const API_VERSION = 30;
const API_SLOTS = 425;

/** Slot of each function in `OrtApi`. */
const SLOT = {
  GetErrorMessage: 2,
  CreateSessionFromArray: 8,
  Run: 9,
  CreateSessionOptions: 10,
  DisableMemPattern: 17,
  SetSessionLogSeverityLevel: 22,
  SetSessionGraphOptimizationLevel: 23,
  CreateRunOptions: 39,
  CreateTensorWithDataAsOrtValue: 49,
  CreateMemoryInfo: 68,
  CreateCpuMemoryInfo: 69,
  AllocatorAlloc: 75,
  AllocatorFree: 76,
  ReleaseEnv: 92,
  ReleaseStatus: 93,
  ReleaseSession: 95,
  ReleaseValue: 96,
  ReleaseSessionOptions: 100,
  CreateEnvWithGlobalThreadPools: 119,
  DisablePerSessionThreads: 120,
  CreateThreadingOptions: 121,
  AddSessionConfigEntry: 130,
  CreateAllocator: 131,
  RunWithBinding: 133,
  CreateIoBinding: 134,
  BindInput: 136,
  BindOutput: 137,
  CreateAndRegisterAllocator: 144,
  SetGlobalIntraOpNumThreads: 147,
  SetGlobalInterOpNumThreads: 148,
  SetGlobalSpinControl: 149,
  AddRunConfigEntry: 165,
  SessionOptionsAppendExecutionProvider_CUDA_V2: 204,
  CreateCUDAProviderOptions: 205,
  UpdateCUDAProviderOptions: 206,
  SessionOptionsAppendExecutionProvider: 216,
  CopyTensors: 386,
} as const;

/** OrtAllocatorType, OrtMemType, OrtLoggingLevel: those that are used. */
export const ORT_DEVICE_ALLOCATOR = 0;
export const ORT_ARENA_ALLOCATOR = 1;
export const ORT_MEMORY_DEFAULT = 0;
export const LOG_WARNING = 2;
export const LOG_ERROR = 3;
export const LOG_FATAL = 4;

type NativeFunction = (...args: readonly unknown[]) => number | bigint | null;

/** Functions that return an OrtStatus are wrapped: they return nothing and throw. */
export interface OrtApi {
  /** Path of the loaded library. */
  readonly libraryPath: string;
  /** OrtApiBase, for libraries of operators. */
  readonly base: bigint;
  /** @throws what an OrtStatus says that another library returned; 0: nothing */
  readonly check: (name: string, status: number | bigint) => void;
  /** Functions of shape `OrtStatus *f(…)`. Pointers are numbers; a result pointer is written to `out`. */
  readonly call: Readonly<Record<StatusFunction, (...args: readonly unknown[]) => void>>;
  readonly releaseValue: (value: number) => void;
  readonly releaseSession: (session: number) => void;
  readonly releaseSessionOptions: (options: number) => void;
  readonly releaseEnv: (env: number) => void;
  /** Run a function whose last parameter is a result pointer, and return that pointer. */
  create(name: StatusFunction, ...args: readonly unknown[]): number;
}

type StatusFunction = Exclude<
  keyof typeof SLOT,
  | 'GetErrorMessage'
  | 'ReleaseStatus'
  | 'ReleaseSession'
  | 'ReleaseValue'
  | 'ReleaseSessionOptions'
  | 'ReleaseEnv'
>;

const PARAMETERS: Readonly<Record<StatusFunction, readonly string[]>> = {
  CreateSessionFromArray: ['uintptr_t', 'void *', 'size_t', 'uintptr_t', 'void *'],
  Run: ['uintptr_t', 'uintptr_t', 'uintptr_t', 'uintptr_t', 'size_t', 'uintptr_t', 'size_t', 'uintptr_t'],
  CreateSessionOptions: ['void *'],
  CreateRunOptions: ['void *'],
  AddRunConfigEntry: ['uintptr_t', 'const char *', 'const char *'],
  DisableMemPattern: ['uintptr_t'],
  SetSessionGraphOptimizationLevel: ['uintptr_t', 'int'],
  CreateTensorWithDataAsOrtValue: ['uintptr_t', 'uintptr_t', 'size_t', 'void *', 'size_t', 'int', 'void *'],
  CreateMemoryInfo: ['const char *', 'int', 'int', 'int', 'void *'],
  CreateCpuMemoryInfo: ['int', 'int', 'void *'],
  CreateAllocator: ['uintptr_t', 'uintptr_t', 'void *'],
  AllocatorAlloc: ['uintptr_t', 'size_t', 'void *'],
  AllocatorFree: ['uintptr_t', 'uintptr_t'],
  CreateIoBinding: ['uintptr_t', 'void *'],
  BindInput: ['uintptr_t', 'const char *', 'uintptr_t'],
  BindOutput: ['uintptr_t', 'const char *', 'uintptr_t'],
  RunWithBinding: ['uintptr_t', 'uintptr_t', 'uintptr_t'],
  SessionOptionsAppendExecutionProvider: ['uintptr_t', 'const char *', 'uintptr_t', 'uintptr_t', 'size_t'],
  CopyTensors: ['uintptr_t', 'uintptr_t', 'uintptr_t', 'uintptr_t', 'size_t'],
  SessionOptionsAppendExecutionProvider_CUDA_V2: ['uintptr_t', 'uintptr_t'],
  CreateCUDAProviderOptions: ['void *'],
  UpdateCUDAProviderOptions: ['uintptr_t', 'const char **', 'const char **', 'size_t'],
  SetSessionLogSeverityLevel: ['uintptr_t', 'int'],
  CreateEnvWithGlobalThreadPools: ['int', 'const char *', 'uintptr_t', 'void *'],
  DisablePerSessionThreads: ['uintptr_t'],
  CreateThreadingOptions: ['void *'],
  AddSessionConfigEntry: ['uintptr_t', 'const char *', 'const char *'],
  CreateAndRegisterAllocator: ['uintptr_t', 'uintptr_t', 'uintptr_t'],
  SetGlobalIntraOpNumThreads: ['uintptr_t', 'int'],
  SetGlobalInterOpNumThreads: ['uintptr_t', 'int'],
  SetGlobalSpinControl: ['uintptr_t', 'int'],
};

/** A collected library handle unloads the library under its own function pointers, so it stays reachable for good. */
const keepAlive: unknown[] = [];
const loaded = new Map<string, OrtApi>();

/**
 * The API; a library is loaded once a process.
 *
 * @param libraryPath absent: the library of onnxruntime-node
 * @throws ServingError UNSUPPORTED_PLATFORM
 */
export function loadOrtApi(libraryPath: string = findLibrary()): OrtApi {
  const api = loaded.get(libraryPath) ?? openLibrary(libraryPath);
  loaded.set(libraryPath, api);
  return api;
}

function findLibrary(): string {
  const require = createRequire(import.meta.url);
  const folder = path.dirname(require.resolve('onnxruntime-node/package.json'));
  const file = path.join(folder, 'bin', 'napi-v6', 'linux', process.arch, 'libonnxruntime.so.1');
  if (!existsSync(file)) {
    throw new ServingError(
      'UNSUPPORTED_PLATFORM',
      `ONNX Runtime's library for linux-${process.arch} is not in the package onnxruntime-node`,
    );
  }
  return file;
}

function openLibrary(libraryPath: string): OrtApi {
  // Since 1.30 the library reports its use over the internet and keeps files in the temporary folder and in ~/.cache for that,
  // unless it finds this variable when it starts.
  process.env.ORT_DISABLE_TELEMETRY = '1';
  const library = koffi.load(libraryPath);
  const getApiBase = library.func('void *OrtGetApiBase()');
  keepAlive.push(library, getApiBase);
  const apiBase = getApiBase() as bigint;
  const base = koffi.decode(apiBase, koffi.array('void *', 2)) as [bigint, bigint];
  const version = String(koffi.call(base[1], koffi.proto('const char *', [])));
  if (version !== ORT_VERSION) {
    throw new ServingError(
      'UNSUPPORTED_PLATFORM',
      `ONNX Runtime is version ${version}; this server is made for ${ORT_VERSION} (its function table is versioned)`,
    );
  }
  const table = koffi.decode(
    koffi.call(base[0], koffi.proto('void *', ['uint32_t']), API_VERSION),
    koffi.array('void *', API_SLOTS),
  ) as bigint[];

  const bind = (name: keyof typeof SLOT, result: string, parameters: readonly string[]): NativeFunction => {
    const pointer = table[SLOT[name]];
    if (!pointer) throw new ServingError('UNSUPPORTED_PLATFORM', `ONNX Runtime has no function ${name}`);
    return koffi.decode(pointer, koffi.proto(result, [...parameters])) as NativeFunction;
  };
  const getErrorMessage = bind('GetErrorMessage', 'const char *', ['uintptr_t']) as unknown as (
    s: number,
  ) => string;
  const releaseStatus = bind('ReleaseStatus', 'void', ['uintptr_t']);
  const fail = (name: string, status: number | bigint): never => {
    const message = getErrorMessage(Number(status));
    releaseStatus(status);
    throw new Error(`ONNX Runtime ${name}: ${message}`);
  };
  const names = Object.keys(PARAMETERS) as StatusFunction[];
  const call = Object.fromEntries(
    names.map((name) => {
      const native = bind(name, 'uintptr_t', PARAMETERS[name]);
      return [
        name,
        (...args: readonly unknown[]): void => {
          const status = native(...args);
          if (status) fail(name, status);
        },
      ];
    }),
  ) as Record<StatusFunction, (...args: readonly unknown[]) => void>;

  const out = new BigUint64Array(1);
  return {
    libraryPath,
    base: apiBase,
    check(name, status) {
      if (status) fail(name, status);
    },
    call,
    releaseValue: bind('ReleaseValue', 'void', ['uintptr_t']),
    releaseSession: bind('ReleaseSession', 'void', ['uintptr_t']),
    releaseSessionOptions: bind('ReleaseSessionOptions', 'void', ['uintptr_t']),
    releaseEnv: bind('ReleaseEnv', 'void', ['uintptr_t']),
    create(name, ...args) {
      call[name](...args, out);
      return Number(out[0]);
    },
  };
}
