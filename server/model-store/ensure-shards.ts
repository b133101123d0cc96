/**
 * Makes sure that the shards of a model are on disk, and tells their sizes beforehand, by the partitioner as a child process:
 * it may take minutes and gigabytes, and reads strangers' files.
 *
 * In      model folder, shard store, degree, format
 * Limits  the child's JavaScript heap: MAX_HEAP_MB; weights lie outside it
 * Out     shard folder and manifest, progress on the way; the plan before, which needs config.json alone and writes nothing
 * Errors  CHECKPOINT_INVALID when files other than weights need more than that; the ServingError that the partitioner reports, by its code; INTERNAL when it ends without a word;
 *         WORKER_FAILED when it cannot be started
 *
 * The child reuses shards that are there and answers in a fraction of a second then.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { BOUND } from '../../proto/bound-child.js';
import { isErrorCode, ServingError } from '../../proto/errors.js';
import { type Manifest, parseManifest } from '../../proto/manifest.js';
import {
  type PartitionEvent,
  type PartitionPlan,
  type PartitionRequest,
  readPartitionEvent,
} from '../../proto/partition.js';
import { bareEnvironment } from './bare-environment.js';
import { spawnedChild } from './spawned-child.js';

/** The end of the child's messages is kept for the error. */
const MAX_STDERR = 4000;
const MAX_HEAP_MB = 2048;

export interface ShardRequest {
  /** Compiled program of the partitioner. */
  program: string;
  partition: Omit<PartitionRequest, 'planOnly' | 'waits'>;
  signal?: AbortSignal;
  /** A calibration begins, which has no progress. */
  onCalibration?: () => void;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface ModelShards {
  folder: string;
  manifest: Manifest;
  /** What was checked has this text. */
  manifestSha256: string;
  reused: boolean;
}

/** A plan, and the partitioner that has made it: it waits for one of these. */
export interface PlannedShards {
  plan: PartitionPlan;
  /** @throws ServingError */
  write(): Promise<ModelShards>;
  /** Nothing has been written. */
  abandon(): void;
}

/** @throws ServingError */
export async function ensureShards(request: ShardRequest): Promise<ModelShards> {
  return (await planThenShards(request)).write();
}

/** The plan first, then the same by the same process, whose start takes longer than the plan does. @throws ServingError */
export async function planThenShards(request: ShardRequest): Promise<PlannedShards> {
  const results = new Results(request);
  let hasPlan = (): void => {};
  const planned = new Promise<void>((resolve) => {
    hasPlan = resolve;
  });
  const { child, ended } = await startPartitioner(request, (event) => {
    results.take(event);
    if (event.event === 'plan') hasPlan();
  });
  await Promise.race([planned, ended]);
  const { plan } = results;
  if (plan === null) throw silent(await ended);
  // Whoever asks for shards hears of it.
  ended.catch(() => {});
  return {
    plan,
    write: async () => {
      child.stdin.end('go on\n');
      return results.shards(await ended);
    },
    abandon: () => void child.kill('SIGKILL'),
  };
}

/** What the child's events add up to. */
class Results {
  plan: PartitionPlan | null = null;
  readonly #request: ShardRequest;
  #done: { shardFolder: string; reused: boolean } | null = null;

  constructor(request: ShardRequest) {
    this.#request = request;
  }

  take(event: PartitionEvent): void {
    if (event.event === 'plan') this.plan = event;
    else if (event.event === 'calibration') this.#request.onCalibration?.();
    else if (event.event === 'progress') this.#request.onProgress?.(event.doneBytes, event.totalBytes);
    else if (event.event === 'done') this.#done = event;
  }

  /** @throws ServingError */
  async shards(ended: Ended): Promise<ModelShards> {
    if (this.#done === null) throw silent(ended);
    const { reused, shardFolder } = this.#done;
    const file = path.join(shardFolder, 'manifest.json');
    const text = await readFile(file, 'utf8');
    const manifestSha256 = createHash('sha256').update(text).digest('hex');
    return { folder: shardFolder, manifest: parseManifest(text, file), manifestSha256, reused };
  }
}

interface Ended {
  code: number | null;
  stderr: string;
}

interface Started {
  child: ChildProcessWithoutNullStreams;
  /** Rejects with the ServingError that the child reported, or when it ended with another code than 0. */
  ended: Promise<Ended>;
}

/** @throws ServingError */
async function startPartitioner(
  request: ShardRequest,
  onEvent: (event: PartitionEvent) => void,
): Promise<Started> {
  const { partition, program, signal } = request;
  const asked: PartitionRequest = { ...partition, waits: true };
  const args = [...BOUND, `--max-old-space-size=${MAX_HEAP_MB}`, program, '--request', JSON.stringify(asked)];
  const spawning = spawn(process.execPath, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    // It reads strangers' files: no token or key of the server's is in its reach.
    env: bareEnvironment(),
    ...(signal ? { signal } : {}),
  });
  const child = await spawnedChild(spawning, 'The partitioner');
  // One that has ended does not listen any more; how it ended is told below.
  child.stdin.on('error', () => {});
  return { child, ended: endOf(child, partition.folder, onEvent) };
}

async function endOf(
  child: ChildProcessWithoutNullStreams,
  folder: string,
  onEvent: (event: PartitionEvent) => void,
): Promise<Ended> {
  let failure: ServingError | null = null;
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = readPartitionEvent(line);
    if (event?.event === 'error') {
      failure = new ServingError(isErrorCode(event.code) ? event.code : 'INTERNAL', event.message);
    } else if (event !== null) onEvent(event);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    // 'close' comes after the last line of output has been read.
    child.once('close', resolve);
  });
  if (failure) throw failure as ServingError;
  if (stderr.includes('heap out of memory')) {
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `The files of ${folder} need more than ${MAX_HEAP_MB} MB to be read`,
    );
  }
  if (code !== 0) throw silent({ code, stderr });
  return { code, stderr };
}

const silent = ({ code, stderr }: Ended): ServingError =>
  new ServingError('INTERNAL', `the partitioner ended with code ${code}: ${stderr.trim() || 'no message'}`);
