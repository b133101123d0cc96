/** Models that are registered and unregistered leave nothing; five cycles here, a hundred and their memory in test/long. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectNothingMore, footprint, registerCycle } from '../support/register-cycles.js';
import { ServerProcess } from '../support/server-process.js';

let scratch: string;
let server: ServerProcess;
beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'cycles-'));
  server = await ServerProcess.start({ TENSOR_PARALLEL_DEGREE: '2', TMPDIR: scratch });
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
  rmSync(scratch, { recursive: true });
});

describe('five cycles of register, ask, unregister', () => {
  it('leave no process, socket or file, beside the model that stays', async () => {
    await registerCycle(server, 'cycle_0');
    const before = footprint(server, scratch);
    // Two ranks, and the process of the model's tokenizer.
    expect(before).toMatchObject({ processes: 3 });
    for (let cycle = 1; cycle <= 5; cycle++) await registerCycle(server, `cycle_${cycle}`);
    expectNothingMore(footprint(server, scratch), before);
    const { models } = (await (await fetch(`${server.url}/models`)).json()) as { models: unknown[] };
    expect(models).toHaveLength(1);
    expect(await server.stop()).toBe(0);
  });
});
