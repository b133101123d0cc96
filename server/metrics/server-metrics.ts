/**
 * The metrics of the server: one object that everything is told to, and one text that Prometheus reads.
 *
 * In      `observe` for each pool (its calls come back from the hot path), `responseSent` for each response
 * Out     the text format of Prometheus, as a whole or some names of it; lines of DJLServing's metric logs
 * Limits  series: registered models × closed sets. A model that was closed has none from then on
 * Errors  none
 */
import { collectDefaultMetrics, Registry } from 'prom-client';
import { type ErrorCode, WLM_ERROR_CODES } from '../../proto/errors.js';
import { CustomMetrics, type DeclaredMetric } from './custom-metrics.js';
import { djlRows } from './djl-rows.js';
import { NEVER_MS, registerEventLoopLag } from './event-loop-lag.js';
import { GPU_ROWS, type GpuReading } from './gpu-rows.js';
import { LLM_ROWS } from './llm-rows.js';
import { metricLine } from './metric-line.js';
import { type MetricRow, registerRows } from './metric-rows.js';
import { modelIdOf } from './model-id.js';
import { type AnsweredTimes, type JobListener, ModelMetrics, type PoolReading } from './model-metrics.js';
import { type GroupRanks, RankReadings, type ReadingClock } from './rank-readings.js';
import { RequestLog } from './request-log.js';
import type { ServerCounts, Snapshot } from './snapshot.js';
import { VLLM_ROWS } from './vllm-rows.js';

/** Models whose failed loading is remembered: a client may register names without end. */
const MAX_LOADING_ERRORS = 100;
const MICROSECONDS = 1e6;

export interface ServerMetricsOptions {
  /** DJLServing's names too (SERVING_PROMETHEUS). */
  prometheus: boolean;
  /** This server's. */
  version: string;
  /** CPU, memory, event loop and garbage collection of the process. Once a process. */
  processMetrics: boolean;
  /** Where lines of server_metric.log and model_metric.log go; null: nowhere. */
  lines: { server(line: string): void; model(line: string): void } | null;
  host: string;
  /** Another flavour of the server: its names, and who is told of jobs for lines of its own. */
  more?: { rows: readonly MetricRow<Snapshot>[]; listener: JobListener };
  /** Metrics of handlers that are exported; null or absent: all. */
  declared?: ReadonlyMap<string, DeclaredMetric> | null;
  /** Metrics of handlers that are not. */
  onDropped?: (sentence: string) => void;
  /** Lines that the log has lost so far, by output. */
  droppedLogLines?: () => ReadonlyMap<string, number>;
  clock?: ReadingClock;
  /** Those of this machine, read anew; absent: none. */
  gpus?: () => readonly GpuReading[];
}

export interface ObservedModel {
  name: string;
  version: string | null;
  /** Present: every so many values a line with their percentiles (log_request_metric, metrics_aggregation). */
  requestMetricWindow?: number | null;
}

