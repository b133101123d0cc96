/**
 * One load on one server: warm-up, then windows until they agree.
 *
 * In      what asks, what is asked, when it is asked (closed loop, open loop, trace), a clock
 * Out     LoadResult: the records of the windows that count, whether they agreed, how late the generator itself was
 * Limits  at most maxWindows windows, each at most WINDOW_STRETCH of its length; maxOutstanding requests at once: one more is recorded as
 *         CLIENT_LIMIT; requestTimeoutMs a request
 * Errors  none of the server's: they are records. The signal ends the load early; what was measured until then comes back
 * How     an open loop counts from the intended start, so what waits in the client waited; requests that still run at the end are
 *         hung up on, and counted as unfinished
 */
import { setMaxListeners } from 'node:events';
import type { Answer, Payload } from '../dialects/dialect.js';
import { percentile } from '../statistics/percentile.js';
import type { TraceLine } from './arrivals.js';
import type { Clock } from './clock.js';
import { latencyMs, type RequestRecord } from './request-record.js';

export type Arrivals =
  | { kind: 'closed'; concurrency: number }
  | { kind: 'open'; times: Iterator<number> }
  | { kind: 'trace'; lines: readonly TraceLine[] };

export interface LoadOptions {
  arrivals: Arrivals;
  warmUp: { ms: number; requests: number };
  windows: { ms: number; requests: number; most: number; agree: number; within: number };
  /** So many requests in one window instead; null: windows. */
  requests: number | null;
  requestTimeoutMs: number;
  maxOutstanding: number;
}

export interface LoadParts {
  ask: (payload: Payload, signal: AbortSignal) => Promise<Answer>;
  payload: (index: number, trace?: TraceLine) => Payload;
  clock: Clock;
  /** Every record as it is made: a file of JSON lines. */
  onRecord?: (record: RequestRecord) => void;
  /** The warm-up is over. */
  onMeasuring?: () => void;
  signal?: AbortSignal;
}

export interface WindowSummary {
  from_ms: number;
  to_ms: number;
  requests: number;
  errors: number;
  throughput_per_s: number;
  latency_mean_ms: number;
}

export interface LoadResult {
  /** Those of the windows that count, in the order they ended. */
  records: RequestRecord[];
  /** All that were measured. */
  windows: WindowSummary[];
  /** The last of them, which count. */
  counted: WindowSummary[];
  /** false: maxWindows were over before they agreed. */
  isStable: boolean;
  /** (largest − least) / mean of what is compared, the larger of throughput and mean latency. */
  spread: number;
  durationMs: number;
  latenessP99Ms: number;
  unfinished: number;
  wasStopped: boolean;
}

/** A window without enough requests may last so many times its length. */
const WINDOW_STRETCH = 10;
const DEADLINE_LOOK_MS = 250;
/** How long a client of a closed loop waits after an error. */
const ERROR_PAUSE_MS = 10;

export class LoadRun {
  readonly #options: LoadOptions;
  readonly #parts: LoadParts;
  readonly #stop = new AbortController();
  readonly #lateMs: number[] = [];
  readonly #running = new Set<Promise<boolean>>();
  /** All have the same limit: the first is the next to pass it. */
  readonly #deadlines = new Map<AbortController, number>();
  #open: RequestRecord[] = [];
  #phase: RequestRecord['phase'] = 'warm-up';
  #window: number | null = null;
  #launched = 0;
  #noted = 0;
  #counted = 0;
  #wake = (): void => {};

