/**
 * DJLServing's per-request metrics (`log_request_metric`): the 50th and 90th percentile of every so many values, as lines.
 *
 * In      steps and requests that ended well
 * Out     lines `<Name>_p50.<Unit>:<value>|#Model:<name>` to the model metric log
 * Limits  `metrics_aggregation` values of each name are held, then they are written and forgotten
 * Errors  none
 * Source  LMI's request metrics: names, units and what is counted; TokenLatency is a request's time over its tokens
 */
import { metricLine } from './metric-line.js';

const PERCENTILES = [50, 90];

export class RequestLog {
  readonly #model: string;
  readonly #aggregation: number;
  readonly #write: (line: string) => void;
  readonly #windows = new Map<string, number[]>();

  constructor(model: string, aggregation: number, write: (line: string) => void) {
    this.#model = model;
    this.#aggregation = aggregation;
    this.#write = write;
  }

  stepDone(rows: number): void {
    this.#add('RollingBatchSize', 'Count', rows);
  }

  /** @param durationUs from the request's arrival to its last token */
  requestDone(newTokens: number, durationUs: number): void {
    if (newTokens === 0 || durationUs === 0) return;
    this.#add('TokenLatency', 'Microseconds', Math.round(durationUs / newTokens));
    this.#add('TokenThroughput', 'Count/Second', (newTokens * 1e6) / durationUs);
    this.#add('OutputTokens', 'Count/Item', newTokens);
  }

  #add(name: string, unit: string, value: number): void {
    const window = this.#windows.get(name) ?? [];
    this.#windows.set(name, window);
    window.push(value);
    if (window.length < this.#aggregation) return;
    const sorted = window.splice(0).sort((a, b) => a - b);
    for (const percentile of PERCENTILES) {
      const at = Math.floor((sorted.length * percentile) / 100);
      this.#write(metricLine(`${name}_p${percentile}`, unit, sorted[at]!, 'Model', this.#model));
    }
  }
}
