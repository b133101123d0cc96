/**
 * Every figure of a measurement: its unit, which way is better, and what people call it.
 *
 * In      nothing
 * Out     METRICS, whose keys end in the unit; Figures, a measurement's values by these keys
 * Limits  null: not measured here (no stream has no inter-token latency, a server elsewhere has no memory)
 */
import type {
  Bytes,
  Cores,
  Count,
  Milliseconds,
  Money,
  PerSecond,
  Share,
  TokensPerSecond,
} from './quantity.js';

export interface MetricRow<Q extends number = number> {
  readonly title: string;
  /** What stands behind a number for people, and how a number in the unit becomes the one shown. */
  readonly shown: { readonly sign: string; readonly divisor: number; readonly digits: number };
  readonly better: 'more' | 'less';
  /** Only a type. */
  readonly quantity?: Q;
}

type Shown = MetricRow['shown'];
const MS: Shown = { sign: 'ms', divisor: 1, digits: 2 };
const RATE: Shown = { sign: 'requests/s', divisor: 1, digits: 2 };
const TOKENS: Shown = { sign: 'tokens/s', divisor: 1, digits: 1 };
const MEMORY: Shown = { sign: 'MB', divisor: 1e6, digits: 0 };
const CORES: Shown = { sign: 'cores', divisor: 1, digits: 2 };
const PERCENT: Shown = { sign: '%', divisor: 0.01, digits: 2 };
const NUMBER: Shown = { sign: '', divisor: 1, digits: 0 };
const MONEY: Shown = { sign: '', divisor: 1, digits: 4 };

function row<Q extends number>(better: 'more' | 'less', title: string, shown: Shown): MetricRow<Q> {
  return { better, title, shown };
}
const less = (title: string) => row<Milliseconds>('less', title, MS);

export const METRICS = {
  throughput_per_s: row<PerSecond>('more', 'Throughput', RATE),
  goodput_per_s: row<PerSecond>('more', 'Goodput', RATE),
  latency_mean_ms: less('Mean latency'),
  latency_p50_ms: less('p50 latency'),
  latency_p90_ms: less('p90 latency'),
  latency_p95_ms: less('p95 latency'),
  latency_p99_ms: less('p99 latency'),
  first_token_mean_ms: less('Mean time to first token'),
  first_token_p50_ms: less('p50 time to first token'),
  first_token_p90_ms: less('p90 time to first token'),
  first_token_p95_ms: less('p95 time to first token'),
  first_token_p99_ms: less('p99 time to first token'),
  token_gap_mean_ms: less('Mean inter-token latency'),
  token_gap_p50_ms: less('p50 inter-token latency'),
  token_gap_p90_ms: less('p90 inter-token latency'),
  token_gap_p95_ms: less('p95 inter-token latency'),
  token_gap_p99_ms: less('p99 inter-token latency'),
  tokens_in_per_s: row<TokensPerSecond>('more', 'Input tokens', TOKENS),
  tokens_out_per_s: row<TokensPerSecond>('more', 'Output tokens', TOKENS),
  queue_mean_ms: less('Mean wait in the queue'),
  compute_mean_ms: less('Mean time in the model'),
  error_share: row<Share>('less', 'Errors', PERCENT),
  memory_bytes: row<Bytes>('less', 'Memory of all processes', MEMORY),
  gpu_memory_bytes: row<Bytes>('less', 'GPU memory', MEMORY),
  server_cores: row<Cores>('less', 'Processor use of the server', CORES),
  client_cores: row<Cores>('less', 'Processor use of the load generator', CORES),
  cost_per_million_tokens: row<Money>('less', 'Cost of a million output tokens', MONEY),
  requests_measured: row<Count>('more', 'Requests measured', NUMBER),
} as const;

export type Metric = keyof typeof METRICS;
type QuantityOf<R> = R extends MetricRow<infer Q> ? Q : never;
export type Figures = { [M in Metric]: QuantityOf<(typeof METRICS)[M]> | null };

export const METRIC_NAMES = Object.keys(METRICS) as Metric[];
export const isMetric = (name: string): name is Metric => Object.hasOwn(METRICS, name);

/** "12.30 ms"; "–" where it was not measured. */
export function showMetric(metric: Metric, value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const { digits, divisor, sign } = METRICS[metric].shown;
  const number = (value / divisor).toFixed(digits);
  if (sign === '') return number;
  return sign === '%' ? `${number} %` : `${number} ${sign}`;
}
