/**
 * Sums between NVIDIA's GPUs by NCCL: each rank's sum runs in its GPU's stream, between the segments before and after it.
 *
 * In      libnccl.so.2 of the folder of libraries, or of the system; the open CUDA runtime
 * Out     DeviceLinks; or why there are none
 * Limits  a GPU a rank: NCCL refuses two ranks on one. One host: ranks meet on the loopback interface, unless NCCL_SOCKET_IFNAME says another
 * Errors  an Error in NCCL's own words
 * Source  NCCL user guide, API: ncclGetVersion, ncclGetUniqueId, ncclCommInitRank, ncclAllReduce, ncclCommGetAsyncError, ncclCommAbort,
 *         ncclGetErrorString, ncclGetLastError; nccl.h 2.27: ncclResult_t, ncclDataType_t, ncclRedOp_t
 *
 * The communicator blocks, as NCCL calls it: a call returns when the sum is in the stream. One that doesn't starts a thread a call.
 *
 * Not yet run on hardware.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';
import { NCCL_LIBRARY } from '../../proto/cuda-libraries.js';
import type { CudaRuntime } from './cuda-runtime.js';
import type { DeviceBuffer, DeviceLink, DeviceLinks } from './device.js';
import { type JoinTask, joinInThread } from './nccl-join.js';
import { addressOf } from './remote-ort-device.js';

const ID_BYTES = 128;
const SUCCESS = 0;
const IN_PROGRESS = 7;
/** ncclFloat32, ncclSum. */
const FLOAT32 = 7;
const SUM = 0;
/** How a version is one number since 2.9. */
const [MAJOR, MINOR] = [10_000, 100];

/** By name, as the library has them; results are ncclResult_t. */
export interface NcclFunctions {
  ncclGetVersion(out: Int32Array): number;
  ncclGetUniqueId(out: Uint8Array): number;
  /** The id by value. */
  ncclCommInitRank(out: BigUint64Array, ranks: number, id: { internal: Uint8Array }, rank: number): number;
  ncclAllReduce(
    from: number,
    to: number,
    count: number,
    type: number,
    operation: number,
    comm: bigint,
    stream: bigint,
  ): number;
  ncclCommGetAsyncError(comm: bigint, out: Int32Array): number;
  ncclCommAbort(comm: bigint): number;
  ncclGetErrorString(code: number): string;
  /** What was logged last; 0: by any communicator. */
  ncclGetLastError(comm: bigint): string | null;
}

export interface NcclOptions {
  /** Where CUDA's libraries are. */
  folder: string;
  /** CUDA's runtime, for the thread that joins. */
  cudart: string;
  gpu: number;
  runtime: Pick<CudaRuntime, 'isDone' | 'stream'>;
  /** For tests: in place of the library's own calls. */
  load?: (library: string) => NcclFunctions;
  join?: typeof joinInThread;
}

export function openNccl(options: NcclOptions): DeviceLinks | string {
  // Ranks are on one host: nobody else need reach the sockets by which they meet. The library reads it when it is first used.
  process.env.NCCL_SOCKET_IFNAME ??= 'lo';
  const own = path.join(options.folder, NCCL_LIBRARY);
  const { load = loadNcclFunctions } = options;
  let why = '';
  for (const library of existsSync(own) ? [own, NCCL_LIBRARY] : [NCCL_LIBRARY]) {
    try {
      return new NcclLinks(load(library), library, options);
    } catch (cause) {
      why = cause instanceof Error ? cause.message : String(cause);
    }
  }
  return `NCCL does not load, which npx shardserve gpu install fetches (${why})`;
}

class NcclLinks implements DeviceLinks {
  readonly name: string;
  readonly #functions: NcclFunctions;
  readonly #library: string;
  readonly #options: NcclOptions;

  constructor(functions: NcclFunctions, library: string, options: NcclOptions) {
    this.#functions = functions;
    this.#library = library;
    this.#options = options;
    const out = new Int32Array(1);
    check(functions, 'ncclGetVersion', functions.ncclGetVersion(out));
    const [version = 0] = out;
    const minor = Math.floor((version % MAJOR) / MINOR);
    this.name = `NCCL ${Math.floor(version / MAJOR)}.${minor}.${version % MINOR}`;
  }

