/**
 * TorchServe's metrics under its own names: lines for ts_metrics.log and model_metrics.log, rows for Prometheus.
 *
 * In      responses, jobs that started and ended, lines of handlers; what the machine has to tell, now and then
 * Out     lines (metric-text.ts); rows that are read at a scrape
 * Limits  labels are registered names, the host, and `default`
 * Errors  none
 * Source  TorchServe's metrics.yaml: names, units, dimensions. Not told: WorkerThreadTime, which is what its Java threads take
 *
 * `model_version` is `default` for the version that requests without one get: which of them named it nobody counts.
 */
import type { MetricRow, MetricSample } from './metric-rows.js';
import { metricOf, metricText } from './metric-text.js';
import type { ModelSnapshot, Snapshot } from './snapshot.js';
import { type SystemReading, SystemReadings } from './system-readings.js';

export interface TorchServeMetricsOptions {
  host: string;
  /** null: no lines. */
  lines: { server(line: string): void; model(line: string): void } | null;
  /** TorchServe's names in the text of Prometheus: all, only the three of legacy mode, or none. */
  exported: 'all' | 'legacy' | 'none';
  /** Those that metrics.yaml names; null: all. */
  names: ReadonlySet<string> | null;
  /** `default`, or the version. */
  versionOf(name: string, version: string): string;
  /** The machine's are told so often; 0: never. */
  systemIntervalMs: number;
  /** Workers are numbered from it on. */
  firstWorker: number;
  nowMs?: () => number;
}

const MS_PER_US = 1000;

export class TorchServeMetrics {
  readonly #options: TorchServeMetricsOptions;
  readonly #system = new SystemReadings();
  #reading: SystemReading[] = [];
  #timer: NodeJS.Timeout | null = null;
  #lastQueueMs: number | null = null;

  constructor(options: TorchServeMetricsOptions) {
    this.#options = options;
  }

  /** Reads the machine from now on. */
  start(): void {
    const { systemIntervalMs } = this.#options;
    if (systemIntervalMs === 0) return;
    const read = (): void => {
      this.#reading = this.#system.read();
      for (const { name, unit, value } of this.#reading) this.#line(name, unit, value, { Level: 'Host' });
    };
    read();
    this.#timer = setInterval(read, systemIntervalMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  responseSent(status: number): void {
    this.#line(`Requests${Math.floor(status / 100)}XX`, 'Count', 1, { Level: 'Host' });
  }

  jobStarted(name: string, version: string, waitMs: number): void {
    this.#lastQueueMs = waitMs;
    this.#line('QueueTime', 'Milliseconds', waitMs, { Level: 'Host' });
    this.#line(
      'ts_queue_latency_microseconds',
      'Microseconds',
      waitMs * MS_PER_US,
      this.#model(name, version),
    );
  }

  jobEnded(name: string, version: string, durationMs: number): void {
    const of = this.#model(name, version);
    this.#line('ts_inference_requests_total', 'Count', 1, of);
    this.#line('ts_inference_latency_microseconds', 'Microseconds', durationMs * MS_PER_US, of);
  }

  loaded(name: string, version: string, durationMs: number): void {
    this.#line('WorkerLoadTime', 'Milliseconds', durationMs, {
      WorkerName: this.#worker(name, version),
      Level: 'Host',
    });
  }

  /** A line as its handler wrote it. */
  custom(line: string): void {
    const told = metricOf(line);
    if (told === null) return;
    this.#options.lines?.model(metricText(told, this.#origin()));
  }

  get rows(): readonly MetricRow<Snapshot>[] {
    const { exported, names } = this.#options;
    if (exported === 'none') return [];
    const rows = [...this.#inferenceRows(), ...(exported === 'all' ? this.#hostRows() : [])];
    return rows.filter(({ name }) => names === null || names.has(name));
  }

  #inferenceRows(): MetricRow<Snapshot>[] {
    const row = (
      name: string,
      help: string,
      value: (model: ModelSnapshot) => number,
    ): MetricRow<Snapshot> => ({
      ...{ kind: 'counter', name, help, labels: ['model_name', 'model_version', 'hostname'] },
      read: ({ models }) =>
        models.map((model) => {
          const { name: modelName, version } = model.metrics;
          const labels = { ...this.#model(modelName, version), hostname: this.#options.host };
          return { labels, value: value(model) };
        }),
    });
    return [
      row('ts_inference_requests_total', 'Inference requests', ({ metrics }) => metrics.requestUs.count),
      row('ts_inference_latency_microseconds', 'From arrival to end', ({ metrics }) => metrics.requestUs.sum),
      row('ts_queue_latency_microseconds', 'In the queue', ({ metrics }) => metrics.queueUs.sum),
    ];
  }

  #hostRows(): MetricRow<Snapshot>[] {
    const host = (value: number): MetricSample<number> => ({
      labels: { Level: 'Host', Hostname: this.#options.host },
      value,
    });
    const labels = ['Level', 'Hostname'];
    const responses = ['2', '4', '5'].map(
      (digit): MetricRow<Snapshot> => ({
        ...{ kind: 'counter', name: `Requests${digit}XX`, help: `Responses of ${digit}xx`, labels },
        read: ({ server }) => [host(server.responses.get(digit) ?? 0)],
      }),
    );
    const system = this.#system.names.map(
      ({ name, unit }): MetricRow<Snapshot> => ({
        ...{ kind: 'gauge', name, help: `Of the machine, unit: ${unit}`, labels },
        read: () => this.#reading.filter((one) => one.name === name).map(({ value }) => host(value)),
      }),
    );
    return [
      ...responses,
      {
        ...{ kind: 'gauge', name: 'QueueTime', help: 'Of the last request, unit: Milliseconds', labels },
        read: () => (this.#lastQueueMs === null ? [] : [host(this.#lastQueueMs)]),
      },
      {
        ...{ kind: 'gauge', name: 'WorkerLoadTime', help: 'Of the last load, unit: Milliseconds' },
        labels: ['WorkerName', 'Level', 'Hostname'],
        read: ({ models }) =>
          models
            .filter(({ metrics }) => metrics.loadUs > 0)
            .map(({ metrics }) => {
              const { labels: of, value } = host(metrics.loadUs / MS_PER_US);
              return { labels: { WorkerName: this.#worker(metrics.name, metrics.version), ...of }, value };
            }),
      },
      ...system,
    ];
  }

  #model(name: string, version: string) {
    return { model_name: name, model_version: this.#options.versionOf(name, version) };
  }

  #worker(name: string, version: string): string {
    return `W-${this.#options.firstWorker}-${name}_${version}`;
  }

  #line(name: string, unit: string, value: number, dimensions: Readonly<Record<string, string>>): void {
    const { lines, names } = this.#options;
    if (lines === null || (names !== null && !names.has(name))) return;
    lines.server(metricText({ name, unit, value, dimensions }, this.#origin()));
  }

  #origin() {
    return { host: this.#options.host, atMs: this.#options.nowMs?.() ?? Date.now() };
  }
}
