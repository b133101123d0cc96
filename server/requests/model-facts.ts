/**
 * What Triton tells of a model besides its metadata, over HTTP and gRPC: statistics, and its configuration.
 *
 * In      what is counted of each model; descriptions of pools
 * Out     model_stats; a configuration as config.pbtxt says it, with the fields that mean something here
 * Source  Triton's statistics and model configuration extensions. Not told: cache_hit, cache_miss, batch_stats, which are not counted
 */
import type { PoolDescription } from './management.js';
import type { ModelStatus } from './service.js';
import type { TensorSpec } from './signature.js';
import { TEXT_SIGNATURE } from './text-inference.js';

const NS_PER_US = 1000;

/** Numbers of one model. */
export interface ModelCounts {
  name: string;
  /** '': it has none. */
  version: string;
  /** When its last job ended; 0: none has. */
  lastEndedAtMs: number;
  succeeded: number;
  failed: number;
  /** Steps, or batches. */
  executions: number;
  /** From arrival to end, of all jobs. */
  requestUs: number;
  queuedJobs: number;
  queueUs: number;
  computeUs: number;
}

/** @param model null: every one; @param version null: every version */
export function statisticsOf(counts: readonly ModelCounts[], model: string | null, version: string | null) {
  return {
    model_stats: counts
      .filter(
        (one) => (model === null || one.name === model) && (version === null || one.version === version),
      )
      .map(statistics),
  };
}

function statistics(counts: ModelCounts) {
  const { computeUs, executions, failed, queueUs, queuedJobs, requestUs, succeeded } = counts;
  const all = succeeded + failed;
  const ns = (us: number): number => Math.round(us * NS_PER_US);
  const none = { count: 0, ns: 0 };
  // Jobs are timed together, however they ended.
  const share = (count: number): number => (all === 0 ? 0 : ns((requestUs * count) / all));
  return {
    name: counts.name,
    version: counts.version,
    last_inference: counts.lastEndedAtMs,
    inference_count: succeeded,
    execution_count: executions,
    inference_stats: {
      success: { count: succeeded, ns: share(succeeded) },
      fail: { count: failed, ns: share(failed) },
      queue: { count: queuedJobs, ns: ns(queueUs) },
      compute_input: none,
      compute_infer: { count: executions, ns: ns(computeUs) },
      compute_output: none,
    },
    batch_stats: [],
  };
}

/** @param pools of all models */
export function configurationOf(
  pools: readonly PoolDescription[],
  { name, signature, task, version }: ModelStatus,
) {
  const pool = pools.find((one) => one.name === name && one.version === version);
  const { inputs, outputs } = signature ?? TEXT_SIGNATURE;
  const batch = pool?.batchSize ?? 1;
  const told = (specs: readonly TensorSpec[]) =>
    specs.map(({ name: tensor, shape, type }) => ({
      name: tensor,
      data_type: `TYPE_${type === 'BYTES' ? 'STRING' : type}`,
      dims: shape ?? [-1],
    }));
  return {
    name,
    platform: signature === null ? '' : 'onnxruntime_onnx',
    backend: signature === null ? 'shardserve' : 'onnxruntime',
    max_batch_size: 0,
    input: told(inputs),
    output: told(outputs),
    instance_group: [{ name, kind: 'KIND_CPU', count: pool?.maxGroups ?? 1 }],
    ...(batch > 1 && {
      dynamic_batching: {
        preferred_batch_size: [batch],
        max_queue_delay_microseconds: (pool?.maxBatchDelayMs ?? 0) * 1000,
      },
    }),
    model_transaction_policy: { decoupled: task === 'text-generation' },
  };
}
