/**
 * How fast a queue empties, from the jobs that have left it for a slot.
 *
 * In      a call for each batch of jobs taken; a number of jobs ahead
 * Out     whole seconds until so many will have been taken
 * Limits  MIN_SECONDS … MAX_SECONDS; jobs taken further back than WINDOW_MS are forgotten
 * Pure    times are arguments
 */
const WINDOW_MS = 30_000;
/** Counted in so many pieces, the oldest of which is dropped as a whole. */
const PIECES = 30;
const MIN_SECONDS = 1;
const MAX_SECONDS = 300;
/** Jobs start in bursts: fewer, or in less time, are no rate. */
const MIN_TAKEN = 8;
const MIN_ELAPSED_MS = 10_000;

export class DrainRate {
  readonly #pieces: { startMs: number; jobs: number }[] = [];

  taken(jobs: number, nowMs: number): void {
    this.#forget(nowMs);
    const last = this.#pieces.at(-1);
    if (last && nowMs - last.startMs < WINDOW_MS / PIECES) last.jobs += jobs;
    else this.#pieces.push({ startMs: nowMs, jobs });
  }

  /** Nothing taken lately: MIN_SECONDS, since nothing is known. */
  secondsFor(jobs: number, nowMs: number): number {
    this.#forget(nowMs);
    const taken = this.#pieces.reduce((sum, piece) => sum + piece.jobs, 0);
    const first = this.#pieces[0];
    if (!first || taken === 0) return MIN_SECONDS;
    const seconds = (jobs * Math.max(nowMs - first.startMs, 1)) / taken / 1000;
    return Math.min(Math.max(Math.ceil(seconds), MIN_SECONDS), MAX_SECONDS);
  }

  /** As secondsFor, not rounded; null: too little was taken lately to say. */
  expectedMs(jobs: number, nowMs: number): number | null {
    this.#forget(nowMs);
    const taken = this.#pieces.reduce((sum, piece) => sum + piece.jobs, 0);
    const elapsedMs = nowMs - (this.#pieces[0]?.startMs ?? nowMs);
    if (taken < MIN_TAKEN || elapsedMs < MIN_ELAPSED_MS) return null;
    return (jobs * elapsedMs) / taken;
  }

  #forget(nowMs: number): void {
    while (this.#pieces[0] && nowMs - this.#pieces[0].startMs > WINDOW_MS) this.#pieces.shift();
  }
}
