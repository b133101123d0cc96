/** The partitioner that a server starts has a bounded heap. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { planThenShards } from '../../../server/model-store/ensure-shards.js';

const root = mkdtempSync(path.join(tmpdir(), 'shardserve-heap-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** @param source of a program that stands for the partitioner */
function planBy(source: string) {
  const program = path.join(root, 'program.mjs');
  writeFileSync(program, source);
  return planThenShards({ program, partition: { folder: root, store: root, tp: 1, dtype: 'fp32' } });
}

it('of 2 GiB and what V8 adds for the young', async () => {
  const told = planBy(
    `import v8 from 'node:v8';
     const message = String(v8.getHeapStatistics().heap_size_limit / 1048576);
     console.log(JSON.stringify({ event: 'error', code: 'BAD_REQUEST', message }));`,
  );
  const megabytes = Number(await told.catch((error: Error) => error.message));
  expect(megabytes).toBeGreaterThanOrEqual(2048);
  expect(megabytes).toBeLessThan(2300);
});

it("and one that dies of it is the checkpoint's fault, not the server's", async () => {
  // What V8 says then, without the minutes that filling 2 GiB takes.
  await expect(
    planBy(
      "console.error('FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory'); process.abort();",
    ),
  ).rejects.toMatchObject({
    code: 'CHECKPOINT_INVALID',
    message: expect.stringContaining('more than 2048 MB'),
  });
});
