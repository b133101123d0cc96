/**
 * KV memory for two of six sequences, by the real ranks behind the batch loop: those that are preempted, and computed again or kept
 * in swap space meanwhile, write what they write undisturbed, greedy and sampled, at degrees 1 and 2.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING, type Sampling } from '../../../proto/control.js';
import { BatchLoop } from '../../../server/batching/batch-loop.js';
import type { SteppedGroup } from '../../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../server/batching/continuous-batcher.js';
import { PrefixCache } from '../../../server/batching/prefix-cache.js';
import { SlotTable, type SwapLimits } from '../../../server/batching/slot-table.js';
import { systemClock } from '../../../server/jobs/clock.js';
import type { GenerationJob } from '../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../server/jobs/job-queue.js';
import { FAKE_TEXTS, makeJob, readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const SEQUENCES = 6;
const PROMPT_TOKENS = 40;
const NEW_TOKENS = 200;
const SLOT_TOKENS = 256;
const CROWDED_KV_TOKENS = 512;
const NO_SWAP: SwapLimits = { slots: 0, kvTokens: 0 };
const SWAP: SwapLimits = { slots: SEQUENCES, kvTokens: SEQUENCES * SLOT_TOKENS };

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'preemption-'));
});
afterAll(() => rmSync(store, { recursive: true }));

/** Odd ones are sampled, with all that looks at what was told already. */
const samplingOf = (number: number): Sampling =>
  number % 2 === 0
    ? GREEDY_SAMPLING
    : {
        ...GREEDY_SAMPLING,
        greedy: false,
        temperature: 0.9,
        topP: 0.95,
        repetitionPenalty: 1.1,
        frequencyPenalty: 0.2,
        minNewTokens: NEW_TOKENS - 10,
        seedLow: number,
      };

const makeJobs = (): GenerationJob[] =>
  Array.from({ length: SEQUENCES }, (_, number) =>
    makeJob({
      promptIds: Array.from({ length: PROMPT_TOKENS }, (_, index) => 1 + ((number * 31 + index * 7) % 900)),
      maxNewTokens: NEW_TOKENS,
      sampling: samplingOf(number),
      endIds: number % 2 === 0 ? [] : [0],
      queuedAtMs: systemClock.nowMs(),
    }),
  );

async function write(stepped: SteppedGroup, kvTokens: number, warmSlots: number, swap: SwapLimits) {
  const queue = new JobQueue<GenerationJob>('embedded', SEQUENCES, 600_000);
  const slots = new SlotTable(SEQUENCES, kvTokens, warmSlots, swap);
  let preempted = 0;
  const loop = new BatchLoop({
    group: stepped,
    queue,
    batcher: new ContinuousBatcher(),
    slots,
    ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'balanced', maxTokens: 256 }),
    texts: FAKE_TEXTS,
    clock: systemClock,
    onSlotFreed: ({ why }) => {
      if (why === 'preempted') preempted++;
    },
  });
  const running = loop.run();
  const jobs = makeJobs();
  for (const job of jobs) queue.push(job);
  const read = await Promise.all(jobs.map((job) => readAll(job.stream)));
  loop.stop();
  await running;
  expect(read.map(({ error }) => error)).toEqual(jobs.map(() => null));
  return { texts: read.map(({ events }) => tokenIdsOf(events)), preempted };
}

it.each([1, 2])('tp %i: the same tokens as undisturbed', async (tp) => {
  const folder = path.join(repositoryRoot, 'models', 'embedded');
  const { shardFolder } = await partition({ folder, outStore: store, tp, dtype: 'fp32' });
  const runOf = async (kvTokens: number, warmSlots: number, swap: SwapLimits) => {
    const group = await createInProcessGroup(shardFolder, {
      maxSlots: SEQUENCES + warmSlots + swap.slots,
      slotTokens: SLOT_TOKENS,
    });
    let last = 0;
    let computed = 0;
    // Like the coordinator, which sends a step while another runs: in their order.
    let before: Promise<unknown> = Promise.resolve();
    const stepped: SteppedGroup = {
      failed: new Promise(() => {}),
      step(plan) {
        const step = ++last;
        for (const { tokens } of plan.rows) computed += tokens;
        const result = before.then(async () => (await group.step({ ...plan, step }))[0]!);
        before = result.catch(() => {});
        return result;
      },
    };
    const written = await write(stepped, kvTokens, warmSlots, swap);
    return { ...written, computed };
  };
  const undisturbed = await runOf(SEQUENCES * SLOT_TOKENS, 0, NO_SWAP);
  expect(undisturbed.preempted).toBe(0);
  for (const [warmSlots, swap] of [
    [0, NO_SWAP],
    [3, NO_SWAP],
    [0, SWAP],
  ] as const) {
    const crowded = await runOf(CROWDED_KV_TOKENS, warmSlots, swap);
    expect(crowded.preempted, `preempted, ${warmSlots} warm slots`).toBeGreaterThan(1);
    expect(crowded.texts).toEqual(undisturbed.texts);
    // Where rows were kept only what was in flight, and the last token, run again.
    const again = crowded.computed - undisturbed.computed;
    if (swap === SWAP) expect(again / crowded.preempted).toBeLessThanOrEqual(3);
    else expect(again / crowded.preempted).toBeGreaterThan(warmSlots === 0 ? PROMPT_TOKENS : 0);
  }
});
