/**
 * What the Open Inference Protocol and Triton tell of a model, over HTTP and gRPC: metadata, statistics, its configuration.
 *
 * In      what is counted of each model; its status; descriptions of pools
 * Out     metadata; model_stats; a configuration as config.pbtxt says it, with the fields that mean something here
 * Source  Triton's statistics and model configuration extensions. Not told: cache_hit, cache_miss, batch_stats, which are not counted
 */
import type { PoolDescription } from './management.js';
import type { ModelStatus } from './service.js';
import type { Signature, TensorSpec } from './signature.js';
import { HANDLER_SIGNATURE } from './tensor-inference.js';
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

/**
 * The version that is meant: where there are several and none is named the default one, or the first that requests without one go to; else
 * the first.
 *
 * @param models all there are
 * @param pools asked where versions compete
 * @returns null: there is none such
 */
export function meantVersion(
  models: readonly ModelStatus[],
  pools: () => readonly PoolDescription[],
  name: string,
  version: string | null,
): ModelStatus | null {
  const ofName = models.filter((one) => one.name === name);
  const own = version === null && ofName.length > 1 ? pools().filter((pool) => pool.name === name) : [];
  const usual = own.find(({ isDefault }) => isDefault) ?? own.find(({ weight }) => weight !== 0);
  const meant = version ?? usual?.version ?? null;
  return ofName.find((one) => meant === null || one.version === meant) ?? null;
}

/** What tensors it takes and gives, whatever it is. */
function signatureOf({ signature, task }: ModelStatus): Signature {
  return signature ?? (task === 'handler' ? HANDLER_SIGNATURE : TEXT_SIGNATURE);
}

export function metadataOf(models: readonly ModelStatus[], status: ModelStatus) {
  const { inputs, outputs } = signatureOf(status);
  const told = (specs: readonly TensorSpec[]) =>
    specs.map(({ name, shape, type }) => ({ name, datatype: type, shape: shape ?? [-1] }));
  const versions = models.flatMap(({ name, version }) =>
    name === status.name && version !== null ? [version] : [],
  );
  const platform = status.signature === null ? 'shardserve' : 'onnxruntime_onnx';
  return { name: status.name, versions, platform, inputs: told(inputs), outputs: told(outputs) };
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
export function configurationOf(pools: readonly PoolDescription[], status: ModelStatus) {
  const { name, signature, task, version } = status;
  const pool = pools.find((one) => one.name === name && one.version === version);
  const { inputs, outputs } = signatureOf(status);
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
