/**
 * Makes sure that the shards of a model are on disk, and tells their sizes beforehand, by the partitioner as a child process:
 * it may take minutes and gigabytes, and reads strangers' files.
 *
 * In      model folder, shard store, degree, format
 * Limits  the child's JavaScript heap: MAX_HEAP_MB; weights lie outside it
 * Out     shard folder and manifest, progress on the way; or the plan, which needs config.json alone and writes nothing
 * Errors  CHECKPOINT_INVALID when files other than weights need more than that; the ServingError that the partitioner reports, by its code; INTERNAL when it ends without a word;
 *         WORKER_FAILED when it cannot be started
 *
 * The child reuses shards that are there and answers in a fraction of a second then.
 */
import { spawn } from 'node:child_process';
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
  partition: Omit<PartitionRequest, 'planOnly'>;
  signal?: AbortSignal;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface ModelShards {
  folder: string;
  manifest: Manifest;
  reused: boolean;
}

/** @throws ServingError */
export async function ensureShards(request: ShardRequest): Promise<ModelShards> {
  let done: { shardFolder: string; reused: boolean } | null = null;
  const ended = await runPartitioner(request, false, (event) => {
    if (event.event === 'progress') request.onProgress?.(event.doneBytes, event.totalBytes);
    else if (event.event === 'done') done = event;
  });
  const result = done as { shardFolder: string; reused: boolean } | null;
  if (result === null) throw silent(ended);
  const file = path.join(result.shardFolder, 'manifest.json');
  return {
    folder: result.shardFolder,
    manifest: parseManifest(await readFile(file, 'utf8'), file),
    reused: result.reused,
  };
}

/** @throws ServingError */
export async function planShards(request: ShardRequest): Promise<PartitionPlan> {
  let plan: PartitionPlan | null = null;
  const ended = await runPartitioner(request, true, (event) => {
    if (event.event === 'plan') plan = event;
  });
  if (plan === null) throw silent(ended);
  return plan;
}

interface Ended {
  code: number | null;
  stderr: string;
}

/** @throws ServingError that the child reported, or when it ended with another code than 0 */
async function runPartitioner(
  request: ShardRequest,
  planOnly: boolean,
  onEvent: (event: PartitionEvent) => void,
): Promise<Ended> {
  const { partition, program, signal } = request;
  const asked: PartitionRequest = { ...partition, planOnly };
  const args = [...BOUND, `--max-old-space-size=${MAX_HEAP_MB}`, program, '--request', JSON.stringify(asked)];
  const spawning = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    // It reads strangers' files: no token or key of the server's is in its reach.
    env: bareEnvironment(),
    ...(signal ? { signal } : {}),
  });
  const child = await spawnedChild(spawning, 'The partitioner');
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
      `The files of ${partition.folder} need more than ${MAX_HEAP_MB} MB to be read`,
    );
  }
  if (code !== 0) throw silent({ code, stderr });
  return { code, stderr };
}

const silent = ({ code, stderr }: Ended): ServingError =>
  new ServingError('INTERNAL', `the partitioner ended with code ${code}: ${stderr.trim() || 'no message'}`);
