/**
 * How late the server's event loop runs what is due: prom-client's `nodejs_eventloop_lag_…` by fewer looks.
 *
 * In      a registry that has prom-client's default metrics
 * Out     the same names; each scrape shows what came since the last, `nodejs_eventloop_lag_seconds` what it met itself
 * Limits  a look each SAMPLE_MS: a stall of less may fall between two, one that is longer is seen
 * Why     prom-client looks every 10 ms, and each look takes a core from a rank for a moment, also while nobody asks. Its
 *         values have the 10 ms in them; these are the lag alone
 */
import { createHistogram } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

const SAMPLE_MS = 500;
const NS_A_MS = 1e6;
const NS_A_SECOND = 1e9;
const NAME = 'nodejs_eventloop_lag';

/** For `eventLoopMonitoringPrecision` of prom-client: a histogram that is never looked at again need not wake anybody. */
export const NEVER_MS = 2 ** 31 - 1;

export function registerEventLoopLag(registry: Registry, sampleMs = SAMPLE_MS): void {
  const histogram = createHistogram();
  let dueMs = performance.now() + sampleMs;
  const look = (): void => {
    const nowMs = performance.now();
    // The histogram takes whole numbers from 1 on.
    histogram.record(Math.max(1, Math.round((nowMs - dueMs) * NS_A_MS)));
    dueMs = nowMs + sampleMs;
  };
  setInterval(look, sampleMs).unref();

  let isRead = false;
  /** All values of one scrape are of the same time. */
  const read = (ns: () => number): number => {
    if (!isRead) {
      isRead = true;
      setImmediate(() => {
        isRead = false;
        histogram.reset();
      });
    }
    return histogram.count === 0 ? 0 : ns() / NS_A_SECOND;
  };
  const gauge = (name: string, help: string, seconds: () => number | Promise<number>): void => {
    registry.removeSingleMetric(name);
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        this.set(await seconds());
      },
    });
  };
  gauge(`${NAME}_seconds`, 'Lag of the event loop as this scrape met it.', async () => {
    const startedMs = performance.now();
    await new Promise((resolve) => setImmediate(resolve));
    return (performance.now() - startedMs) / 1000;
  });
  for (const of of ['min', 'max', 'mean', 'stddev'] as const) {
    gauge(`${NAME}_${of}_seconds`, `Lag of the event loop since the last scrape: ${of}.`, () =>
      read(() => histogram[of]),
    );
  }
  for (const percent of [50, 90, 99]) {
    gauge(`${NAME}_p${percent}_seconds`, `Lag of the event loop since the last scrape: p${percent}.`, () =>
      read(() => histogram.percentile(percent)),
    );
  }
}