export class ServerMetrics {
  readonly #options: ServerMetricsOptions;
  readonly #registry = new Registry();
  readonly #custom: CustomMetrics;
  readonly #models = new Map<ModelMetrics, RankReadings>();
  readonly #server: ServerCounts = {
    responses: new Map(['2', '4', '5'].map((digit) => [digit, 0])),
    serverErrors: 0,
    wlmErrors: 0,
    loadingErrors: new Map(),
    startupUs: 0,
    droppedLogLines: new Map(),
  };
  #gpus: readonly GpuReading[] = [];
  #snapshot: Snapshot = { models: [], server: this.#server };

  constructor(options: ServerMetricsOptions) {
    this.#options = options;
    registerRows(this.#registry, LLM_ROWS, () => this.#snapshot);
    registerRows(this.#registry, VLLM_ROWS, () => this.#snapshot);
    registerRows(this.#registry, GPU_ROWS, () => this.#gpus);
    if (options.prometheus)
      registerRows(this.#registry, djlRows(options.version, options.host), () => this.#snapshot);
    registerRows(this.#registry, options.more?.rows ?? [], () => this.#snapshot);
    const { declared = null, onDropped = () => undefined } = options;
    this.#custom = new CustomMetrics(this.#registry, declared, onDropped);
    if (options.processMetrics) {
      collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: NEVER_MS });
      registerEventLoopLag(this.#registry);
    }
    this.#serverLine('DJLServingStart', 'Count', 1, 'Version', options.version);
  }

  /** DJLServing's names are exported, and its endpoint answers. */
  get prometheus(): boolean {
    return this.#options.prometheus;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** What a pool tells from now on, until `closed`. */
  observe(model: ObservedModel, sample: () => PoolReading): ModelMetrics {
    const { lines, more } = this.#options;
    const id = modelIdOf(model);
    const window = model.requestMetricWindow ?? null;
    const metrics: ModelMetrics = new ModelMetrics({
      name: model.name,
      version: model.version,
      sample,
      requestLog: lines && window !== null ? new RequestLog(id, window, lines.model) : null,
      line: lines && ((name, unit, value) => lines.model(metricLine(name, unit, value, 'Model', id))),
      onError: (code) => this.#countError(code),
      onLoadingFailed: () => this.#loadingFailed(id),
      onMetric: (line) => this.#custom.told(id, line),
      ...(more && { listener: more.listener }),
      onClosed: () => {
        this.#models.delete(metrics);
        this.#custom.forget(id);
      },
    });
    this.#models.set(metrics, new RankReadings(this.#options.clock));
    return metrics;
  }

  /** @param times of a request that a model was asked for */
  responseSent(status: number, times?: AnsweredTimes): void {
    if (times !== undefined) this.#modelOf(times)?.answered('http', times);
    const digit = String(Math.floor(status / 100));
    this.#server.responses.set(digit, (this.#server.responses.get(digit) ?? 0) + 1);
    this.#serverLine(`Response_${digit}XX`, 'Count', 1);
  }

  /** A call by gRPC has ended. */
  callAnswered(times: AnsweredTimes): void {
    this.#modelOf(times)?.answered('grpc', times);
  }

  /** The last that has the name, as at a scrape. */
  #modelOf({ model, version }: AnsweredTimes): ModelMetrics | undefined {
    let found: ModelMetrics | undefined;
    for (const metrics of this.#models.keys())
      if (metrics.name === model && (version === null || metrics.version === version)) found = metrics;
    return found;
  }

  /** The server is ready, so long after the start of its process. */
  started(sinceMs: number): void {
    this.#server.startupUs = Math.round(sinceMs * 1000);
    this.#serverLine('StartupLatency', 'Microseconds', this.#server.startupUs);
  }

  /**
   * The text format.
   *
   * @param names only these metrics, with or without `_total`, `_bucket`, `_sum`, `_count`; empty: all. Unknown ones are left out
   */
  async text(names: ReadonlySet<string> = new Set()): Promise<string> {
    const models = await Promise.all(
      this.#latestOfEachName().map(async ([metrics, readings]) => {
        const pool = metrics.sample();
        const groups: GroupRanks[] = await readings.read(pool.groups);
        return { metrics, pool, groups };
      }),
    );
    this.#gpus = this.#options.gpus?.() ?? [];
    this.#server.droppedLogLines = this.#options.droppedLogLines?.() ?? new Map();
    this.#snapshot = {
      models: models.filter(({ metrics }) => this.#models.has(metrics)),
      server: this.#server,
    };
    if (names.size === 0) return this.#registry.metrics();
    const wanted = this.#registry
      .getMetricsAsArray()
      .map(({ name }) => name)
      .filter((name) => spellingsOf(name).some((spelling) => names.has(spelling)));
    const texts = await Promise.all(wanted.map((name) => this.#registry.getSingleMetricAsString(name)));
    return texts.map((text) => `${text}\n`).join('\n');
  }

  /** Numbers of each model since it was loaded. */
  statistics() {
    return this.#latestOfEachName().map(([metrics]) => {
      let [succeeded, failed] = [0, 0];
      for (const { count, outcome } of metrics.ends) {
        if (outcome === 'finished') succeeded += count;
        else failed += count;
      }
      return {
        ...{ name: metrics.name, version: metrics.version, lastEndedAtMs: metrics.lastEndedAtMs },
        ...{ succeeded, failed, executions: metrics.batchRows.count, requestUs: metrics.requestUs.sum },
        ...{ queuedJobs: metrics.queueUs.count, queueUs: metrics.queueUs.sum },
        computeUs: metrics.stepSeconds.compute.sum * MICROSECONDS,
      };
    });
  }

  /** A pool may still be closing when another one has its name: the newer one is shown. */
  #latestOfEachName(): [ModelMetrics, RankReadings][] {
    const byId = new Map<string, [ModelMetrics, RankReadings]>();
    for (const entry of this.#models) byId.set(JSON.stringify([entry[0].name, entry[0].version]), entry);
    return [...byId.values()];
  }

  #countError(code: ErrorCode): void {
    if (code === 'INTERNAL') {
      this.#server.serverErrors++;
      this.#serverLine('ServerError', 'Count', 1);
    } else if (WLM_ERROR_CODES.includes(code)) {
      this.#server.wlmErrors++;
      this.#serverLine('WlmError', 'Count', 1);
    }
  }

  #loadingFailed(id: string): void {
    const { loadingErrors } = this.#server;
    const count = (loadingErrors.get(id) ?? 0) + 1;
    loadingErrors.delete(id);
    loadingErrors.set(id, count);
    const [oldest] = loadingErrors.keys();
    if (loadingErrors.size > MAX_LOADING_ERRORS && oldest !== undefined) loadingErrors.delete(oldest);
    this.#serverLine('ModelLoadingError', 'Count', 1, 'Model', id);
  }

  #serverLine(name: string, unit: string, value: number, dimension = 'Host', of = this.#options.host): void {
    this.#options.lines?.server(metricLine(name, unit, value, dimension, of));
  }
}

/** A counter is also known without `_total`, a histogram by the names of its samples. */
function spellingsOf(name: string): string[] {
  return [name, name.replace(/_total$/, ''), `${name}_bucket`, `${name}_sum`, `${name}_count`];
}
