/**
 * Records of requests → what a load generator can tell of a server.
 *
 * In      the records of the windows that count, their length; limits of a good request
 * Out     the Figures that the client sees; the rest is null and filled by who watches the server
 * Limits  latencies are of requests that went well; errors are a share and a table by code
 */
import { mean, percentileOfSorted } from '../statistics/percentile.js';
import { type Figures, METRIC_NAMES } from '../units/metrics.js';
import { count, milliseconds, perSecond, share, tokensPerSecond } from '../units/quantity.js';
import { firstTokenMs, latencyMs, type RequestRecord } from './request-record.js';

/** What a request must keep to count for goodput; absent: any. */
export interface RequestLimits {
  latency_ms?: number;
  first_token_ms?: number;
  /** Mean of the request's own gaps. */
  token_gap_ms?: number;
}

export const noFigures = (): Figures =>
  Object.fromEntries(METRIC_NAMES.map((name) => [name, null])) as unknown as Figures;

export function figuresOf(
  records: readonly RequestRecord[],
  durationMs: number,
  limits: RequestLimits | null,
): Figures {
  const good = records.filter(({ error }) => error === null);
  const seconds = durationMs / 1000;
  const figures = noFigures();
  const put = (prefix: 'latency' | 'first_token' | 'token_gap', values: Float64Array): void => {
    if (values.length === 0) return;
    values.sort();
    figures[`${prefix}_mean_ms`] = milliseconds(mean([...values]));
    for (const [name, part] of [
      ['p50', 0.5],
      ['p90', 0.9],
      ['p95', 0.95],
      ['p99', 0.99],
    ] as const) {
      figures[`${prefix}_${name}_ms`] = milliseconds(percentileOfSorted(values, part));
    }
  };
  put('latency', Float64Array.from(good, latencyMs));
  // An answer at once has no first token of its own: its first byte is its end.
  const streams = good.filter((record) => record.token_gaps_ms.length > 0);
  put(
    'first_token',
    Float64Array.from(streams, (record) => firstTokenMs(record)!),
  );
  put('token_gap', Float64Array.from(streams.flatMap((record) => record.token_gaps_ms)));
  figures.throughput_per_s = perSecond(good.length / seconds);
  if (limits !== null) {
    figures.goodput_per_s = perSecond(good.filter((record) => keeps(record, limits)).length / seconds);
  }
  figures.error_share = share(records.length === 0 ? 1 : 1 - good.length / records.length);
  figures.requests_measured = count(good.length);
  const tokens = (field: 'tokens_in' | 'tokens_out') => {
    const known = good.filter((record) => record[field] !== null);
    if (known.length === 0) return null;
    return tokensPerSecond(known.reduce((sum, record) => sum + record[field]!, 0) / seconds);
  };
  figures.tokens_in_per_s = tokens('tokens_in');
  figures.tokens_out_per_s = tokens('tokens_out');
  return figures;
}

export function keeps(record: RequestRecord, limits: RequestLimits): boolean {
  const within = (limit: number | undefined, value: number | null): boolean =>
    limit === undefined || (value !== null && value <= limit);
  const gaps = record.token_gaps_ms;
  return (
    within(limits.latency_ms, latencyMs(record)) &&
    within(limits.first_token_ms, firstTokenMs(record)) &&
    within(limits.token_gap_ms, gaps.length === 0 ? null : mean(gaps))
  );
}

export function errorsByCode(records: readonly RequestRecord[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { error } of records) if (error !== null) counts[error] = (counts[error] ?? 0) + 1;
  return counts;
}
