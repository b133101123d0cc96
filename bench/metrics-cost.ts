/**
 * What the metrics cost on the hot path: nanoseconds a token and a step, and bytes of heap a token; and how long a scrape takes.
 *
 * Run     node --expose-gc dist/bench/metrics-cost.js
 * Out     one line each; against prom-client's own counter and histogram, filled by label, which the server avoids
 */
import { Counter, Histogram, Registry } from 'prom-client';
import { ServerMetrics } from '../server/metrics/server-metrics.js';

const TOKENS = 5_000_000;
const ROUNDS = 5;

const metrics = new ServerMetrics({
  prometheus: true,
  version: '0',
  processMetrics: false,
  lines: null,
  host: 'bench',
});
const model = metrics.observe({ name: 'bench', version: null }, () => ({
  ready: true,
  jobsWaiting: 0,
  groups: [],
}));

const registry = new Registry();
const labels = { model: 'bench', version: '' };
const tokens = new Counter({
  name: 't_total',
  help: 't',
  labelNames: ['model', 'version'],
  registers: [registry],
});
const gaps = new Histogram({
  name: 'g',
  help: 'g',
  labelNames: ['model', 'version'],
  registers: [registry],
});

/** Gaps as they come: around 10 ms, some of 100 ms. */
const gapMs = (index: number): number => 8 + (index % 7) + (index % 101 === 0 ? 100 : 0);

function measure(name: string, count: number, run: (index: number) => void): void {
  let best = Number.POSITIVE_INFINITY;
  let heapBytes = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    globalThis.gc?.();
    const heap = process.memoryUsage().heapUsed;
    const started = performance.now();
    for (let index = 0; index < count; index++) run(index);
    best = Math.min(best, (performance.now() - started) * 1e6);
    heapBytes = Math.min(heapBytes, process.memoryUsage().heapUsed - heap);
  }
  const bytes = Math.max(0, heapBytes) / count;
  process.stdout.write(
    `${name}: ${(best / count).toFixed(1)} ns, ${bytes.toFixed(2)} bytes of heap (best of ${ROUNDS} × ${count})\n`,
  );
}

measure('a token', TOKENS, (index) => model.nextToken(gapMs(index)));
measure('a step', TOKENS / 5, (index) => model.stepDone(1 + (index % 32), 9000 + (index % 99), 700, 300));
measure('a token by labels of prom-client', TOKENS / 10, (index) => {
  tokens.inc(labels);
  gaps.observe(labels, gapMs(index) / 1000);
});

for (let index = 1; index < 20; index++) {
  metrics.observe({ name: `m${index}`, version: 'v1' }, () => ({
    ready: true,
    jobsWaiting: 0,
    groups: [],
  }));
}
const started = performance.now();
const text = await metrics.text();
process.stdout.write(
  `a scrape of 20 models: ${(performance.now() - started).toFixed(1)} ms, ${text.length} characters\n`,
);
