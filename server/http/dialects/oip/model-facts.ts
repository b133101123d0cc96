/**
 * What Triton tells of a model besides its metadata: statistics, and its configuration.
 *
 * Out     model_stats; a configuration as config.pbtxt says it, with the fields that mean something here
 * Source  Triton's statistics and model configuration extensions. Not told: cache_hit, cache_miss, batch_stats, which are not counted
 */
import type { ModelStatus } from '../../../requests/service.js';
import type { TensorSpec } from '../../../requests/signature.js';
import { TEXT_SIGNATURE } from '../../../requests/text-inference.js';
import type { HttpContext, ModelCounts } from '../../http-context.js';

const NS_PER_US = 1000;

/** @param model null: every one; @param version null: every version */
export function statisticsOf({ metrics }: HttpContext, model: string | null, version: string | null) {
  const counts = metrics?.statistics?.() ?? [];
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

export function configurationOf(
  { management }: HttpContext,
  { name, signature, task, version }: ModelStatus,
) {
  const pool = management.list().find((one) => one.name === name && one.version === version);
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
