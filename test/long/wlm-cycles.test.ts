/** A hundred models registered and unregistered: memory does not grow, nothing is left; a leak of ten megabytes is seen. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  expectNothingMore,
  footprint,
  growth,
  leakMegabyte,
  MEASURED_ENVIRONMENT,
  median,
  registerCycle,
  residentBytes,
} from '../support/register-cycles.js';
import { ServerProcess } from '../support/server-process.js';

const MOST_GROWTH = 1.05;
const MB = 1024 * 1024;

let scratch: string;
let server: ServerProcess;
beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'cycles-'));
  server = await ServerProcess.start({
    ...MEASURED_ENVIRONMENT,
    TENSOR_PARALLEL_DEGREE: '2',
    TMPDIR: scratch,
    SERVING_LOG_LEVEL: 'info',
  });
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
  rmSync(scratch, { recursive: true });
});

it('memory of cycles 91 to 100 is at most 1.05 times that of 11 to 20, and ten leaked megabytes are more', async () => {
  const rss: number[] = [];
  const cycles = async (count: number): Promise<void> => {
    for (let cycle = 0; cycle < count; cycle++) {
      await registerCycle(server, `cycle_${rss.length + 1}`);
      rss.push(await residentBytes(server));
    }
  };
  await cycles(10);
  const before = footprint(server, scratch);
  await cycles(90);
  expectNothingMore(footprint(server, scratch), before);
  const early = rss.slice(10, 20);
  const grown = growth(early, rss.slice(90, 100));
  for (let leak = 0; leak < 10; leak++) await leakMegabyte(server);
  await cycles(10);
  const leaking = growth(early, rss.slice(100, 110));
  console.info(
    `resident: ${(median(early) / MB).toFixed(1)} MB early, × ${grown.toFixed(4)} after 100 cycles, × ${leaking.toFixed(4)} with a leak`,
  );
  expect(grown).toBeLessThanOrEqual(MOST_GROWTH);
  expect(leaking).toBeGreaterThan(MOST_GROWTH);
  expect(await server.stop()).toBe(0);
});