  constructor(options: LoadOptions, parts: LoadParts) {
    this.#options = options;
    this.#parts = parts;
    // Every client may wait for it at once.
    setMaxListeners(0, this.#stop.signal);
  }

  async run(): Promise<LoadResult> {
    const { clock, signal } = this.#parts;
    const onAbort = (): void => this.#end('CLIENT_CANCELLED');
    signal?.addEventListener('abort', onAbort);
    if (signal?.aborted) onAbort();
    const startMs = clock.nowMs();
    const { warmUp } = this.#options;
    if (warmUp.ms === 0 && warmUp.requests === 0) this.#phase = 'window';
    const launching = this.#launch(startMs);
    const overdue = setInterval(() => this.#endOverdue(), DEADLINE_LOOK_MS).unref();
    try {
      return await this.#measure(startMs, launching);
    } finally {
      clearInterval(overdue);
      this.#phase = 'unfinished';
      this.#end('CLIENT_CANCELLED');
      await launching;
      await Promise.all(this.#running);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #end(reason: string): void {
    if (!this.#stop.signal.aborted) this.#stop.abort(reason);
    for (const limit of this.#deadlines.keys()) limit.abort(reason);
    this.#wake();
  }

  #endOverdue(): void {
    const nowMs = this.#parts.clock.nowMs();
    for (const [limit, deadlineMs] of this.#deadlines) {
      if (deadlineMs > nowMs) return;
      this.#deadlines.delete(limit);
      limit.abort('CLIENT_TIMEOUT');
    }
  }

  /** Resolves when nothing more is to be started. */
  async #launch(startMs: number): Promise<void> {
    const { arrivals, maxOutstanding } = this.#options;
    const { clock } = this.#parts;
    const { signal } = this.#stop;
    if (arrivals.kind === 'closed') {
      const client = async (): Promise<void> => {
        while (!signal.aborted && this.#wantsMore()) {
          const isGood = await this.#one(clock.nowMs());
          // A server that refuses at once would be asked as fast as this loop turns.
          if (!isGood) await clock.until(clock.nowMs() + ERROR_PAUSE_MS, signal);
        }
      };
      await Promise.all(Array.from({ length: arrivals.concurrency }, client));
      return;
    }
    const times = arrivals.kind === 'open' ? arrivals.times : arrivals.lines.values();
    for (let next = times.next(); !next.done && this.#wantsMore(); next = times.next()) {
      const trace = typeof next.value === 'number' ? undefined : next.value;
      const intendedMs = startMs + (typeof next.value === 'number' ? next.value : next.value.offsetMs);
      await clock.until(intendedMs, signal);
      if (signal.aborted) return;
      if (this.#running.size >= maxOutstanding) {
        this.#refused(intendedMs);
        continue;
      }
      const running = this.#one(intendedMs, trace).finally(() => {
        this.#running.delete(running);
        this.#wake();
      });
      this.#running.add(running);
    }
  }

  /** A number of requests is a number of those that count. */
  #wantsMore(): boolean {
    const { requests } = this.#options;
    return requests === null || this.#phase === 'warm-up' || this.#counted < requests;
  }

  #refused(intendedMs: number): void {
    const nowMs = this.#parts.clock.nowMs();
    this.#note({
      ...blank(this.#launched++, intendedMs, nowMs),
      ended_ms: nowMs,
      error: 'CLIENT_LIMIT',
    });
  }

  /** @returns whether it went well */
  async #one(intendedMs: number, trace?: TraceLine): Promise<boolean> {
    const { ask, clock, payload } = this.#parts;
    const index = this.#launched++;
    if (this.#phase === 'window') this.#counted++;
    const request = payload(index, trace);
    const startedMs = clock.nowMs();
    this.#lateMs.push(startedMs - intendedMs);
    const limit = new AbortController();
    this.#deadlines.set(limit, startedMs + this.#options.requestTimeoutMs);
    const answer = await ask(request, limit.signal);
    this.#deadlines.delete(limit);
    const [first = null] = answer.tokenTimesMs;
    const times = answer.tokenTimesMs;
    this.#note({
      ...blank(index, intendedMs, startedMs),
      first_token_ms: first,
      ended_ms: clock.nowMs(),
      token_gaps_ms: times.slice(1).map((timeMs, at) => timeMs - times[at]!),
      tokens_in: answer.tokensIn ?? (request.kind === 'text' ? request.promptTokens : null),
      tokens_out: answer.tokensOut,
      error: answer.error,
    });
    return answer.error === null;
  }

  #note(record: RequestRecord): void {
    record.phase = this.#phase;
    record.window = this.#phase === 'window' ? this.#window : null;
    this.#noted++;
    this.#open.push(record);
    this.#parts.onRecord?.(record);
    this.#wake();
  }

  async #measure(startMs: number, launching: Promise<void>): Promise<LoadResult> {
    const { arrivals, requests, warmUp, windows: plan } = this.#options;
    const { clock } = this.#parts;
    let isLaunched = false;
    void launching.then(() => {
      isLaunched = true;
      this.#wake();
    });
    const wholeTrace = arrivals.kind === 'trace';
    await this.#until(
      startMs + warmUp.ms,
      warmUp.requests,
      startMs + Math.max(1, warmUp.ms) * WINDOW_STRETCH,
    );
    const windows: { summary: WindowSummary; records: RequestRecord[] }[] = [];
    this.#phase = 'window';
    this.#parts.onMeasuring?.();
    const isOne = requests !== null || wholeTrace;
    for (let index = 0; index < (isOne ? 1 : plan.most) && !this.#stop.signal.aborted; index++) {
      this.#window = index;
      this.#open = [];
      const fromMs = clock.nowMs();
      if (isOne) {
        await this.#event(() =>
          wholeTrace ? isLaunched && this.#running.size === 0 : this.#open.length >= requests!,
        );
      } else {
        await this.#until(fromMs + plan.ms, plan.requests, fromMs + plan.ms * WINDOW_STRETCH);
      }
      windows.push({ summary: summary(this.#open, fromMs, clock.nowMs()), records: this.#open });
      if (windows.length >= plan.agree && spreadOf(windows.slice(-plan.agree)) <= plan.within) break;
    }
    const counted = windows.slice(isOne ? 0 : -plan.agree);
    const spread = spreadOf(counted);
    const first = counted[0]?.summary.from_ms ?? startMs;
    return {
      records: counted.flatMap(({ records }) => records),
      windows: windows.map(({ summary: one }) => one),
      counted: counted.map(({ summary: one }) => one),
      isStable: isOne || (counted.length >= plan.agree && spread <= plan.within),
      spread,
      durationMs: (counted.at(-1)?.summary.to_ms ?? startMs) - first,
      latenessP99Ms: percentile(this.#lateMs, 0.99),
      unfinished: this.#launched - this.#noted,
      wasStopped: this.#stop.signal.aborted,
    };
  }

  /** Until a time and so many records; without these at most until `latestMs`. */
  async #until(timeMs: number, requests: number, latestMs: number): Promise<void> {
    const { clock } = this.#parts;
    await clock.until(timeMs, this.#stop.signal);
    if (this.#open.length >= requests) return;
    const enough = new AbortController();
    const late = clock.until(latestMs, AbortSignal.any([this.#stop.signal, enough.signal]));
    await Promise.race([late, this.#event(() => this.#open.length >= requests)]);
    enough.abort();
    await late;
  }

  async #event(isTrue: () => boolean): Promise<void> {
    while (!isTrue() && !this.#stop.signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = () => {};
  }
}

const blank = (index: number, intendedMs: number, startedMs: number): RequestRecord => ({
  index,
  intended_ms: intendedMs,
  started_ms: startedMs,
  first_token_ms: null,
  ended_ms: startedMs,
  token_gaps_ms: [],
  tokens_in: null,
  tokens_out: null,
  error: null,
  phase: 'unfinished',
  window: null,
});

function summary(records: readonly RequestRecord[], fromMs: number, toMs: number): WindowSummary {
  const good = records.filter(({ error }) => error === null);
  const latency = good.reduce((sum, record) => sum + latencyMs(record), 0) / good.length;
  return {
    from_ms: fromMs,
    to_ms: toMs,
    requests: records.length,
    errors: records.length - good.length,
    throughput_per_s: (1000 * good.length) / (toMs - fromMs),
    latency_mean_ms: good.length === 0 ? 0 : latency,
  };
}

function spreadOf(windows: readonly { summary: WindowSummary }[]): number {
  const relative = (values: readonly number[]): number => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    if (values.length === 0 || mean === 0) return Number.POSITIVE_INFINITY;
    return (Math.max(...values) - Math.min(...values)) / mean;
  };
  return Math.max(
    relative(windows.map(({ summary: one }) => one.throughput_per_s)),
    relative(windows.map(({ summary: one }) => one.latency_mean_ms)),
  );
}
