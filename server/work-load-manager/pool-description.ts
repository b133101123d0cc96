/**
 * A registered model as the management API tells it.
 *
 * In      what of a registered model is told
 * Out     PoolDescription
 */
import type { ServingError } from '../../proto/errors.js';
import type { ModelConfig } from '../config/config.js';
import { parseModelUrl } from '../model-store/model-source.js';
import type { GroupDescription, PoolDescription } from '../requests/management.js';
import type { WorkerGroup } from './worker-group.js';
import type { WorkerPool } from './worker-pool.js';

/** What of a registered model is told. */
export interface DescribedModel
  extends Pick<PoolDescription, 'name' | 'version' | 'state' | 'loadedAtStartup' | 'loading'> {
  readonly config: ModelConfig;
  readonly failure: ServingError | null;
  /** While FAILED, milliseconds until it is tried again; null: not by itself. */
  readonly nextTryMs: number | null;
  readonly pool: WorkerPool | null;
}

export function describeModel(model: DescribedModel): PoolDescription {
  const { config, failure, loading, loadedAtStartup, name, pool, state, version } = model;
  const { tensorParallelDegree } = config;
  const degree = pool?.worldSize ?? (tensorParallelDegree === 'max' ? 1 : tensorParallelDegree);
  return {
    name,
    version,
    url: shownUrl(config.url),
    state,
    healthy: state === 'READY' && (pool?.healthy ?? false),
    loadedAtStartup,
    loading,
    failure: failure && { code: failure.code, message: failure.message },
    nextTryAtMs: model.nextTryMs === null ? null : Date.now() + model.nextTryMs,
    tensorParallelDegree: degree,
    batchSize: config.batchSize,
    maxBatchDelayMs: config.maxBatchDelayMs,
    maxIdleSeconds: config.maxIdleSeconds,
    queueSize: config.jobQueueSize,
    requestsInQueue: pool?.waitingJobs ?? 0,
    minGroups: pool?.groups.minGroups ?? config.minGroups,
    maxGroups: pool?.groups.maxGroups ?? config.maxGroups,
    groups: (pool?.groups.all ?? []).flatMap((group) => describeGroup(group, degree, pool?.device ?? 'cpu')),
    coresOversubscribed: pool?.groups.coresOversubscribed ?? false,
    stepTimeoutSeconds: config.stepTimeoutSeconds,
    loadingTimeoutSeconds: config.modelLoadingTimeoutSeconds,
  };
}

function describeGroup(group: WorkerGroup, worldSize: number, device: string): GroupDescription[] {
  const { id, startedAtMs, state } = group;
  if (state === 'stopped') return [];
  // Those of a group that has died are nobody's.
  const pids = state === 'restarting' ? [] : group.pids;
  const ranks = Array.from({ length: worldSize }, (_, rank) => {
    const slowerThanPeers = group.slowerThanPeers(rank);
    const own = group.devices === null ? device : `gpu${group.devices[rank]}`;
    return {
      rank,
      pid: pids[rank] ?? null,
      device: own,
      ...(slowerThanPeers !== null && { slowerThanPeers }),
    };
  });
  return [{ id, startedAtMs, state, ranks }];
}

/** Who may see that a model is there need not know with what it was fetched. */
const shownUrl = (url: string): string => (/^https?:/i.test(url) ? parseModelUrl(url).display : url);
