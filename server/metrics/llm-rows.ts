/**
 * This server's own metrics: what people graph of a server of language models.
 *
 * Units stand in the names. Labels: `model` and `version` of registered models, and closed sets; never text of a request.
 */
import type { HistogramCells } from './histogram-cells.js';
import type { HistogramRow, MetricRow, MetricSample, NumberRow } from './metric-rows.js';
import type { GroupReading, ModelMetrics, PoolReading, RankReading, Transport } from './model-metrics.js';
import type { ModelSnapshot, Snapshot } from './snapshot.js';

const PREFIX = 'shardserve_';
const MODEL_LABELS = ['model', 'version'] as const;
const GROUP_STATES = ['starting', 'running', 'restarting', 'failed', 'stopping', 'stopped'] as const;
const MICROSECONDS = 1e6;

const modelLabels = ({ metrics }: ModelSnapshot) => ({ model: metrics.name, version: metrics.version });

/** A histogram a model. */
function histogram(name: string, help: string, cells: (metrics: ModelMetrics) => HistogramCells) {
  const row: HistogramRow<Snapshot> = {
    kind: 'histogram',
    name: PREFIX + name,
    help,
    labels: MODEL_LABELS,
    read: ({ models }) =>
      models.map((model) => ({ labels: modelLabels(model), value: cells(model.metrics) })),
  };
  return row;
}

/** A number a model. */
function number(
  kind: 'counter' | 'gauge',
  name: string,
  help: string,
  value: (metrics: ModelMetrics, pool: PoolReading) => number,
) {
  return perModel(kind, name, help, [], ({ metrics, pool }) => [{ labels: {}, value: value(metrics, pool) }]);
}

/** Several numbers a model, told apart by `more` labels. */
function perModel(
  kind: 'counter' | 'gauge',
  name: string,
  help: string,
  more: readonly string[],
  read: (model: ModelSnapshot) => Iterable<MetricSample<number>>,
) {
  const row: NumberRow<Snapshot> = {
    kind,
    name: PREFIX + name,
    help,
    labels: [...MODEL_LABELS, ...more],
    read: ({ models }) =>
      models.flatMap((model) =>
        [...read(model)].map(({ labels, value }) => ({
          labels: { ...modelLabels(model), ...labels },
          value,
        })),
      ),
  };
  return row;
}

/** A number a rank of each running group. */
function perRank(
  kind: 'counter' | 'gauge',
  name: string,
  help: string,
  value: (rank: RankReading) => number,
) {
  return perModel(kind, name, help, ['group', 'rank'], ({ groups }) =>
    groups.flatMap(({ group, ranks }) =>
      ranks.map((inspection, rank) => ({ labels: { group, rank }, value: value(inspection) })),
    ),
  );
}

/** SageMaker's parts of what came by one transport. */
function answers(transport: Transport, what: string, end: string) {
  const row = (part: keyof ModelMetrics['answerSeconds']['http'], name: string, help: string) =>
    histogram(`${transport}_${name}_seconds`, help, (metrics) => metrics.answerSeconds[transport][part]);
  return [
    row(
      'total',
      'request',
      `From the head of ${what} that asks a model until ${end} (SageMaker's end to end)`,
    ),
    row(
      'container',
      'container',
      "Of it, from when its body was there (SageMaker's ModelLatency, without the network)",
    ),
    row('model', 'model', 'Of that, from the first slot that a job of it got until the last of them ended'),
    row('overhead', 'overhead', 'The rest of that: checking, tokenising, waiting for a slot, wording'),
  ];
}

/** Sum over the groups of a pool. */
const total = (pool: PoolReading, value: (group: GroupReading) => number): number =>
  pool.groups.reduce((sum, group) => sum + value(group), 0);

