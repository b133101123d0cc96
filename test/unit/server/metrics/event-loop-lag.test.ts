import { collectDefaultMetrics, Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { NEVER_MS, registerEventLoopLag } from '../../../../server/metrics/event-loop-lag.js';

const SAMPLE_MS = 500;

describe('the lag of the event loop', () => {
  let registry: Registry;
  let nowMs = 0;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval'] });
    nowMs = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
    registry = new Registry();
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: NEVER_MS });
    registerEventLoopLag(registry, SAMPLE_MS);
  });

  afterEach(() => {
    vi.restoreAllMocks();
    vi.useRealTimers();
  });

  const lookAfter = (ms: number): void => {
    nowMs += ms;
    vi.advanceTimersToNextTimer();
  };
  const seconds = async (of: string): Promise<number> => {
    const text = await registry.getSingleMetricAsString(`nodejs_eventloop_lag_${of}_seconds`);
    return Number(/^nodejs_eventloop_lag_\w+_seconds (\S+)$/m.exec(text)?.[1]);
  };

  it('is what a look came late, without the time between two looks', async () => {
    lookAfter(SAMPLE_MS + 40);
    expect(await seconds('max')).toBeCloseTo(0.04, 3);
  });

  it('begins anew after a scrape, all of which is of the same time', async () => {
    lookAfter(SAMPLE_MS);
    lookAfter(SAMPLE_MS + 80);
    const [min, max] = await Promise.all([seconds('min'), seconds('max')]);
    expect(min).toBeLessThan(0.001);
    expect(max).toBeCloseTo(0.08, 3);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await seconds('max')).toBe(0);
    lookAfter(SAMPLE_MS + 10);
    expect(await seconds('p99')).toBeCloseTo(0.01, 3);
  });

  it("leaves prom-client's names as they were", async () => {
    const theirs = new Registry();
    collectDefaultMetrics({ register: theirs, eventLoopMonitoringPrecision: NEVER_MS });
    const names = (of: Registry): string[] =>
      of
        .getMetricsAsArray()
        .map(({ name }) => name)
        .sort();
    expect(names(registry)).toEqual(names(theirs));
  });
});
