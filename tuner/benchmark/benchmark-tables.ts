/**
 * What a benchmark leaves behind: our report, and TorchServe's tables where the suite is TorchServe's.
 *
 * In      cases with their measurements, the comparison
 * Out     Table for results.csv and ab_report.csv, Markdown for report.md
 * Limits  columns of TorchServe that this server does not tell stay empty: percentiles of model and queue time, handler and thread times, GPU use
 * Source  TorchServe 0.12: ab_report.csv of benchmark-ab.py
 */
import { availableParallelism, totalmem } from 'node:os';
import { type Cell, markdownOf, type Table } from '../report/tables.js';
import type { Measurement } from '../run/measurement.js';
import { percentile } from '../statistics/percentile.js';
import { METRIC_NAMES, METRICS, type Metric, showMetric } from '../units/metrics.js';
import type { CaseValues, ComparisonRow } from './compare-baseline.js';
import type { BenchmarkCase } from './suite.js';

export interface CaseResult {
  case: BenchmarkCase;
  repeats: Measurement[];
}

export const AB_COLUMNS = [
  ...[
    'Benchmark',
    'TS failed requests',
    'TS throughput',
    'TS latency P50',
    'TS latency P90',
    'TS latency P99',
  ],
  ...[
    'TS latency mean',
    'TS error rate',
    'Batch size',
    'Batch delay',
    'Workers',
    'Model',
    'Concurrency',
    'Input',
  ],
  ...[
    'Requests',
    'Model_p50',
    'Model_p90',
    'Model_p99',
    'Queue time p50',
    'Queue time p90',
    'Queue time p99',
  ],
  ...['predict_mean', 'handler_time_mean', 'waiting_time_mean', 'worker_thread_mean', 'cpu_percentage_mean'],
  ...['memory_percentage_mean', 'gpu_percentage_mean', 'gpu_memory_percentage_mean', 'gpu_memory_used_mean'],
];
const SHOWN: readonly Metric[] = [
  ...([
    'throughput_per_s',
    'latency_p50_ms',
    'latency_p99_ms',
    'first_token_p99_ms',
    'token_gap_p99_ms',
  ] as const),
  ...(['tokens_out_per_s', 'memory_bytes', 'error_share'] as const),
];

/** A value for each case, metric and repeat; what a baseline is made of. */
export function caseValues(results: readonly CaseResult[]): CaseValues {
  return Object.fromEntries(
    results.map(({ case: { name }, repeats }) => [
      name,
      Object.fromEntries(
        METRIC_NAMES.flatMap((metric) => {
          const values = repeats.flatMap((one) => {
            const value = modelOf(one)?.figures[metric];
            return value === null || value === undefined ? [] : [value as number];
          });
          return values.length > 0 ? [[metric, values]] : [];
        }),
      ),
    ]),
  );
}

export function abTable(results: readonly CaseResult[]): Table {
  const rows = results.flatMap(({ case: { torchServe }, repeats }): Cell[][] => {
    const [measurement] = repeats;
    const model = measurement === undefined ? undefined : modelOf(measurement);
    if (torchServe === null || model === undefined) return [];
    const { figures } = model;
    const failedRequests = Object.values(model.errors).reduce((sum, count) => sum + count, 0);
    const percent = (value: number | null, whole: number): Cell =>
      value === null ? null : Number(((100 * value) / whole).toFixed(2));
    const rounded = (value: number | null): Cell => (value === null ? null : Number(value.toFixed(2)));
    return [
      [
        ...['AB', failedRequests, rounded(figures.throughput_per_s)],
        ...[
          rounded(figures.latency_p50_ms),
          rounded(figures.latency_p90_ms),
          rounded(figures.latency_p99_ms),
        ],
        ...[rounded(figures.latency_mean_ms), percent(figures.error_share, 1)],
        ...[torchServe.batchSize, torchServe.batchDelayMs, torchServe.workers, torchServe.model],
        ...[torchServe.concurrency, torchServe.input, torchServe.requests],
        ...[null, null, null, null, null, null],
        ...[rounded(figures.compute_mean_ms), null, rounded(figures.queue_mean_ms), null],
        ...[percent(figures.server_cores, availableParallelism()), percent(figures.memory_bytes, totalmem())],
        ...[null, null, rounded(figures.gpu_memory_bytes === null ? null : figures.gpu_memory_bytes / 1e6)],
      ],
    ];
  });
  return { columns: AB_COLUMNS, rows };
}

