/**
 * Shows how far the partitioning and loading of models is: a bar on a terminal, log lines elsewhere.
 *
 * In      bytes done of bytes in all, by model and phase
 * Out     standard error (the bar), or the log
 * Limits  a log line when a phase begins and when it is done, at most one a tenth and one a second between
 */
import cliProgress from 'cli-progress';
import type { Logger } from 'pino';

export type Phase = 'download' | 'verify' | 'unpack' | 'partition' | 'load' | 'warm-up';

const LOG_INTERVAL_MS = 1000;
/** Remembered, the newest ones. */
const MAX_PHASES = 64;
const MIB = 1024 * 1024;
const VERBS: Record<Phase, string> = {
  download: 'downloading',
  verify: 'checking files',
  unpack: 'unpacking',
  partition: 'writing shards',
  load: 'loading weights',
  'warm-up': 'warming up',
};

export class StartupProgress {
  readonly #logger: Logger;
  readonly #isTerminal: boolean;
  #bar: { key: string; bar: cliProgress.SingleBar; startMs: number } | null = null;
  /** What was logged last, by model and phase. */
  readonly #logged = new Map<string, { tenths: number; atMs: number }>();

  constructor(logger: Logger, isTerminal: boolean) {
    this.#logger = logger;
    this.#isTerminal = isTerminal;
  }

  update(model: string, phase: Phase, doneBytes: number, totalBytes: number): void {
    if (totalBytes <= 0) return;
    if (this.#isTerminal) this.#draw(model, phase, doneBytes, totalBytes);
    else this.#log(model, phase, doneBytes, totalBytes);
  }

  stop(): void {
    this.#bar?.bar.stop();
    this.#bar = null;
  }

  #draw(model: string, phase: Phase, doneBytes: number, totalBytes: number): void {
    const key = `${model} ${phase}`;
    if (this.#bar?.key !== key) {
      this.stop();
      const bar = new cliProgress.SingleBar({
        format: `${model}: ${VERBS[phase]} [{bar}] {percentage}% of {size} MiB, {speed} MiB/s`,
        hideCursor: true,
        clearOnComplete: true,
      });
      bar.start(totalBytes, 0, { size: (totalBytes / MIB).toFixed(1), speed: '0.0' });
      this.#bar = { key, bar, startMs: performance.now() };
    }
    const seconds = (performance.now() - this.#bar.startMs) / 1000;
    this.#bar.bar.update(doneBytes, { speed: (doneBytes / MIB / Math.max(seconds, 0.001)).toFixed(1) });
    if (doneBytes >= totalBytes) this.stop();
  }

  #log(model: string, phase: Phase, doneBytes: number, totalBytes: number): void {
    const key = `${model} ${phase}`;
    const tenths = Math.floor((10 * doneBytes) / totalBytes);
    const nowMs = performance.now();
    const last = this.#logged.get(key);
    const isDone = doneBytes >= totalBytes;
    if (last && (tenths === last.tenths || (!isDone && nowMs - last.atMs < LOG_INTERVAL_MS))) return;
    this.#logged.delete(key);
    this.#logged.set(key, { tenths, atMs: nowMs });
    const [oldest] = this.#logged.keys();
    if (this.#logged.size > MAX_PHASES && oldest !== undefined) this.#logged.delete(oldest);
    this.#logger.info({ model }, `${VERBS[phase]}: ${tenths * 10} % of ${(totalBytes / MIB).toFixed(1)} MiB`);
  }
}
