/** The end of the server: its order, and that all of it has one budget of time (it took twice drain_timeout and more). */
import { expect, it } from 'vitest';
import { stopServer } from '../../../server/stop-server.js';

async function stopped(drainMs: number, requestsMs: number): Promise<string[]> {
  let now = 5000;
  const steps: string[] = [];
  const listener = (name: string) => ({
    setDraining: () => void steps.push(`${name} drains`),
    close: async (limitMs: number) => void steps.push(`${name} closes within ${limitMs}`),
  });
  await stopServer(
    {
      http: listener('http'),
      grpc: listener('grpc'),
      manager: {
        drain: async (limitMs) => {
          steps.push(`requests end within ${limitMs}`);
          now += requestsMs;
        },
        close: async () => void steps.push('workers end'),
      },
      log: { close: async () => void steps.push('log ends') },
    },
    drainMs,
    () => now,
  );
  return steps;
}

it.each([
  [30_000, 0, 30_000],
  [30_000, 12_000, 18_000],
  [30_000, 30_000, 1000],
  [0, 0, 0],
])('of %i ms, of which requests took %i, their readers get %i', async (drainMs, requestsMs, leftMs) => {
  expect(await stopped(drainMs, requestsMs)).toEqual([
    'http drains',
    'grpc drains',
    `requests end within ${drainMs}`,
    'workers end',
    `http closes within ${leftMs}`,
    `grpc closes within ${leftMs}`,
    'log ends',
  ]);
});
