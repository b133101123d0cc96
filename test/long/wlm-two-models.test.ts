/**
 * Two models and two versions at once, tp 1 and tp 2: while one is saturated the other's requests do not wait for it.
 *
 * Half the capacity is half of what the model does with the machine to itself, and so are the waits that it is compared with. The
 * shard workers of both share the cores; the same load on a neighbour, another server that yields nothing, shows what the kernel
 * alone makes of that.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describedModel } from '../support/described-groups.js';
import { EMBEDDED } from '../support/known-answers.js';
import { ServerProcess } from '../support/server-process.js';
import { ModelLoad, p99 } from '../support/two-models-load.js';

const REQUESTS = 200;
const ROUNDS = 3;
const SLOTS = 8;

let scratch: string;
let server: ServerProcess;
let neighbour: ServerProcess;

/** The embedded model under another name, with keys of its own. */
function modelFolder(name: string, properties: string): string {
  const folder = path.join(scratch, name);
  mkdirSync(folder);
  for (const file of readdirSync(EMBEDDED)) {
    if (file !== 'serving.properties') symlinkSync(path.join(EMBEDDED, file), path.join(folder, file));
  }
  writeFileSync(path.join(folder, 'serving.properties'), properties);
  return folder;
}

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'two-models-'));
  const common = `option.max_rolling_batch_size=${SLOTS}\njob_queue_size=1000\noption.threads_per_rank=1\n`;
  const one = modelFolder('one', `${common}option.tensor_parallel_degree=1\n`);
  const two = modelFolder('two', `${common}option.tensor_parallel_degree=2\n`);
  const environment = { SERVING_LOAD_MODELS: `one=${one},two:1=${two},two:2=${one}` };
  server = await ServerProcess.start(environment);
  neighbour = await ServerProcess.start({ ...environment, SERVING_SATURATED_MODELS_YIELD: 'false' });
});
afterAll(async () => {
  for (const one of [server, neighbour]) {
    one?.kill('SIGKILL');
    await one?.exited;
  }
  rmSync(scratch, { recursive: true });
});

describe('two models, one of them in two versions', () => {
  it('run side by side at their own degrees', async () => {
    const versions = (await (await fetch(`${server.url}/models/two`)).json()) as { version: string }[];
    expect(versions.map(({ version }) => version)).toEqual(['1', '2']);
    const ranks = async (name: string) =>
      (await describedModel(server, name)).groups.map(({ pids }) => pids.length);
    expect([await ranks('one'), await ranks('two/1'), await ranks('two/2')]).toEqual([[1], [2], [1]]);
  });

  it.each([
    ['two/1', 'one'],
    ['one', 'two/1'],
  ])(
    '%s at half its capacity waits at most twice as long for a slot while %s is saturated',
    async (quiet, busy) => {
      const load = new ModelLoad(server, quiet, 2 * SLOTS);
      const other = new ModelLoad(server, busy, 4 * SLOTS);
      const neighbours = new ModelLoad(neighbour, busy, 4 * SLOTS);
      await load.capacity(100);
      const perSecond = (await load.capacity(REQUESTS)) / 2;
      await other.capacity(100);
      await neighbours.capacity(100);
      const waits = { alone: [] as number[], neighbour: [] as number[], beside: [] as number[] };
      for (let round = 0; round < ROUNDS; round++) {
        waits.alone.push(...(await load.waitsAt(perSecond, REQUESTS)));
        const stopNeighbour = neighbours.saturate();
        waits.neighbour.push(...(await load.waitsAt(perSecond, REQUESTS)));
        await stopNeighbour();
        const stop = other.saturate();
        waits.beside.push(...(await load.waitsAt(perSecond, REQUESTS)));
        await stop();
      }
      console.info(
        `${quiet} at ${perSecond.toFixed(1)} requests/s: p99 wait ${p99(waits.alone).toFixed(1)} ms with the machine to itself, ` +
          `${p99(waits.neighbour).toFixed(1)} ms while ${busy} of a neighbour is saturated, ${p99(waits.beside).toFixed(1)} ms while its own ${busy} is`,
      );
      expect(p99(waits.beside)).toBeLessThanOrEqual(2 * p99(waits.alone));
    },
  );
});
