/**
 * A model as TorchServe describes it.
 *
 * In      a pool, and what its registration said
 * Out     the object of TorchServe's array; fields without a value are left out, as Gson does
 * Source  TorchServe's DescribeModelResponse. Not told: parallelType and deviceIds, which mean nothing here; `tensorParallelDegree` is ours
 */
import type { GroupDescription, PoolDescription } from '../../../requests/management.js';
import type { ModelRecord, TorchServeParts } from './torchserve-parts.js';

/** TorchServe's defaults, where nothing here has them. */
const MAX_RETRY_SECONDS = 300;

export function describedModel(pool: PoolDescription, record: ModelRecord, parts: TorchServeParts): object {
  const { batchSize, groups, maxBatchDelayMs, maxGroups, minGroups, name, queueSize, requestsInQueue } = pool;
  return {
    modelName: name,
    modelVersion: pool.version ?? '',
    modelUrl: record.url,
    runtime: record.runtime,
    minWorkers: minGroups,
    maxWorkers: maxGroups,
    batchSize,
    maxBatchDelay: maxBatchDelayMs,
    responseTimeout: pool.stepTimeoutSeconds ?? 0,
    startupTimeout: pool.loadingTimeoutSeconds ?? 0,
    maxRetryTimeoutInSec: MAX_RETRY_SECONDS,
    clientTimeoutInMills: 0,
    parallelType: '',
    parallelLevel: pool.tensorParallelDegree > 1 ? pool.tensorParallelDegree : 0,
    deviceType: groups[0]?.ranks[0]?.device.startsWith('gpu') === true ? 'gpu' : 'cpu',
    continuousBatching: false,
    useJobTicket: false,
    useVenv: false,
    stateful: false,
    sequenceMaxIdleMSec: 0,
    sequenceTimeoutMSec: 0,
    maxNumSequence: 0,
    maxSequenceJobQueueSize: 0,
    loadedAtStartup: pool.loadedAtStartup,
    tensorParallelDegree: pool.tensorParallelDegree,
    workers: groups.map((group) => describedWorker(group, parts)),
    jobQueueStatus: {
      remainingCapacity: Math.max(0, queueSize - requestsInQueue),
      pendingRequests: requestsInQueue,
    },
  };
}

/** What is kept of a model in a snapshot. */
export function snapshotOf(pool: PoolDescription, record: ModelRecord): object {
  return {
    defaultVersion: pool.isDefault === true,
    marName: record.url,
    minWorkers: pool.minGroups,
    maxWorkers: pool.maxGroups,
    batchSize: pool.batchSize,
    maxBatchDelay: pool.maxBatchDelayMs,
    responseTimeout: pool.stepTimeoutSeconds,
    startupTimeout: pool.loadingTimeoutSeconds,
    runtimeType: record.runtime,
    parallelLevel: pool.tensorParallelDegree,
  };
}

function describedWorker(
  { id, ranks, startedAtMs, state }: GroupDescription,
  { config, residentBytes }: TorchServeParts,
): object {
  const pids = ranks.flatMap(({ pid }) => (pid === null ? [] : [pid]));
  return {
    id: String(config.firstWorkerPort + id - 1),
    startTime: new Date(startedAtMs).toISOString(),
    status: state === 'running' ? 'READY' : 'UNLOADING',
    memoryUsage: pids.reduce((sum, pid) => sum + (residentBytes(pid) ?? 0), 0),
    // The first rank's; the others are beside it.
    pid: pids[0] ?? -1,
    gpu: ranks[0]?.device.startsWith('gpu') === true,
    gpuUsage: 'N/A',
    ...(pids.length > 1 && { pids }),
  };
}
