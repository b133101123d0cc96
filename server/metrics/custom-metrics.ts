/**
 * Metrics that handlers make, for Prometheus.
 *
 * In      lines of handlers (metric-text.ts); which metrics there may be
 * Out     metrics of the registry, made when the first value comes; a model that leaves has no series from then on
 * Limits  MAX_NAMES names, MAX_SERIES series a name; more are dropped, and told once a name
 * Errors  none: a line that says nothing, other dimensions than before, a name of the server's own: dropped
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { type Dimensions, type MetricKind, metricOf } from './metric-text.js';

const MAX_NAMES = 256;
const MAX_SERIES = 1000;

/** A metric that a configuration names. */
export interface DeclaredMetric {
  kind: MetricKind;
}

interface Known {
  metric: Counter | Gauge | Histogram;
  kind: MetricKind;
  labels: readonly string[];
  /** Whose each series is. */
  series: Map<string, { labels: Dimensions; model: string }>;
}

export class CustomMetrics {
  readonly #registry: Registry;
  readonly #declared: ReadonlyMap<string, DeclaredMetric> | null;
  readonly #onDropped: (sentence: string) => void;
  readonly #known = new Map<string, Known | null>();

  /** @param declared null: all that handlers tell */
  constructor(
    registry: Registry,
    declared: ReadonlyMap<string, DeclaredMetric> | null,
    onDropped: (sentence: string) => void,
  ) {
    this.#registry = registry;
    this.#declared = declared;
    this.#onDropped = onDropped;
  }

  told(model: string, line: string): void {
    const told = metricOf(line);
    if (told === null) return;
    const { dimensions, name, unit, value } = told;
    const kind = this.#declared === null ? told.kind : this.#declared.get(name)?.kind;
    if (kind === undefined) return;
    const labels = Object.keys(dimensions);
    if (!this.#known.has(name)) this.#known.set(name, this.#make(name, unit, kind, labels));
    const known = this.#known.get(name) ?? null;
    if (known === null || known.kind !== kind || known.labels.join() !== labels.join()) return;
    const id = JSON.stringify(Object.values(dimensions));
    if (!known.series.has(id)) {
      if (known.series.size >= MAX_SERIES) {
        this.#known.set(name, null);
        this.#registry.removeSingleMetric(name);
        this.#onDropped(`the metric ${name} of ${model} has more than ${MAX_SERIES} series: it is dropped`);
        return;
      }
      known.series.set(id, { labels: dimensions, model });
    }
    if (known.metric instanceof Counter) known.metric.inc({ ...dimensions }, Math.max(0, value));
    else if (known.metric instanceof Gauge) known.metric.set({ ...dimensions }, value);
    else known.metric.observe({ ...dimensions }, value);
  }

  /** The model is gone. */
  forget(model: string): void {
    for (const known of this.#known.values()) {
      for (const [id, series] of known?.series ?? []) {
        if (series.model !== model) continue;
        known!.metric.remove({ ...series.labels });
        known!.series.delete(id);
      }
    }
  }

  /** null: it cannot be. */
  #make(name: string, unit: string, kind: MetricKind, labelNames: readonly string[]): Known | null {
    if (this.#known.size >= MAX_NAMES || this.#registry.getSingleMetric(name) !== undefined) {
      this.#onDropped(
        `the metric ${name} of a handler is dropped: the name is taken, or there are ${MAX_NAMES}`,
      );
      return null;
    }
    const help = `Of a handler, unit: ${unit || 'none'}`;
    const options = { name, help, labelNames, registers: [this.#registry] };
    const metric =
      kind === 'counter'
        ? new Counter(options)
        : kind === 'gauge'
          ? new Gauge(options)
          : new Histogram(options);
    return { metric, kind, labels: labelNames, series: new Map() };
  }
}
