/**
 * The importances of a checkpoint, made by a process of its own where a format asks for them: to run a model is the shard worker's business.
 *
 * In      what is to be partitioned; who is told that it begins, where it was not made before
 * Out     a file (importance.ts), or undefined: the format does not ask, or the weights are noise
 * Limits  decoders whose weights are floats; others are quantised as if all inputs counted alike
 * Errors  the ServingError of calibration/, CANCELLED after a signal
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BOUND, boundEnvironment } from '../../proto/bound-child.js';
import { isErrorCode, ServingError } from '../../proto/errors.js';
import { importanceFile, type PartitionOptions, planPartition } from '../partition.js';
import { usesImportance } from '../quantise/weight-format.js';

const PROGRAM = fileURLToPath(new URL('../../calibration/main.js', import.meta.url));
const MAX_OUTPUT = 100_000;

/** @throws ServingError */
export async function calibrated(
  options: PartitionOptions,
  signal?: AbortSignal,
  onBegin?: () => void,
): Promise<string | undefined> {
  if (options.importance !== undefined || options.randomWeights) return options.importance;
  const { plan } = await planPartition(options);
  const isCoded = plan.items.some((item) => item.kind === 'linear' && item.isCoded);
  if (!usesImportance(plan.format) || isCoded || plan.shape.attention === 'bidirectional') return undefined;
  const made = await importanceFile(options.folder, options.outStore);
  if (existsSync(made)) return made;
  onBegin?.();
  const child = spawn(process.execPath, [...BOUND, PROGRAM, options.folder, options.outStore], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: boundEnvironment(process.env),
    ...(signal === undefined ? {} : { signal, killSignal: 'SIGTERM' }),
  });
  // Without a free descriptor it has no streams; `error` says so.
  await once(child, 'spawn');
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk) => {
    output = (output + chunk).slice(-MAX_OUTPUT);
  });
  child.stderr.on('data', (chunk) => {
    errors = (errors + chunk).slice(-MAX_OUTPUT);
  });
  try {
    const [code] = await once(child, 'close');
    if (code === 0) return output.trim();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
  throw failed(errors);
}

/** What the child said last. */
function failed(errors: string): ServingError {
  const last = errors.trim().split('\n').at(-1) ?? '';
  try {
    const { code, message } = JSON.parse(last) as { code: string; message: string };
    if (isErrorCode(code)) return new ServingError(code, message);
  } catch {
    // Not its own words: it was killed, or it fell.
  }
  return new ServingError('INTERNAL', `the calibration ended without a result: ${last.slice(0, 1000)}`);
}
