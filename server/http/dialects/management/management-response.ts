/**
 * What DJLServing's management API answers: its shapes, with our extensions beside them.
 *
 * In      descriptions of pools
 * Out     describe: an array with an entry a version; pages of /models and /workflows. Fields without a value are left out, as
 *         Gson does
 * Source  DJLServing 0.36: DescribeWorkflowResponse, ListModelsResponse. Ours: a worker is one of our groups (`state`, `ranks`), `loading`, `failure`, `nextTry`,
 *         `tensorParallelDegree`, `coresOversubscribed`, `weight` of a version. One workerGroups entry is a kind of device
 */
import type {
  GroupDescription,
  LoadingProgress,
  PoolDescription,
  ScaledPool,
} from '../../../requests/management.js';
import type { WorkflowDescription } from '../../../requests/workflows.js';

export function describeBody(pools: readonly PoolDescription[]) {
  return pools.map((pool) => ({
    workflowName: pool.name,
    ...versionOf(pool),
    models: [
      {
        modelName: pool.name,
        ...versionOf(pool),
        modelUrl: pool.url,
        batchSize: pool.batchSize,
        maxBatchDelayMillis: pool.maxBatchDelayMs,
        maxIdleSeconds: pool.maxIdleSeconds,
        queueSize: pool.queueSize,
        requestInQueue: pool.requestsInQueue,
        status: healthOf(pool),
        loadedAtStartup: pool.loadedAtStartup,
        ...(pool.version !== null && pool.weight !== undefined && { weight: pool.weight }),
        tensorParallelDegree: pool.tensorParallelDegree,
        ...(pool.loading !== null && { loading: loadingBody(pool.loading) }),
        ...(pool.failure !== null && { failure: pool.failure }),
        ...(pool.nextTryAtMs !== null && { nextTry: new Date(pool.nextTryAtMs).toISOString() }),
        ...(pool.coresOversubscribed && { coresOversubscribed: true }),
        workerGroups: workerGroups(pool),
      },
    ],
  }));
}

export function modelsBody(items: readonly PoolDescription[], next: number, total: number) {
  return {
    ...(next < total && { nextPageToken: String(next) }),
    models: items.map((pool) => ({
      modelName: pool.name,
      ...versionOf(pool),
      modelUrl: pool.url,
      status: pool.state,
    })),
  };
}

/** DJLServing always gives the token here. */
export function workflowsBody(
  items: readonly { name: string; version: string | null }[],
  next: number,
  total: number,
) {
  return {
    nextPageToken: String(Math.min(next, total)),
    workflows: items.map((pool) => ({ workflowName: pool.name, ...versionOf(pool) })),
  };
}

/** DJLServing's shape, with what each node is beside its models. */
export function workflowBody(
  { name, nodes, url, version }: WorkflowDescription,
  pools: readonly PoolDescription[],
) {
  const names = [...new Set(nodes.map(({ model }) => model))];
  return [
    {
      workflowName: name,
      ...versionOf({ version }),
      workflowUrl: url,
      models: names.flatMap(
        (model) => describeBody(pools.filter((pool) => pool.name === model))[0]?.models ?? [],
      ),
      nodes: nodes.map(({ timeoutMs, ...node }) => ({ ...node, timeoutMillis: timeoutMs })),
    },
  ];
}

export function scaledStatus(pools: readonly ScaledPool[]): string {
  return pools
    .map(
      ({ name, minGroups, maxGroups }) =>
        `Workflow "${name}" worker scaled. New Worker configuration min workers:${minGroups} max workers:${maxGroups}`,
    )
    .join('\n');
}

function healthOf({ state, healthy }: PoolDescription): string {
  if (state !== 'READY') return state;
  return healthy ? 'Healthy' : 'Unhealthy';
}

function versionOf({ version }: { version: string | null }) {
  return version === null ? {} : { version };
}

function loadingBody({ stage, doneBytes, totalBytes }: LoadingProgress) {
  if (totalBytes === null) return { stage, doneBytes };
  const percent = totalBytes === 0 ? 100 : Math.floor((Math.min(doneBytes, totalBytes) / totalBytes) * 100);
  return { stage, percent, doneBytes, totalBytes };
}

function workerGroups({ groups, minGroups, maxGroups }: PoolDescription) {
  // A pool without groups is told with the device that every host has.
  const kinds = new Map<string, GroupDescription[]>(groups.length === 0 ? [['cpu', []]] : []);
  for (const group of groups) {
    const kind = deviceOf(group).deviceType;
    kinds.set(kind, [...(kinds.get(kind) ?? []), group]);
  }
  return [...kinds].map(([kind, members]) => ({
    device: members[0] ? deviceOf(members[0]) : { deviceType: kind, deviceId: -1 },
    minWorkers: minGroups,
    maxWorkers: maxGroups,
    workers: members.map(workerBody),
  }));
}

function workerBody({ id, startedAtMs, state, ranks }: GroupDescription) {
  return {
    id,
    startTime: new Date(startedAtMs).toISOString(),
    // DJLServing knows these two.
    status: state === 'running' ? 'READY' : 'UNLOADING',
    state,
    ranks: ranks.map(({ rank, pid, device, slowerThanPeers }) => ({
      rank,
      ...(pid !== null && { pid }),
      device,
      ...(slowerThanPeers !== undefined && { slowerThanPeers: Number(slowerThanPeers.toFixed(1)) }),
    })),
  };
}

/** Its first rank's: `gpu3` → gpu, 3; `cpu` → cpu, −1. */
function deviceOf({ ranks }: GroupDescription): { deviceType: string; deviceId: number } {
  const [, deviceType = 'cpu', id] = /^([a-z]+)(\d+)?$/.exec(ranks[0]?.device ?? 'cpu') ?? [];
  return { deviceType, deviceId: id === undefined ? -1 : Number(id) };
}
