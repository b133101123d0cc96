/** The load generator on a server whose waits are known by arithmetic, in time that a test makes pass. */
import { describe, expect, it } from 'vitest';
import { meanWait, waitPercentile, waitsOf } from '../../../../bench/load/queueing.js';
import type { Answer } from '../../../../tuner/dialects/dialect.js';
import { evenArrivals, poissonArrivals } from '../../../../tuner/load/arrivals.js';
import { figuresOf } from '../../../../tuner/load/figures.js';
import { type LoadOptions, LoadRun } from '../../../../tuner/load/load-run.js';
import { latencyMs, type RequestRecord } from '../../../../tuner/load/request-record.js';
import { percentileOfSorted } from '../../../../tuner/statistics/percentile.js';
import { VirtualClock } from '../../../fixtures/virtual-clock.js';

const SERVICE_MS = 10;
const PAYLOAD = { kind: 'text', prompt: 'a', promptTokens: 1, maxNewTokens: 1 } as const;
const good = (timeMs: number): Answer => ({
  tokenTimesMs: [timeMs],
  tokensIn: 1,
  tokensOut: 1,
  error: null,
});

/** One request at a time, first come first served. */
class OneServer {
  freeMs = 0;
  asked = 0;
  readonly #clock: VirtualClock;
  readonly #serviceMs: (index: number) => number;

  constructor(clock: VirtualClock, serviceMs: (index: number) => number = () => SERVICE_MS) {
    this.#clock = clock;
    this.#serviceMs = serviceMs;
  }

