/** Everything a scrape shows, taken once a scrape, so that all metrics of it speak of the same moment. */
import type { ModelMetrics, PoolReading } from './model-metrics.js';
import type { GroupRanks } from './rank-readings.js';

export interface ModelSnapshot {
  metrics: ModelMetrics;
  pool: PoolReading;
  groups: readonly GroupRanks[];
}

/** Numbers of the server itself; they outlive the models. */
export interface ServerCounts {
  /** Responses by the first digit of their status. */
  responses: Map<string, number>;
  /** Requests that failed for a bug, and for want of a worker that can take them. */
  serverErrors: number;
  wlmErrors: number;
  /** By `name` or `name:version`. */
  loadingErrors: Map<string, number>;
  /** Microseconds from the process's start to ready; 0 before. */
  startupUs: number;
  /** Lines that could not be written, by output. */
  droppedLogLines: ReadonlyMap<string, number>;
}

export interface Snapshot {
  models: readonly ModelSnapshot[];
  server: ServerCounts;
}
