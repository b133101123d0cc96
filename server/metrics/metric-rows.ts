/**
 * What a row of a metric table is, and how rows become metrics of prom-client's registry.
 *
 * In      rows: name, help, labels, and how to read the values out of a snapshot
 * Out     metrics that are filled when somebody scrapes: nothing is added up by label on the hot path, and a model that has left
 *         the snapshot has no series
 * Limits  labels of a row are fixed; their values come from registered names, closed sets and small numbers
 * Errors  prom-client's, on a name that is taken: a bug
 */
import {
  Counter,
  Gauge,
  type MetricObjectWithValues,
  type MetricType,
  type MetricValueWithName,
  type Registry,
} from 'prom-client';
import type { HistogramCells } from './histogram-cells.js';

type Labels = Readonly<Record<string, string | number>>;

export interface MetricSample<T> {
  labels: Labels;
  value: T;
}

interface Row<K extends string, V, S> {
  kind: K;
  name: string;
  help: string;
  /** Names of the labels, in order. */
  labels: readonly string[];
  read(snapshot: S): Iterable<MetricSample<V>>;
}

export type NumberRow<S> = Row<'counter' | 'gauge', number, S>;
export type HistogramRow<S> = Row<'histogram', HistogramCells, S>;
export type MetricRow<S> = NumberRow<S> | HistogramRow<S>;

/** Registers every row; `snapshot` is asked at each scrape. */
export function registerRows<S>(registry: Registry, rows: readonly MetricRow<S>[], snapshot: () => S): void {
  for (const row of rows) {
    if (row.kind === 'histogram') registry.registerMetric(new CellsHistogram(row, snapshot));
    else registerNumber(registry, row, snapshot);
  }
}

function registerNumber<S>(registry: Registry, row: NumberRow<S>, snapshot: () => S): void {
  const { help, kind, name } = row;
  const options = { name, help, labelNames: row.labels, registers: [registry] };
  if (kind === 'counter') {
    new Counter({
      ...options,
      collect() {
        this.reset();
        for (const { labels, value } of row.read(snapshot())) this.inc({ ...labels }, value);
      },
    });
  } else {
    new Gauge({
      ...options,
      collect() {
        this.reset();
        for (const { labels, value } of row.read(snapshot())) this.set({ ...labels }, value);
      },
    });
  }
}

/** prom-client fills histograms by observe() only, which hashes labels; this one shows cells that were filled elsewhere. */
class CellsHistogram<S> extends Gauge {
  readonly #row: HistogramRow<S>;
  readonly #snapshot: () => S;

  constructor(row: HistogramRow<S>, snapshot: () => S) {
    super({ name: row.name, help: row.help, labelNames: row.labels, registers: [] });
    this.#row = row;
    this.#snapshot = snapshot;
  }

  override async get(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    const base = await super.get();
    const values = [...this.#row.read(this.#snapshot())].flatMap(({ labels, value }) =>
      histogramValues(this.#row.name, labels, value),
    );
    // The declared enum is of numbers; what the library itself holds and prints is the word.
    return { ...base, type: 'histogram' as unknown as MetricType, values };
  }
}

function histogramValues(name: string, labels: Labels, cells: HistogramCells): MetricValueWithName<string>[] {
  const cumulative = cells.cumulative();
  const bucket = (le: number | string, value: number): MetricValueWithName<string> => ({
    metricName: `${name}_bucket`,
    labels: { ...labels, le },
    value,
  });
  return [
    ...cells.bounds.map((bound, index) => bucket(bound, cumulative[index]!)),
    bucket('+Inf', cells.count),
    { metricName: `${name}_sum`, labels, value: cells.sum },
    { metricName: `${name}_count`, labels, value: cells.count },
  ];
}