  newId(): Uint8Array {
    const id = new Uint8Array(new ArrayBuffer(ID_BYTES));
    check(this.#functions, 'ncclGetUniqueId', this.#functions.ncclGetUniqueId(id));
    return id;
  }

  async join({ timeoutMs, ...group }: Parameters<DeviceLinks['join']>[0]): Promise<DeviceLink> {
    const { cudart, gpu, join = joinInThread, runtime } = this.#options;
    const task: JoinTask = { ...group, cudart, gpu, library: this.#library };
    return new NcclLink(this.#functions, await join(task, timeoutMs), runtime);
  }
}

class NcclLink implements DeviceLink {
  readonly #functions: NcclFunctions;
  readonly #comm: bigint;
  readonly #runtime: NcclOptions['runtime'];
  readonly #asyncError = new Int32Array(new ArrayBuffer(4));
  #aborted = false;

  constructor(functions: NcclFunctions, comm: bigint, runtime: NcclOptions['runtime']) {
    this.#functions = functions;
    this.#comm = comm;
    this.#runtime = runtime;
  }

  sum(partial: DeviceBuffer, sum: DeviceBuffer, floats: number): void {
    const [from, to] = [addressOf(partial), addressOf(sum)];
    const { stream } = this.#runtime;
    const code = this.#functions.ncclAllReduce(from, to, floats, FLOAT32, SUM, this.#comm, stream);
    check(this.#functions, 'ncclAllReduce', code, this.#comm);
  }

  isDone(): boolean {
    const functions = this.#functions;
    const code = functions.ncclCommGetAsyncError(this.#comm, this.#asyncError);
    check(functions, 'ncclCommGetAsyncError', code, this.#comm);
    const [state = SUCCESS] = this.#asyncError;
    if (state !== IN_PROGRESS) check(functions, 'ncclAllReduce', state, this.#comm);
    return this.#runtime.isDone();
  }

  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#functions.ncclCommAbort(this.#comm);
  }
}

/** @throws Error in NCCL's words */
export function check(functions: NcclFunctions, name: string, code: number, comm = 0n): void {
  if (code === SUCCESS) return;
  const last = functions.ncclGetLastError(comm)?.trim() ?? '';
  const why = last === '' ? '' : `: ${last}`;
  throw new Error(`NCCL ${name}: ${functions.ncclGetErrorString(code)} (${code})${why}`);
}

/** A collected handle unloads its library. */
const keepAlive: unknown[] = [];

/** @throws Error: there is no such library, or it lacks a function */
export function loadNcclFunctions(library: string): NcclFunctions {
  const nccl = koffi.load(library);
  keepAlive.push(nccl);
  const id = koffi.struct({ internal: koffi.array('uint8_t', ID_BYTES, 'Typed') });
  const bind = (name: string, result: string, ...parameters: (string | typeof id)[]) =>
    nccl.func(name, result, parameters) as unknown;
  return {
    ncclGetVersion: bind('ncclGetVersion', 'int', 'void *'),
    ncclGetUniqueId: bind('ncclGetUniqueId', 'int', 'void *'),
    ncclCommInitRank: bind('ncclCommInitRank', 'int', 'void *', 'int', id, 'int'),
    ncclAllReduce: bind(
      'ncclAllReduce',
      'int',
      ...['uintptr_t', 'uintptr_t', 'size_t', 'int', 'int', 'uintptr_t', 'uintptr_t'],
    ),
    ncclCommGetAsyncError: bind('ncclCommGetAsyncError', 'int', 'uintptr_t', 'void *'),
    ncclCommAbort: bind('ncclCommAbort', 'int', 'uintptr_t'),
    ncclGetErrorString: bind('ncclGetErrorString', 'const char *', 'int'),
    ncclGetLastError: bind('ncclGetLastError', 'const char *', 'uintptr_t'),
  } as NcclFunctions;
}
