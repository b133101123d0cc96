/**
 * What a person sees while it measures: on a terminal a line that changes, elsewhere plain lines.
 *
 * In      sentences; what is being measured and how much is left
 * Out     standard error for progress, standard output for results
 */

import type { Measurement } from './run/measurement.js';
import type { Step } from './run/tune-run.js';
import { showMetric } from './units/metrics.js';

const CLEAR = '\r\u001b[2K';

export class Terminal {
  readonly #isLive = process.stderr.isTTY === true;
  #startedMs = performance.now();
  #made = 0;
  #hasHead = false;

  say(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  note(text: string): void {
    process.stderr.write(`${this.#isLive ? CLEAR : ''}${text}\n`);
  }

  /** The clock of what is left counts from the first that is really measured. */
  step({ atMost, done, question, stage }: Step, name: string): void {
    if (this.#made === 0) this.#startedMs = performance.now();
    const left = this.#made === 0 ? '' : `, at most ${this.#left(atMost - done)} left`;
    const load =
      question.load.kind === 'trace' ? 'the trace' : `${question.load.kind} ${question.load.value}`;
    const text = `[${done + 1}/${atMost}] ${stage}: ${name} at ${load}${left}`;
    if (this.#isLive) process.stderr.write(`${CLEAR}${text}`);
    else this.note(text);
  }

  measured(measurement: Measurement, name: string, isNew: boolean): void {
    if (isNew) this.#made++;
    if (this.#isLive && !this.#hasHead) {
      this.#hasHead = true;
      this.note(
        `${'configuration'.padEnd(34)} ${'load'.padEnd(16)} ${'throughput'.padStart(18)} ${'p99 latency'.padStart(14)} ${'memory'.padStart(9)}`,
      );
    }
    const { load, outcome, reason } = measurement;
    const where = `${name.padEnd(34)} ${(load.kind === 'trace' ? 'trace' : `${load.kind} ${load.value}`).padEnd(16)}`;
    const more = isNew ? '' : '  (from the journal)';
    if (outcome === 'infeasible') {
      this.note(`${where} infeasible: ${reason?.split('\n')[0] ?? ''}${more}`);
      return;
    }
    for (const { figures } of Object.values(measurement.models)) {
      this.note(
        `${where} ${showMetric('throughput_per_s', figures.throughput_per_s).padStart(18)} ${showMetric('latency_p99_ms', figures.latency_p99_ms).padStart(14)} ${showMetric('memory_bytes', figures.memory_bytes).padStart(9)}${more}`,
      );
    }
    for (const warning of measurement.warnings) this.note(`  warning: ${warning}`);
  }

  #left(measurements: number): string {
    const ms = ((performance.now() - this.#startedMs) / this.#made) * measurements;
    return ms > 120_000 ? `${Math.ceil(ms / 60_000)} min` : `${Math.ceil(ms / 1000)} s`;
  }
}