export const LLM_ROWS: readonly MetricRow<Snapshot>[] = [
  histogram(
    'time_to_first_token_seconds',
    'From the arrival of a request to its first token, tokenising and waiting included',
    (metrics) => metrics.firstTokenSeconds,
  ),
  histogram(
    'inter_token_latency_seconds',
    'Between two tokens of one request',
    (metrics) => metrics.tokenGapSeconds,
  ),
  histogram('queue_time_seconds', 'From being queued to having a slot', (metrics) => metrics.queueSeconds),
  histogram(
    'request_duration_seconds',
    'From the arrival of a request to its end, however it ended; refused requests are not in it',
    (metrics) => metrics.requestSeconds,
  ),
  ...answers('http', 'an HTTP request', 'its response has left'),
  ...answers('grpc', 'a gRPC request', 'its answer was handed over'),
  histogram('batch_size', 'Sequences that ran in a step', (metrics) => metrics.batchRows),
  {
    kind: 'histogram',
    name: `${PREFIX}step_duration_seconds`,
    help: 'Parts of a step on rank 0: computing, waiting for and adding partial sums, choosing tokens',
    labels: [...MODEL_LABELS, 'part'],
    read: ({ models }) =>
      models.flatMap((model) =>
        (['compute', 'collective', 'choose'] as const).map((part) => ({
          labels: { ...modelLabels(model), part },
          value: model.metrics.stepSeconds[part],
        })),
      ),
  },
  number(
    'counter',
    'prompt_tokens_total',
    'Prompt tokens of requests that got a slot',
    (m) => m.promptTokens,
  ),
  number('counter', 'generated_tokens_total', 'Tokens made and counted', (m) => m.generatedTokens),
  number(
    'counter',
    'prefix_cache_queried_tokens_total',
    'Prompt tokens that were looked up in the prefix cache',
    (m) => m.prefixQueriedTokens,
  ),
  number(
    'counter',
    'prefix_cache_hit_tokens_total',
    'Prompt tokens that were found there and not computed again',
    (m) => m.prefixHitTokens,
  ),
  perModel(
    'counter',
    'requests_total',
    'Requests by how they ended: a finish reason or an error code of the closed table',
    ['outcome', 'reason'],
    ({ metrics }) =>
      [...metrics.ends].map(({ count, outcome, reason }) => ({ labels: { outcome, reason }, value: count })),
  ),
  number('gauge', 'jobs_waiting', 'Jobs in the queue', (_, pool) => pool.jobsWaiting),
  number('gauge', 'sequences_running', 'Sequences that hold a slot', (_, pool) =>
    total(pool, (group) => group.sequencesRunning),
  ),
  number('gauge', 'slots', 'Slots of all running groups, taken or not', (_, pool) =>
    total(pool, (group) => group.slots),
  ),
  number('gauge', 'kv_tokens_used', 'KV cache reserved by running sequences, in tokens', (_, pool) =>
    total(pool, (group) => group.kvTokensUsed),
  ),
  number('gauge', 'kv_tokens_capacity', 'KV cache of all running groups, in tokens', (_, pool) =>
    total(pool, (group) => group.kvTokensCapacity),
  ),
  number('gauge', 'prefix_cache_kv_tokens', 'KV cache kept of sequences that ended, in tokens', (_, pool) =>
    total(pool, (group) => group.kvTokensWarm ?? 0),
  ),
  number('gauge', 'swapped_kv_tokens', 'KV cache kept of preempted sequences, in tokens', (_, pool) =>
    total(pool, (group) => group.kvTokensSwapped ?? 0),
  ),
  number('gauge', 'model_ready', '1 while the model takes requests', (_, pool) => (pool.ready ? 1 : 0)),
  perModel('gauge', 'worker_groups', 'Worker groups by state', ['state'], ({ pool }) =>
    GROUP_STATES.map((state) => ({
      labels: { state },
      value: pool.groups.filter((group) => group.state === state).length,
    })),
  ),
  number('counter', 'worker_restarts_total', 'Starts of a group that followed its death', (m) => m.restarts),
  number(
    'counter',
    'requests_resumed_total',
    'Requests that went on after their group had died',
    (m) => m.resumed,
  ),
  number('gauge', 'model_load_seconds', 'Time it took to load; 0 before', (m) => m.loadUs / MICROSECONDS),
  perModel(
    'counter',
    'rank_step_seconds_total',
    'Time each rank spent in steps, by part; since the start of its group',
    ['group', 'rank', 'part'],
    ({ groups }) =>
      groups.flatMap(({ group, ranks }) =>
        ranks.flatMap(({ chooseUs, collectiveUs, computeUs }, rank) => [
          { labels: { group, rank, part: 'compute' }, value: computeUs / MICROSECONDS },
          { labels: { group, rank, part: 'collective' }, value: collectiveUs / MICROSECONDS },
          { labels: { group, rank, part: 'choose' }, value: chooseUs / MICROSECONDS },
        ]),
      ),
  ),
  perRank('counter', 'rank_steps_total', 'Steps a rank ran', (rank) => rank.steps),
  perRank('counter', 'rank_all_reduces_total', 'All-reduces a rank took part in', (rank) => rank.allReduces),
  perRank(
    'counter',
    'rank_collective_sent_bytes_total',
    'Bytes a rank published to the others',
    (rank) => rank.collectiveBytesSent,
  ),
  perRank(
    'gauge',
    'rank_slowness',
    'How many times as long as its peers a rank was busy lately: from 3 on it holds them up',
    (rank) => rank.slowness ?? 1,
  ),
  perRank('gauge', 'rank_weights_bytes', 'Weights a rank holds', (rank) => rank.weightBytes),
  perRank(
    'gauge',
    'rank_kv_touched_bytes',
    'KV cache a rank has touched: what it really takes of memory',
    (rank) => rank.kvTouchedBytes,
  ),
  {
    kind: 'counter',
    name: `${PREFIX}http_responses_total`,
    help: 'Responses by class of status',
    labels: ['status'],
    read: ({ server }) =>
      [...server.responses].map(([digit, value]) => ({ labels: { status: `${digit}xx` }, value })),
  },
  {
    kind: 'counter',
    name: `${PREFIX}log_lines_dropped_total`,
    help: 'Lines of the log and its files that a full, slow or broken disk or reader left unwritten',
    labels: ['output'],
    read: ({ server }) =>
      [...server.droppedLogLines].map(([output, value]) => ({ labels: { output }, value })),
  },
];
