/**
 * How a shard worker is started: the coordinator passes one JSON argument, `node dist/shard-worker/main.js '<json>'`.
 *
 * Sockets are ZeroMQ `ipc://` addresses inside one folder of mode 0700 that belongs to the group:
 *   control-<rank>          PAIR; bound by the coordinator, connected by the rank; frames of control.proto
 *   mesh-<low>-<high>       PAIR between two ranks; bound by the lower; frames of the collective
 */
import type { Manifest } from './manifest.js';

export interface WorkerLaunch {
  /** Folder with manifest.json. */
  shardFolder: string;
  /** A manifest with this text has been checked by who starts the worker. Absent: the rank checks it. */
  manifestSha256?: string;
  rank: number;
  worldSize: number;
  /** Folder of the sockets. */
  socketFolder: string;
  /** What all ranks compute on; absent: cpu. */
  device?: Manifest['deviceClass'];
  /** Number of each rank's GPU, by rank, as CUDA counts those that are visible; absent: 0. */
  gpus?: readonly number[];
  /** Folder of CUDA's libraries (cuda-libraries.ts). */
  cudaFolder?: string;
  /** Intra-op threads of this rank. */
  threads: number;
  /** Sequences at once. */
  maxSlots: number;
  /** Slots beside those, for the rows of sequences that have ended (the prefix cache) or are preempted (swap); absent: 0. */
  warmSlots?: number;
  /** Positions a slot can hold: at most the model's context length. */
  slotTokens: number;
  /** What keys and values are held as; but for floats only where the kernels are (kernel-library.ts). Absent: fp32. */
  kvType?: 'fp32' | 'fp16' | 'int8';
  /** Drafts in one step over all rows, beside a row of output for each sequence; absent: 0. */
  maxDrafts?: number;
  /** Tokens of one step over all rows; the activation buffers are reserved for so many. */
  maxStepTokens: number;
  /** A peer that does not answer for so long is lost. */
  collectiveTimeoutMs: number;
  /**
   * auto: NCCL between GPUs where it can be had; else shm; zmq where the memory cannot be had. nccl: as auto, but NCCL must be had. shm, zmq:
   * these, by way of the host.
   */
  collective: 'auto' | 'zmq' | 'shm' | 'nccl';
  /** How ZeroMQ sends partial sums; absent: none, as they are. */
  collectiveCompression?: 'none' | 'int8';
  /** How long a rank that waits in shared memory spins before it sleeps, µs; absent: 50, or 0 with fewer cores than ranks. */
  collectiveSpinUs?: number;
  /** Threads of a rank that wait for work spin for tens of ms, which is fast and keeps their cores from other groups; absent: with more than one thread. */
  threadsSpin?: boolean;
  /** Compare each file's SHA-256 with the manifest before use. */
  verifyChecksums: boolean;
  /** Process that started it: the worker dies with it. */
  parentPid: number;
}

export const controlAddress = (socketFolder: string, rank: number): string =>
  `ipc://${socketFolder}/control-${rank}`;

export const meshAddress = (socketFolder: string, a: number, b: number): string =>
  `ipc://${socketFolder}/mesh-${Math.min(a, b)}-${Math.max(a, b)}`;
