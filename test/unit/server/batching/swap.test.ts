/** Preempted sequences whose rows are kept: what becomes of them when they go on, are cancelled, or lose their group. */
import { expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { BatchLoop } from '../../../../server/batching/batch-loop.js';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { SlotTable } from '../../../../server/batching/slot-table.js';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { clientLeft } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { FakeGroup } from '../../../fixtures/fake-group.js';
import { FAKE_TEXTS, makeJob, readAll, tokenIdsOf } from '../../../fixtures/generate-requests.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';
import { fakeTokens } from '../../../support/fake-rank.js';

/** Two sequences of four pages each, in memory of six. @param swapTokens for rows of the younger */
function startTwo(swapTokens: number) {
  const swap = { slots: 2, kvTokens: swapTokens };
  const group = new FakeGroup({
    ...{ maxSlots: 4, slotTokens: 256, maxStepTokens: 66 },
    kvTokens: 384 + swapTokens,
  });
  const clock = new ManualClock();
  const queue = new JobQueue<GenerationJob>('toy', 2, 60_000, () => clock.nowMs());
  const slots = new SlotTable(2, 384, 0, swap);
  const preempted: number[] = [];
  const loop = new BatchLoop({
    ...{ group, queue, slots, clock, texts: FAKE_TEXTS },
    batcher: new ContinuousBatcher(),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'throughput', maxTokens: 64 }),
    deathLimits: { retries: 5, mostDeaths: 5 },
    onSlotFreed: ({ jobId, why }) => {
      if (why === 'preempted') preempted.push(jobId);
    },
  });
  const jobs = [5, 9].map((id) => makeJob({ promptIds: [id, 6, 7], maxNewTokens: 250 }));
  const [older, younger] = jobs as [GenerationJob, GenerationJob];
  const read = jobs.map((job) => readAll(job.stream));
  for (const job of jobs) queue.push(job);
  const ended = loop.run().catch((error: unknown) => error);
  const untilPreempted = async (): Promise<void> => {
    for (let turn = 0; turn < 10_000 && preempted.length === 0; turn++) {
      if (group.inFlight > 0) group.runNext();
      await Promise.resolve();
    }
    expect(preempted).toEqual([younger.id]);
  };
  const rest = async () => {
    group.auto = true;
    while (group.inFlight > 0) group.runNext();
    const results = await Promise.all(read);
    loop.stop();
    await ended;
    return results.map(({ events }) => tokenIdsOf(events));
  };
  return { ...{ group, slots, queue, older, younger, ended, untilPreempted, rest } };
}

const alone = (job: GenerationJob) => fakeTokens(job.promptIds, 250);

it('goes on in its own slot behind its rows', async () => {
  const { group, older, rest, slots, untilPreempted, younger } = startTwo(256);
  await untilPreempted();
  expect(slots.parkedKvTokens).toBe(192);
  expect(await rest()).toEqual([alone(older), alone(younger)]);
  const opens = group.plans.flatMap((plan) => plan.opens);
  expect(opens).toHaveLength(3);
  const { keptRows, newIds = [], promptIds, slot } = opens[2]!;
  expect(slot).toBe(opens[1]!.slot);
  expect(keptRows).toBe(promptIds.length + newIds.length - 1);
  expect(newIds.length).toBeGreaterThan(150);
  expect(slots.parkedKvTokens).toBe(0);
});

it('is computed again where its rows have no room', async () => {
  const { group, older, rest, slots, untilPreempted, younger } = startTwo(128);
  await untilPreempted();
  expect(slots.parkedKvTokens).toBe(0);
  expect(await rest()).toEqual([alone(older), alone(younger)]);
  expect(group.plans.flatMap((plan) => plan.opens)[2]).toMatchObject({ keptRows: 0 });
});

it('gives its rows back in the next step when it is cancelled', async () => {
  const { group, older, rest, slots, untilPreempted, younger } = startTwo(256);
  await untilPreempted();
  const { slot } = group.plans.flatMap((plan) => plan.opens)[1]!;
  const sent = group.plans.length;
  younger.cancel(clientLeft());
  const [ids, cut] = await rest();
  expect(slots.parkedKvTokens).toBe(0);
  expect(ids).toEqual(alone(older));
  expect(cut).toEqual(alone(younger).slice(0, cut!.length));
  expect(group.plans.slice(sent, sent + 2).flatMap((plan) => plan.closeSlots)).toEqual([slot]);
  expect(group.rank.openSlots).toEqual([]);
});

it('begins anew in another group when its own dies', async () => {
  const { ended, group, queue, slots, untilPreempted, younger } = startTwo(256);
  await untilPreempted();
  group.die(new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL'));
  await ended;
  expect([slots.freeSlots, slots.parkedKvTokens]).toEqual([2, 0]);
  expect(queue.waiting).toContain(younger);
  expect(younger.lost).toMatchObject({ parkedRows: 0 });
});
