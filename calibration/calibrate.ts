/**
 * How large each input of each linear is: the model runs over tokens drawn at random, and the mean squares are kept.
 *
 * In      a model folder, a store of shards
 * Out     a file in `<store>/importance/` (partitioner/importance/importance.ts), made once for a checkpoint
 * How     shards of one rank, in float32 below FLOAT_PARAMETERS and in 8 bits for our own kernels above, whose segments tell the sums of squares; they are
 *         removed afterwards. Tokens at random and not a text: neither a tokenizer nor a text of the right language is needed, and the
 *         channels that matter are the model's, not the text's (partitioner/README.md, 2026-11-30)
 * Limits  WINDOWS · WINDOW_TOKENS tokens; causal decoders; the disk and the memory of such shards
 * Errors  ServingError of the partitioner; CHECKPOINT_INVALID: activations that are no numbers
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { writeImportance } from '../partitioner/importance/importance.js';
import { squaresName } from '../partitioner/importance/squares.js';
import { importanceFile, partition, planPartition } from '../partitioner/partition.js';
import { GREEDY_SAMPLING, type SequenceOpen } from '../proto/control.js';
import { ServingError } from '../proto/errors.js';
import { createInMemoryCollectives } from '../shard-worker/collective/in-memory.js';
import { CpuDevice } from '../shard-worker/device/cpu-device.js';
import { Executor } from '../shard-worker/executor.js';
import { KvCache, kvCacheShape } from '../shard-worker/kv-cache.js';
import { readManifest } from '../shard-worker/read-manifest.js';
import { Sequence } from '../shard-worker/sequence.js';

const WINDOWS = 8;
const WINDOW_TOKENS = 128;
const SEED = 0x5eed;
/** A share of the average: an input that no token at random woke may be needed all the same. */
const LEAST_SHARE = 1e-3;
/** 4 GB of floats. */
const FLOAT_PARAMETERS = 1e9;

/**
 * @param floatParameters a model of fewer is run in float32
 * @returns path of the file
 */
export async function calibrate(
  folder: string,
  store: string,
  signal?: AbortSignal,
  floatParameters = FLOAT_PARAMETERS,
): Promise<string> {
  const file = await importanceFile(folder, store);
  if (existsSync(file)) return file;
  const importances = path.dirname(file);
  mkdirSync(importances, { recursive: true });
  const { plan } = await planPartition({ folder, tp: 1, dtype: 'fp32' });
  const { manifest, shardFolder } = await partition({
    ...{ folder, outStore: path.join(importances, 'shards'), tp: 1, tellsSquares: true },
    ...{ blockSize: 32, reproducibleDegree: 1 },
    // Floats of many rows are faster by ONNX Runtime, 8 bits by our own kernels, whose shards are also written ten times faster.
    ...(plan.parameters < floatParameters
      ? { dtype: 'fp32', layout: 'blocks' }
      : { dtype: 'int8', scales: 'nearest' }),
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    writeImportance(file, await meanSquares(shardFolder, manifest.model));
  } finally {
    rmSync(shardFolder, { recursive: true, force: true });
  }
  return file;
}

async function meanSquares(
  shardFolder: string,
  { contextLength, vocabSize }: { contextLength: number; vocabSize: number },
): Promise<Map<string, Float32Array>> {
  const manifest = await readManifest(shardFolder);
  const device = new CpuDevice({ threads: 2, logId: 'calibration' });
  const tokens = Math.min(WINDOW_TOKENS, contextLength - 1);
  const kvCache = new KvCache({ device, ...kvCacheShape(manifest), maxSlots: 1, slotTokens: contextLength });
  const [collective] = createInMemoryCollectives(1);
  const executor = new Executor({
    ...{ manifest, shardFolder, rank: 0, device, collective: collective!, kvCache },
    ...{ maxStepTokens: tokens, maxRows: tokens },
  });
  await executor.load();
  const names = manifest.buffers.flatMap(({ name }) => (name.endsWith(squaresName('')) ? [name] : []));
  const sums = new Map(names.map((name) => [name, new Float64Array(executor.row(name).length)]));
  const next = randomNumbers(SEED);
  for (let window = 0; window < WINDOWS; window++) {
    const promptIds = Array.from({ length: tokens }, () => Math.floor(next() * vocabSize));
    kvCache.open(0);
    const open: SequenceOpen = {
      ...{ slot: 0, sequence: window + 1, promptIds, maxNewTokens: 1, endIds: [] },
      sampling: GREEDY_SAMPLING,
    };
    const sequence = new Sequence(open);
    // A row of logits each, so that the head has inputs too.
    const spans = promptIds.map((_, index) => ({
      ...{ sequence, offset: index, count: 1, position: index, outputRows: 1 },
    }));
    executor.begin(window + 1, spans);
    await executor.run();
    for (const [name, sum] of sums) {
      executor.row(name).forEach((value, index) => {
        sum[index]! += value;
      });
    }
    kvCache.close(0);
  }
  const count = WINDOWS * tokens;
  const means = new Map<string, Float32Array>();
  for (const [name, sum] of sums) {
    const average = sum.reduce((all, value) => all + value, 0) / sum.length;
    const mean = Float32Array.from(sum, (value) => (value + LEAST_SHARE * average) / count);
    if (!mean.every(Number.isFinite)) {
      throw new ServingError('CHECKPOINT_INVALID', `Calibration: ${name} has inputs that are no numbers`);
    }
    means.set(name.slice(0, -squaresName('').length), mean);
  }
  return means;
}

/** Mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
