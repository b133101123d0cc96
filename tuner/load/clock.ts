/**
 * Time as the load generator sees it, so that a test may give it another.
 *
 * In      the system's monotonic clock, the same in all processes of the host
 * Out     now, and a wait until a time
 * Limits  a timer of Node fires up to a millisecond late: the last of it is spent in turns of the event loop, which answers still
 *         get; spinMs says how much that was, since it is no work
 */
import { monotonicMs } from './monotonic.js';

export interface Clock {
  nowMs(): number;
  /** Resolves at that time, or at once when it is over or the signal is aborted. */
  until(timeMs: number, signal?: AbortSignal): Promise<void>;
  /** Time spent in waiting by turns of the loop. */
  readonly spinMs: number;
}

/** Shorter than this is not left to a timer. */
const TIMER_MS = 1.5;

export class SystemClock implements Clock {
  spinMs = 0;

  nowMs(): number {
    return monotonicMs();
  }

  async until(timeMs: number, signal?: AbortSignal): Promise<void> {
    const left = timeMs - monotonicMs();
    if (left > TIMER_MS) await sleep(left - TIMER_MS, signal);
    const spinFrom = monotonicMs();
    let now = spinFrom;
    while (now < timeMs && !signal?.aborted) {
      await new Promise((resolve) => setImmediate(resolve));
      now = monotonicMs();
    }
    this.spinMs += now - spinFrom;
  }
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
  });
}
