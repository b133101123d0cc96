/**
 * Whether the load generator tells the truth by the clock: open loops at half, four fifths and nineteen twentieths of what a server
 * of known service time can do, their waits beside arithmetic's.
 *
 * Run     node dist/bench/load/known-service.js [--service-ms N] [--requests N] [--seed N]
 * Out     a table: the mean wait and that of 99 in 100, as seen and as Lindley's recursion says of the same arrivals; M/D/1 beside
 *         them, from which a few thousand arrivals stray by chance. Exit 1: a mean off by more than 5 %, a p99 by more than 10 %,
 *         or the generator said that it was the bottleneck
 * How     a wait is the latency less the service and less what an exchange takes without a queue, the median of a slow even load
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DjlDialect } from '../../tuner/dialects/djl.js';
import { evenArrivals, poissonArrivals } from '../../tuner/load/arrivals.js';
import { SystemClock } from '../../tuner/load/clock.js';
import { LoadRun } from '../../tuner/load/load-run.js';
import { OwnShareWatch } from '../../tuner/load/own-share.js';
import { latencyMs } from '../../tuner/load/request-record.js';
import { mean, percentileOfSorted } from '../../tuner/statistics/percentile.js';
import { wholeNumber } from '../whole-number.js';
import { meanWait, waitPercentile, waitsOf } from './queueing.js';

const LOADS = [0.5, 0.8, 0.95];
const IDLE_LOAD = 0.2;
const IDLE_REQUESTS = 100;
const MEAN_WITHIN = 0.05;
const P99_WITHIN = 0.1;
const PAYLOAD = { kind: 'bytes', contentType: 'application/json', body: Buffer.from('{}') } as const;

interface Seen {
  latenciesMs: number[];
  bottleneck: string | null;
}

async function ask(url: string, times: Iterator<number>, requests: number): Promise<Seen> {
  const clock = new SystemClock();
  const dialect = new DjlDialect({ url, model: 'any', stream: false, headers: {}, parameters: {} });
  try {
    const share = new OwnShareWatch(clock);
    const { latenessP99Ms, records } = await new LoadRun(
      {
        arrivals: { kind: 'open', times },
        warmUp: { ms: 0, requests: 0 },
        windows: { ms: 1000, requests: 1, most: 1, agree: 1, within: 1 },
        requests,
        requestTimeoutMs: 600_000,
        maxOutstanding: requests,
      },
      { clock, ask: (payload, signal) => dialect.ask(payload, signal), payload: () => PAYLOAD },
    ).run();
    const failed = records.find(({ error }) => error !== null);
    if (failed) throw new Error(`a request failed: ${failed.error}`);
    const latenciesMs = records.map(latencyMs);
    return { latenciesMs, bottleneck: share.end(latenessP99Ms, mean(latenciesMs)).bottleneck };
  } finally {
    dialect.close();
  }
}

const p99 = (values: ArrayLike<number>): number => percentileOfSorted(Float64Array.from(values).sort(), 0.99);

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      'service-ms': { type: 'string', default: '20' },
      requests: { type: 'string', default: '2500' },
      seed: { type: 'string', default: '3' },
    },
  });
  const serviceMs = wholeNumber('service-ms', values['service-ms'], 1);
  const requests = wholeNumber('requests', values.requests, 100);
  const seed = wholeNumber('seed', values.seed, 0);
  const program = fileURLToPath(new URL('one-at-a-time.js', import.meta.url));
  const server = spawn(process.execPath, [program, String(serviceMs)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    const [line] = (await once(server.stdout, 'data')) as [Buffer];
    const url = `http://127.0.0.1:${Number(String(line))}`;
    const rate = (load: number): number => (1000 * load) / serviceMs;
    const idle = (await ask(url, evenArrivals(rate(IDLE_LOAD)), IDLE_REQUESTS)).latenciesMs;
    const exchangeMs = percentileOfSorted(Float64Array.from(idle).sort(), 0.5) - serviceMs;
    console.log(
      `service ${serviceMs} ms, ${requests} requests a load; an exchange takes ${exchangeMs.toFixed(2)} ms`,
    );
    console.log('load   mean wait: seen, arithmetic, off   p99: seen, arithmetic, off   M/D/1: mean, p99');
    let isGood = true;
    for (const load of LOADS) {
      const seen = await ask(url, poissonArrivals(rate(load), seed), requests);
      const waits = seen.latenciesMs.map((latency) => latency - serviceMs - exchangeMs);
      const times = poissonArrivals(rate(load), seed);
      const expected = waitsOf(
        Array.from({ length: requests }, () => times.next().value as number),
        serviceMs,
      );
      const meanExpected = mean([...expected]);
      const meanOff = mean(waits) / meanExpected - 1;
      const p99Off = p99(waits) / p99(expected) - 1;
      const ms = (value: number): string => value.toFixed(1).padStart(8);
      const off = (value: number): string => `${(100 * value).toFixed(1)} %`.padStart(8);
      console.log(
        `${load.toFixed(2)}   ${ms(mean(waits))} ${ms(meanExpected)} ${off(meanOff)}   ` +
          `${ms(p99(waits))} ${ms(p99(expected))} ${off(p99Off)}   ` +
          `${ms(meanWait(load, serviceMs))} ${ms(waitPercentile(load, serviceMs, 0.99))}`,
      );
      if (seen.bottleneck !== null) console.log(`       ${seen.bottleneck}`);
      isGood &&=
        Math.abs(meanOff) <= MEAN_WITHIN && Math.abs(p99Off) <= P99_WITHIN && seen.bottleneck === null;
    }
    return isGood ? 0 : 1;
  } finally {
    server.stdin.end();
  }
}

process.exitCode = await main(process.argv.slice(2));
