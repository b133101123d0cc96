/**
 * vLLM's names of what this server measures, for what scrapes them: the Gateway API's inference extension, KEDA, dashboards.
 *
 * Out     rows with vLLM's label `model_name`; versions of a model are told apart by `version`
 * Source  vLLM's production metrics
 */
import type { HistogramCells } from './histogram-cells.js';
import type { HistogramRow, MetricRow, NumberRow } from './metric-rows.js';
import type { ModelMetrics, PoolReading } from './model-metrics.js';
import type { ModelSnapshot, Snapshot } from './snapshot.js';

const LABELS = ['model_name', 'version'] as const;

const labelsOf = ({ metrics }: ModelSnapshot) => ({ model_name: metrics.name, version: metrics.version });

function number(
  kind: 'counter' | 'gauge',
  name: string,
  help: string,
  value: (pool: PoolReading, metrics: ModelMetrics) => number,
): NumberRow<Snapshot> {
  return {
    ...{ kind, name: `vllm:${name}`, help, labels: LABELS },
    read: ({ models }) =>
      models.map((model) => ({ labels: labelsOf(model), value: value(model.pool, model.metrics) })),
  };
}

function histogram(
  name: string,
  help: string,
  cells: (metrics: ModelMetrics) => HistogramCells,
): HistogramRow<Snapshot> {
  return {
    ...{ kind: 'histogram', name: `vllm:${name}`, help, labels: LABELS },
    read: ({ models }) => models.map((model) => ({ labels: labelsOf(model), value: cells(model.metrics) })),
  };
}

const total = (pool: PoolReading, value: (group: PoolReading['groups'][number]) => number): number =>
  pool.groups.reduce((sum, group) => sum + value(group), 0);

/** The share of KV memory that is used, 0 … 1. */
function kvUsage(pool: PoolReading): number {
  const capacity = total(pool, (group) => group.kvTokensCapacity);
  return capacity === 0 ? 0 : total(pool, (group) => group.kvTokensUsed) / capacity;
}

/** How a request ended, in vLLM's words. */
const FINISHED: Readonly<Record<string, string>> = { end_id: 'stop', stop_string: 'stop', length: 'length' };

export const VLLM_ROWS: readonly MetricRow<Snapshot>[] = [
  number('gauge', 'num_requests_running', 'Requests that hold a slot', (pool) =>
    total(pool, (group) => group.sequencesRunning),
  ),
  number('gauge', 'num_requests_waiting', 'Requests in the queue', (pool) => pool.jobsWaiting),
  number('gauge', 'kv_cache_usage_perc', 'KV cache that running requests have reserved; 1: all', kvUsage),
  number('gauge', 'gpu_cache_usage_perc', 'The same, by its older name', kvUsage),
  number(
    'counter',
    'prompt_tokens_total',
    'Prompt tokens of requests that got a slot',
    (_, metrics) => metrics.promptTokens,
  ),
  number(
    'counter',
    'generation_tokens_total',
    'Tokens made and counted',
    (_, metrics) => metrics.generatedTokens,
  ),
  number(
    'counter',
    'prefix_cache_queries_total',
    'Prompt tokens that were looked up in the prefix cache',
    (_, metrics) => metrics.prefixQueriedTokens,
  ),
  number(
    'counter',
    'prefix_cache_hits_total',
    'Prompt tokens that were found there',
    (_, metrics) => metrics.prefixHitTokens,
  ),
  number(
    'counter',
    'spec_decode_num_drafts_total',
    'Steps of a sequence in which tokens were guessed',
    (_, metrics) => metrics.draftsTriedCount,
  ),
  number(
    'counter',
    'spec_decode_num_draft_tokens_total',
    'Tokens that were guessed',
    (_, metrics) => metrics.draftTokens,
  ),
  number(
    'counter',
    'spec_decode_num_accepted_tokens_total',
    'Guessed tokens that were right',
    (_, metrics) => metrics.acceptedDraftTokens,
  ),
  {
    kind: 'counter',
    name: 'vllm:request_success_total',
    help: 'Requests that ended well, by their reason',
    labels: [...LABELS, 'finished_reason'],
    read: ({ models }) =>
      models.flatMap((model) => {
        const counts = new Map<string, number>(Object.values(FINISHED).map((reason) => [reason, 0]));
        for (const { count, reason } of model.metrics.ends) {
          const finished = FINISHED[reason];
          if (finished !== undefined) counts.set(finished, counts.get(finished)! + count);
        }
        return [...counts].map(([reason, value]) => ({
          labels: { ...labelsOf(model), finished_reason: reason },
          value,
        }));
      }),
  },
  histogram(
    'time_to_first_token_seconds',
    'From the arrival of a request to its first token',
    (metrics) => metrics.firstTokenSeconds,
  ),
  histogram(
    'inter_token_latency_seconds',
    'Between two tokens of one request',
    (metrics) => metrics.tokenGapSeconds,
  ),
  histogram(
    'time_per_output_token_seconds',
    'The same, by its older name',
    (metrics) => metrics.tokenGapSeconds,
  ),
  histogram(
    'request_queue_time_seconds',
    'From being queued to having a slot',
    (metrics) => metrics.queueSeconds,
  ),
  histogram(
    'e2e_request_latency_seconds',
    'From the arrival of a request to its end',
    (metrics) => metrics.requestSeconds,
  ),
];