  ask = async (_payload: unknown, signal: AbortSignal): Promise<Answer> => {
    const service = this.#serviceMs(this.asked++);
    const doneMs = Math.max(this.#clock.nowMs(), this.freeMs) + service;
    this.freeMs = doneMs;
    await this.#clock.until(doneMs, signal);
    if (signal.aborted)
      return { tokenTimesMs: [], tokensIn: null, tokensOut: null, error: String(signal.reason) };
    return good(doneMs);
  };
}

/** Over the load generator's own arrivals. */
function waitsBehind(load: number, requests: number): Float64Array {
  const arrivals = poissonArrivals((1000 * load) / SERVICE_MS, 3);
  return waitsOf(
    Array.from({ length: requests }, () => arrivals.next().value as number),
    SERVICE_MS,
  );
}

const OPTIONS: Omit<LoadOptions, 'arrivals'> = {
  warmUp: { ms: 0, requests: 0 },
  windows: { ms: 1000, requests: 10, most: 10, agree: 3, within: 0.1 },
  requests: null,
  requestTimeoutMs: 1e9,
  maxOutstanding: 100_000,
};

const run = (
  options: Partial<LoadOptions> & Pick<LoadOptions, 'arrivals'>,
  clock: VirtualClock,
  ask: OneServer['ask'],
  onRecord?: (record: RequestRecord) => void,
) =>
  new LoadRun(
    { ...OPTIONS, ...options },
    { ask, clock, payload: () => PAYLOAD, ...(onRecord ? { onRecord } : {}) },
  ).run();

describe('an open loop on a server of known service time', () => {
  it.each([0.5, 0.8, 0.95])('at a load of %f sees each request wait as long as it did', async (load) => {
    const clock = new VirtualClock();
    const rate = (1000 * load) / SERVICE_MS;
    const { records } = await run(
      { arrivals: { kind: 'open', times: poissonArrivals(rate, 3) }, requests: 5000 },
      clock,
      new OneServer(clock).ask,
    );
    const expected = waitsBehind(load, 5000);
    expect(records).toHaveLength(5000);
    for (const record of records) {
      expect(latencyMs(record) - SERVICE_MS).toBeCloseTo(expected[record.index]!, 6);
    }
  });

  // The other half of the proof: what the same arrivals wait, over so many that chance has little say.
  it.each([
    [0.5, 1_000_000],
    [0.8, 1_000_000],
    [0.95, 4_000_000],
  ])('its arrivals at a load of %f wait as arithmetic says of M/D/1', (load, requests) => {
    const waits = waitsBehind(load, requests).sort();
    const total = waits.reduce((sum, wait) => sum + wait, 0);
    expect(Math.abs(total / requests / meanWait(load, SERVICE_MS) - 1)).toBeLessThan(0.05);
    const p99 = percentileOfSorted(waits, 0.99);
    expect(Math.abs(p99 / waitPercentile(load, SERVICE_MS, 0.99) - 1)).toBeLessThan(0.1);
  });

  it('counts what waits behind a pause of the server from the intended start', async () => {
    const clock = new VirtualClock();
    // The hundredth request takes two seconds: 200 arrivals wait behind it.
    const server = new OneServer(clock, (index) => (index === 100 ? 2000 : 1));
    const { records } = await run(
      { arrivals: { kind: 'open', times: evenArrivals(100) }, requests: 400 },
      clock,
      server.ask,
    );
    const behind = records.filter((record) => latencyMs(record) > 500);
    expect(behind.length).toBeGreaterThan(140);
    expect(records.every((record) => record.intended_ms % 10 < 1e-6)).toBe(true);
  });

  it('holds at most maxOutstanding requests, and records what it could not send', async () => {
    const clock = new VirtualClock();
    const server = new OneServer(clock, () => 1e6);
    const { records } = await run(
      {
        arrivals: { kind: 'open', times: evenArrivals(1000) },
        windows: { ms: 100, requests: 1, most: 1, agree: 1, within: 1 },
        maxOutstanding: 5,
      },
      clock,
      server.ask,
    );
    expect(server.asked).toBe(5);
    expect(new Set(records.map(({ error }) => error))).toEqual(new Set(['CLIENT_LIMIT']));
  });
});

describe('a closed loop', () => {
  it('keeps as many requests running as it has clients', async () => {
    const clock = new VirtualClock();
    const server = new OneServer(clock);
    const result = await run({ arrivals: { kind: 'closed', concurrency: 8 } }, clock, server.ask);
    expect(result.isStable).toBe(true);
    const figures = figuresOf(result.records, result.durationMs, null);
    expect(figures.throughput_per_s).toBeCloseTo(100, 0);
    expect(figures.latency_p50_ms).toBeCloseTo(80, 6);
    expect(result.unfinished).toBe(8);
  });

  it('drops the warm-up, and stops as soon as three windows agree', async () => {
    const clock = new VirtualClock();
    const seen: RequestRecord[] = [];
    // The first hundred are slow, as before a cache is warm.
    const server = new OneServer(clock, (index) => (index < 100 ? 50 : 10));
    const result = await run(
      { arrivals: { kind: 'closed', concurrency: 1 }, warmUp: { ms: 5000, requests: 100 } },
      clock,
      server.ask,
      (record) => seen.push(record),
    );
    expect(seen.filter(({ phase }) => phase === 'warm-up')).toHaveLength(100);
    expect(result.windows).toHaveLength(3);
    expect(result.records.every((record) => latencyMs(record) === 10)).toBe(true);
  });

  it('says that windows never agreed, and keeps the last of them', async () => {
    const clock = new VirtualClock();
    const server = new OneServer(clock, (index) => 1 + index);
    const result = await run({ arrivals: { kind: 'closed', concurrency: 1 } }, clock, server.ask);
    expect(result.isStable).toBe(false);
    expect(result.windows).toHaveLength(10);
    expect(result.counted).toHaveLength(3);
    expect(result.spread).toBeGreaterThan(0.1);
  });

  it('waits for the requests of a window longer than its time, but not for ever', async () => {
    const clock = new VirtualClock();
    const server = new OneServer(clock, () => 900);
    const windows = { ms: 1000, requests: 5, most: 1, agree: 1, within: 1 };
    const result = await run({ arrivals: { kind: 'closed', concurrency: 1 }, windows }, clock, server.ask);
    expect(result.windows).toMatchObject([{ requests: 5 }]);
    const stuck = new OneServer(clock, () => 1e9);
    const nothing = await run({ arrivals: { kind: 'closed', concurrency: 1 }, windows }, clock, stuck.ask);
    expect(nothing.windows).toMatchObject([{ requests: 0 }]);
    expect(nothing.windows[0]!.to_ms - nothing.windows[0]!.from_ms).toBe(10_000);
  });

  it('does not storm a server that refuses at once', async () => {
    const clock = new VirtualClock();
    const refused = { tokenTimesMs: [], tokensIn: null, tokensOut: null, error: 'ECONNREFUSED' };
    const windows = { ms: 1000, requests: 1, most: 1, agree: 1, within: 1 };
    const { records } = await run(
      { arrivals: { kind: 'closed', concurrency: 1 }, windows },
      clock,
      async () => refused,
    );
    expect(records.length).toBeLessThanOrEqual(101);
    expect(records.length).toBeGreaterThan(90);
  });

  it('makes exactly the requests that were asked for, when a number was', async () => {
    const clock = new VirtualClock();
    const server = new OneServer(clock);
    const result = await run(
      { arrivals: { kind: 'closed', concurrency: 3 }, requests: 30 },
      clock,
      server.ask,
    );
    expect(result.records).toHaveLength(30);
    expect(server.asked).toBe(30);
    expect(result.durationMs).toBe(300);
  });
});

it('a trace is played as it was recorded, with its own lengths', async () => {
  const clock = new VirtualClock();
  const asked: unknown[] = [];
  const lines = [
    { offsetMs: 0, promptTokens: 5 },
    { offsetMs: 40, promptTokens: 6 },
    { offsetMs: 41, promptTokens: 7 },
  ];
  const result = await new LoadRun(
    { ...OPTIONS, arrivals: { kind: 'trace', lines } },
    {
      clock,
      ask: async () => {
        await clock.until(clock.nowMs() + 5);
        return good(clock.nowMs());
      },
      payload: (_index, trace) => {
        asked.push(trace);
        return PAYLOAD;
      },
    },
  ).run();
  expect(asked).toEqual(lines);
  expect(result.records.map(({ started_ms: at }) => at)).toEqual([0, 40, 41]);
});

it('the signal ends a load, and what runs is hung up on', async () => {
  const clock = new VirtualClock();
  const server = new OneServer(clock);
  const abort = new AbortController();
  clock.at(1500, () => abort.abort());
  const result = await new LoadRun(
    { ...OPTIONS, arrivals: { kind: 'closed', concurrency: 4 }, windows: { ...OPTIONS.windows, within: 0 } },
    { ask: server.ask, clock, payload: () => PAYLOAD, signal: abort.signal },
  ).run();
  expect(result.wasStopped).toBe(true);
  expect(result.windows.at(-1)!.to_ms).toBe(1500);
});
