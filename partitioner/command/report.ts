/**
 * What the command line says while it works: for people on a terminal, for people in a log, or for programs.
 *
 * In      plan, progress, result, error
 * Out     text lines (a progress bar on a terminal); or with `--json` one JSON object a line (proto/partition.ts, and more for people):
 *         {event: 'plan', …PlanSummary} · {event: 'calibration'} · {event: 'progress', doneBytes, totalBytes} ·
 *         {event: 'verified', tensors, bytes} · {event: 'done', shardFolder, name, reused, worldSize, dtype, sharedBytes,
 *         rankBytes: [one a rank], seconds} · {event: 'error', code, message}
 * Limits  ten JSON progress lines a second; a log line every tenth of the way
 */
import { SingleBar } from 'cli-progress';
import type { ServingError } from '../../proto/errors.js';
import type { PartitionResult } from '../partition.js';
import { formatBytes, formatPlan, type PlanSummary } from '../plan/plan-table.js';
import type { Verification } from '../verify/verify.js';

export interface Reporter {
  plan(summary: PlanSummary): void;
  calibration(): void;
  progress(doneBytes: number, totalBytes: number): void;
  verified(verification: Verification): void;
  done(result: PartitionResult): void;
  error(error: ServingError): void;
}

const JSON_PROGRESS_INTERVAL_MS = 100;

export class JsonReporter implements Reporter {
  readonly #write: (line: string) => void;
  readonly #startMs: number = performance.now();
  #lastProgressMs = Number.NEGATIVE_INFINITY;

  /** @param write gets whole lines without their end */
  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  plan(summary: PlanSummary): void {
    this.#event('plan', summary);
  }

  calibration(): void {
    this.#event('calibration', {});
  }

  progress(doneBytes: number, totalBytes: number): void {
    const nowMs = performance.now();
    if (doneBytes < totalBytes && nowMs - this.#lastProgressMs < JSON_PROGRESS_INTERVAL_MS) return;
    this.#lastProgressMs = nowMs;
    this.#event('progress', { doneBytes, totalBytes });
  }

  verified(verification: Verification): void {
    this.#event('verified', verification);
  }

  done({ shardFolder, manifest, reused }: PartitionResult): void {
    this.#event('done', {
      shardFolder,
      name: manifest.name,
      reused,
      worldSize: manifest.worldSize,
      dtype: manifest.weightFormat.dtype,
      sharedBytes: manifest.shared?.bytes ?? 0,
      rankBytes: manifest.ranks.map((rank) => rank.weights.bytes),
      seconds: Math.round(performance.now() - this.#startMs) / 1000,
    });
  }

  error({ code, message }: ServingError): void {
    this.#event('error', { code, message });
  }

  #event(event: string, content: object): void {
    this.#write(JSON.stringify({ event, ...content }));
  }
}

export class TextReporter implements Reporter {
  readonly #write: (line: string) => void;
  readonly #writeError: (line: string) => void;
  readonly #bar: SingleBar | null;
  readonly #startMs: number = performance.now();
  #hasBegun = false;
  #tenths = 0;

  /** @param isTerminal draw a bar on standard error instead of writing a line every tenth of the way */
  constructor(write: (line: string) => void, writeError: (line: string) => void, isTerminal: boolean) {
    this.#write = write;
    this.#writeError = writeError;
    this.#bar = isTerminal
      ? new SingleBar({
          format: 'writing shards [{bar}] {percentage}% of {size}, {speed}/s',
          hideCursor: true,
          clearOnComplete: true,
        })
      : null;
  }

  plan(summary: PlanSummary): void {
    for (const line of formatPlan(summary)) this.#write(line);
  }

  calibration(): void {
    this.#write('running the model over texts, once, to see which inputs count when its weights are rounded');
  }

  progress(doneBytes: number, totalBytes: number): void {
    const seconds = (performance.now() - this.#startMs) / 1000;
    const speed = formatBytes(Math.round(doneBytes / seconds));
    if (this.#bar) {
      const size = formatBytes(totalBytes);
      if (this.#hasBegun) this.#bar.update(doneBytes, { speed });
      else this.#bar.start(totalBytes, doneBytes, { size, speed });
      this.#hasBegun = true;
      return;
    }
    const tenths = Math.floor((10 * doneBytes) / totalBytes);
    if (tenths === this.#tenths) return;
    this.#tenths = tenths;
    this.#write(`writing shards: ${tenths * 10} % of ${formatBytes(totalBytes)}, ${speed}/s`);
  }

  verified({ tensors, bytes }: Verification): void {
    this.#bar?.stop();
    this.#write(`verified: ${tensors} tensors, ${formatBytes(bytes)}, joined again equal the checkpoint`);
  }

  done({ shardFolder, manifest, reused }: PartitionResult): void {
    this.#bar?.stop();
    if (reused) this.#write('the shards are there already: nothing was written');
    manifest.ranks.forEach((rank, index) => {
      this.#write(`rank ${index}: ${formatBytes(rank.weights.bytes)}, ${rank.segments.length} graphs`);
    });
    this.#write(`shared: ${formatBytes(manifest.shared?.bytes ?? 0)}`);
    this.#write(shardFolder);
  }

  error({ code, message }: ServingError): void {
    this.#bar?.stop();
    this.#writeError(`${code}: ${message}`);
  }
}