/** As TorchServe's report.md: a heading a model, a row for each of workers and batch. */
export function torchServeReport(results: readonly CaseResult[], version: string, date: string): string {
  const hardware = results[0]?.case.torchServe?.hardware ?? 'cpu';
  const groups = new Map<string, CaseResult[]>();
  for (const result of results) {
    const { torchServe } = result.case;
    if (torchServe === null) continue;
    const name = `${torchServe.mode}_${torchServe.model}`;
    groups.set(name, [...(groups.get(name) ?? []), result]);
  }
  const parts = [...groups].map(([name, group]) => {
    const { columns, rows } = abTable(group);
    return `## ${name}\n\n${markdownOf({ columns: ['version', ...columns], rows: rows.map((row) => [version, ...row]) })}`;
  });
  return `TorchServe Benchmark on ${hardware}\n===\n\n# Date: ${date}\n\n# TorchServe Version: ${version}\n\n${parts.join('\n')}`;
}

export function resultsTable(results: readonly CaseResult[]): Table {
  return {
    columns: ['case', 'repeat', 'outcome', 'reason', ...METRIC_NAMES, 'errors', 'warnings'],
    rows: results.flatMap(({ case: { name }, repeats }) =>
      repeats.map((one): Cell[] => {
        const model = modelOf(one);
        return [
          ...[name, one.round, one.outcome, one.reason],
          ...METRIC_NAMES.map((metric) => model?.figures[metric] ?? null),
          JSON.stringify(model?.errors ?? {}),
          one.warnings.join('; '),
        ];
      }),
    ),
  };
}

export function suiteReport(
  name: string,
  results: readonly CaseResult[],
  comparison: readonly ComparisonRow[] | null,
  conditions: Readonly<Record<string, string>>,
  date: string,
): string {
  const values = caseValues(results);
  const table: Table = {
    columns: ['case', 'repeats', ...SHOWN.map((metric) => METRICS[metric].title)],
    rows: results.map(({ case: { name: one }, repeats }): Cell[] => [
      one,
      repeats.every(({ outcome }) => outcome === 'measured')
        ? repeats.length
        : `could not be measured: ${repeats.find(({ reason }) => reason !== null)?.reason ?? ''}`,
      ...SHOWN.map((metric) => spread(metric, values[one]?.[metric])),
    ]),
  };
  const changes = comparison?.map((row): Cell[] => [
    ...[
      row.caseName,
      METRICS[row.metric].title,
      showMetric(row.metric, row.before),
      showMetric(row.metric, row.after),
    ],
    ...[`${(100 * row.change).toFixed(1)} %`, row.p.toFixed(3), row.verdict],
  ]);
  return [
    `# Benchmark: ${name}\n\nDate: ${date}\n`,
    'Medians of the repeats, in parentheses the least and the largest.\n',
    markdownOf(table),
    ...(changes
      ? [
          `## Beside the baseline\n\n${markdownOf({ columns: ['case', 'metric', 'before', 'now', 'change', 'p', 'verdict'], rows: changes })}`,
        ]
      : []),
    `## Conditions\n\n${Object.entries(conditions)
      .map(([key, value]) => `- ${key}: ${value}\n`)
      .join('')}`,
  ].join('\n');
}

function spread(metric: Metric, values: readonly number[] | undefined): Cell {
  if (!values?.length) return null;
  const shown = (value: number) => showMetric(metric, value);
  return values.length === 1
    ? shown(values[0]!)
    : `${shown(percentile(values, 0.5))} (${shown(Math.min(...values))} … ${shown(Math.max(...values))})`;
}

/** A case has one model that is looked at: its first. */
const modelOf = (measurement: Measurement) => Object.values(measurement.models)[0];
