/**
 * Makes sure that the shards of a model are on disk, by the partitioner as a child process (design D9).
 *
 * In      model folder, shard store, degree, format
 * Out     shard folder and manifest; progress on the way
 * Errors  the ServingError that the partitioner reports, by its code; INTERNAL when it ends without a word
 *
 * The child reuses shards that are there and answers in a fraction of a second then.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { isErrorCode, ServingError } from '../../proto/errors.js';
import { type Manifest, parseManifest } from '../../proto/manifest.js';

/** The end of the child's messages is kept for the error. */
const MAX_STDERR = 4000;

export interface ShardRequest {
  /** Compiled program of the partitioner. */
  program: string;
  modelFolder: string;
  shardStore: string;
  tensorParallelDegree: number;
  dtype: string;
  /** null: the partitioner's own. */
  blockSize: number | null;
  signal?: AbortSignal;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface ModelShards {
  folder: string;
  manifest: Manifest;
  reused: boolean;
}

/** A line of the partitioner's `--json` output. */
type PartitionEvent =
  | { event: 'progress'; doneBytes: number; totalBytes: number }
  | { event: 'done'; shardFolder: string; reused: boolean }
  | { event: 'error'; code: string; message: string }
  | { event: string };

/** @throws ServingError */
export async function ensureShards(request: ShardRequest): Promise<ModelShards> {
  const { blockSize, dtype, modelFolder, onProgress, program, shardStore, tensorParallelDegree } = request;
  const args = [
    program,
    modelFolder,
    '--store',
    shardStore,
    '--tp',
    String(tensorParallelDegree),
    '--dtype',
    dtype,
    ...(blockSize === null ? [] : ['--block-size', String(blockSize)]),
    '--json',
  ];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(request.signal ? { signal: request.signal } : {}),
  });
  let done: { shardFolder: string; reused: boolean } | null = null;
  let failure: ServingError | null = null;
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = parseEvent(line);
    if (event === null) return;
    if ('doneBytes' in event) onProgress?.(event.doneBytes, event.totalBytes);
    else if ('shardFolder' in event) done = event;
    else if ('code' in event) {
      failure = new ServingError(isErrorCode(event.code) ? event.code : 'INTERNAL', event.message);
    }
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    // 'close' comes after the last line of output has been read.
    child.once('close', resolve);
  });
  if (failure) throw failure as ServingError;
  const result = done as { shardFolder: string; reused: boolean } | null;
  if (code !== 0 || result === null) {
    throw new ServingError(
      'INTERNAL',
      `the partitioner ended with code ${code}: ${stderr.trim() || 'no message'}`,
    );
  }
  const file = path.join(result.shardFolder, 'manifest.json');
  return {
    folder: result.shardFolder,
    manifest: parseManifest(await readFile(file, 'utf8'), file),
    reused: result.reused,
  };
}

/** null: a line that is no event. */
function parseEvent(line: string): PartitionEvent | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'event' in value ? (value as PartitionEvent) : null;
  } catch {
    return null;
  }
}
