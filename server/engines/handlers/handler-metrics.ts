/**
 * A handler's own metrics: TorchServe's `context.metrics`, in this language's spelling.
 *
 * Out     a line a value in TorchServe's form, `Name.Unit:value|#Dimension:value,…|#hostname:…,timestamp`
 * Limits  MAX_METRICS names
 * Source  TorchServe's custom metrics API
 */

export type MetricKind = 'counter' | 'gauge' | 'histogram';
export type Dimension = readonly [name: string, value: string];

const MAX_METRICS = 256;

export class HandlerMetric {
  readonly #tell: (value: number, dimensions: readonly Dimension[]) => void;
  readonly name: string;
  readonly kind: MetricKind;
  readonly #dimensionNames: readonly string[];

  constructor(
    name: string,
    kind: MetricKind,
    dimensionNames: readonly string[],
    tell: (value: number, dimensions: readonly Dimension[]) => void,
  ) {
    this.name = name;
    this.kind = kind;
    this.#dimensionNames = dimensionNames;
    this.#tell = tell;
  }

  addOrUpdate(value: number, dimensionValues: readonly string[] = []): void {
    if (!Number.isFinite(value)) throw new TypeError(`Metric ${this.name}: ${value} is no finite number`);
    if (dimensionValues.length !== this.#dimensionNames.length) {
      throw new TypeError(
        `Metric ${this.name} has ${this.#dimensionNames.length} dimensions, not ${dimensionValues.length}`,
      );
    }
    this.#tell(
      value,
      this.#dimensionNames.map((dimension, index) => [dimension, dimensionValues[index]!]),
    );
  }
}

export class HandlerMetrics {
  readonly #metrics = new Map<string, HandlerMetric>();
  readonly #modelName: string;
  readonly #write: (line: string) => void;

  constructor(modelName: string, write: (line: string) => void) {
    this.#modelName = modelName;
    this.#write = write;
  }

  /** The metric of that name, made when it is first asked for. */
  addMetricToCache(
    name: string,
    unit: string,
    dimensionNames: readonly string[] = [],
    kind: MetricKind = 'counter',
  ): HandlerMetric {
    const known = this.#metrics.get(name);
    if (known) return known;
    if (this.#metrics.size >= MAX_METRICS) throw new RangeError(`At most ${MAX_METRICS} metrics a handler`);
    if (!/^\w{1,128}$/.test(name)) throw new TypeError(`${name} is no name of a metric`);
    const metric = new HandlerMetric(name, kind, dimensionNames, (value, dimensions) => {
      const shown = [...dimensions, ['ModelName', this.#modelName], ['Level', 'Model']]
        .map(([key, text]) => `${key}:${text}`)
        .join(',');
      this.#write(`${name}.${unit}:${value}|#${shown}|type:${kind}`);
    });
    this.#metrics.set(name, metric);
    return metric;
  }

  addCounter(name: string, value: number, dimensions: readonly Dimension[] = []): void {
    this.#add(name, 'Count', 'counter', value, dimensions);
  }

  addTime(name: string, ms: number, dimensions: readonly Dimension[] = []): void {
    this.#add(name, 'Milliseconds', 'gauge', ms, dimensions);
  }

  addSize(name: string, bytes: number, dimensions: readonly Dimension[] = []): void {
    this.#add(name, 'Bytes', 'gauge', bytes, dimensions);
  }

  addPercent(name: string, percent: number, dimensions: readonly Dimension[] = []): void {
    this.#add(name, 'Percent', 'gauge', percent, dimensions);
  }

  addError(name: string, value: number, dimensions: readonly Dimension[] = []): void {
    this.#add(name, '', 'counter', value, dimensions);
  }

  #add(name: string, unit: string, kind: MetricKind, value: number, dimensions: readonly Dimension[]): void {
    const names = dimensions.map(([key]) => key);
    this.addMetricToCache(name, unit, names, kind).addOrUpdate(
      value,
      dimensions.map(([, text]) => text),
    );
  }
}
