/**
 * The library of our own kernels: an operator for ONNX Runtime's graphs.
 *
 * In      the library's path (proto/kernel-library.ts); SHARDSERVE_KERNELS (kernel-variant.ts)
 * Out     `loadKernels()`: what registers its operators with a session; null where this machine has none
 * Errors  an Error with ONNX Runtime's message; a library of another version is none
 */
import { env } from 'node:process';
import koffi from 'koffi';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { chooseVariant, variantCalls } from './kernel-variant.js';

/** Version of kernels.h. */
const ABI_VERSION = 3;

export interface Kernels {
  /** @param apiBase OrtApiBase. @returns OrtStatus, 0: it went well */
  register(sessionOptions: number, apiBase: bigint): number | bigint;
  /** Pieces that an operator cuts its work into. */
  setThreads(threads: number): void;
  /** Bytes of scratch memory that attention of heads of `dim` columns needs; 0: there are none such. */
  attendScratch(dim: number): number;
  /**
   * One layer of attention for all sequences of a step (ss_attend). Addresses of SsAttention, SsAttendSpan[count] and scratch.
   *
   * @param work bits of AttendWork
   * @returns 0, or a code of SsError
   */
  attend(
    shape: number,
    spans: number,
    count: number,
    layer: number,
    window: number,
    work: number,
    part: number,
    parts: number,
    scratch: number,
  ): number;
  readonly scans: ScanCalls;
  /** What the log should say: a set of instructions that is not used here, and why. */
  readonly notes: readonly string[];
}

/** Passes over a row of logits (ss_scan_…). */
export interface ScanCalls {
  blocks(logits: Float32Array, count: number, blockMax: Float32Array): number;
  mass(logits: Float32Array, count: number, blockMax: Float32Array, max: number, temperature: number): number;
  reach(
    logits: Float32Array,
    count: number,
    blockMax: Float32Array,
    least: number,
    positions: Int32Array,
  ): number;
  noise(
    key: number,
    second: number,
    base: number,
    first: number,
    count: number,
    limits: Float64Array,
    positions: Int32Array,
  ): number;
}

/** What a call of `attend` does. */
export const AttendWork = { WRITE: 1, READ: 2 } as const;

let loaded: Kernels | null | undefined;
/** A collected library handle unloads the library under its own function pointers. */
const keepAlive: unknown[] = [];

/** Loaded once a process. */
export function loadKernels(): Kernels | null {
  if (loaded === undefined) loaded = open(kernelLibrary());
  return loaded;
}

function open(file: string | null): Kernels | null {
  if (file === null) return null;
  const library = koffi.load(file);
  const version = library.func('int32_t ss_abi_version()') as () => number;
  if (version() !== ABI_VERSION) return null;
  const register = library.func('uintptr_t RegisterCustomOps(uintptr_t, void *)');
  const setThreads = library.func('void ss_set_threads(int32_t)');
  const attendScratch = library.func('int64_t ss_attend_scratch(int32_t)');
  const attend = library.func(
    'int32_t ss_attend(uintptr_t, uintptr_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, uintptr_t)',
  );
  keepAlive.push(library);
  const notes = chooseVariant(variantCalls(library), env.SHARDSERVE_KERNELS || undefined);
  return {
    notes,
    register: register as Kernels['register'],
    setThreads: setThreads as Kernels['setThreads'],
    attendScratch: (dim) => Number(attendScratch(dim)),
    attend: attend as Kernels['attend'],
    scans: {
      blocks: library.func('int32_t ss_scan_blocks(const float *, int64_t, float *)') as ScanCalls['blocks'],
      mass: library.func(
        'double ss_scan_mass(const float *, int64_t, const float *, double, double)',
      ) as ScanCalls['mass'],
      reach: library.func(
        'int64_t ss_scan_reach(const float *, int64_t, const float *, float, int32_t *)',
      ) as ScanCalls['reach'],
      noise: library.func(
        'int64_t ss_scan_noise(uint32_t, uint32_t, int64_t, int64_t, int64_t, const double *, int32_t *)',
      ) as ScanCalls['noise'],
    },
  };
}
