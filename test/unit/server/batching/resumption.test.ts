/** Requests over the deaths of their groups: who goes on, who is to blame, and who is tried alone. */
import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { BatchLoop } from '../../../../server/batching/batch-loop.js';
import type { StepPlan } from '../../../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { type DeathLimits, deathLimits, goesOn } from '../../../../server/batching/resumption.js';
import { SlotTable } from '../../../../server/batching/slot-table.js';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { FakeGroup } from '../../../fixtures/fake-group.js';
import { FAKE_TEXTS, makeJob, readAll, tokenIdsOf } from '../../../fixtures/generate-requests.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';
import { fakeTokens } from '../../../support/fake-rank.js';

const DEATH = new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL');
const SLOTS = 4;
/** More than any test has: a loop that never ends is a failure. */
const MOST_LIVES = 20;

async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
}

/** Runs jobs to their ends in one group after the other. @param kills asked before each step, by the life's plans so far */
async function runAll(
  jobs: readonly GenerationJob[],
  limits: DeathLimits,
  kills: (plan: StepPlan, step: number, numbers: ReadonlyMap<number, readonly number[]>) => boolean,
) {
  const clock = new ManualClock();
  const queue = new JobQueue<GenerationJob>('toy', 100, 60_000, () => clock.nowMs());
  for (const job of jobs) queue.push(job);
  const answers = jobs.map(({ stream }) => readAll(stream));
  let lives = 0;
  while (lives < MOST_LIVES && jobs.some(({ stream }) => !stream.ended)) {
    lives++;
    const group = new FakeGroup({ maxSlots: SLOTS, slotTokens: 1024, maxStepTokens: 64 + SLOTS });
    const loop = new BatchLoop({
      ...{ group, queue, clock, texts: FAKE_TEXTS, deathLimits: limits },
      ...{ batcher: new ContinuousBatcher(), slots: new SlotTable(SLOTS, 4096) },
      chunkBudget: new ChunkBudget({ gapMs: 64, scheduling: 'throughput', maxTokens: 64 }),
    });
    const ended = loop.run().catch(() => {});
    const prompts = new Map<number, readonly number[]>();
    for (let step = 0; ; step++) {
      await settle();
      const plan = group.plans[step];
      if (plan === undefined) break;
      for (const { promptIds, sequence } of plan.opens) prompts.set(sequence, promptIds);
      if (!kills(plan, step, prompts)) group.runNext();
      else {
        group.die(DEATH);
        break;
      }
    }
    loop.stop();
    await ended;
  }
  return { lives, answers: await Promise.all(answers) };
}

const whole = ({ maxNewTokens, promptIds }: GenerationJob) => ({
  ids: fakeTokens(promptIds, maxNewTokens),
  error: null,
});
const told = ({ error, events }: Awaited<ReturnType<typeof readAll>>) => ({ ids: tokenIdsOf(events), error });

describe('a request whose groups die', () => {
  it('goes on for as long as it gets further in each of their lives', async () => {
    const job = makeJob({ promptIds: [5, 6], maxNewTokens: 80 });
    const { answers, lives } = await runAll([job], deathLimits(2, 40), (_, step) => step === 12);
    expect(told(answers[0]!)).toEqual(whole(job));
    expect(lives).toBeGreaterThan(5);
    // None of them is woken by it any more.
    expect(getEventListeners(job.signal, 'abort')).toEqual([]);
  });

  it('ends after as many as it may be in altogether, however far it gets', async () => {
    const job = makeJob({ promptIds: [5, 6], maxNewTokens: 400 });
    const { answers, lives } = await runAll([job], deathLimits(2, 10), (_, step) => step === 12);
    expect(answers[0]!.error).toMatchObject({ message: expect.stringMatching(/6 worker groups that died/) });
    expect(lives).toBe(6);
  });

  it.each([
    ['its prompt', 1],
    ['the step after its prompt', 2],
    ['a step soon after', 4],
  ])('ends alone where %s kills: those beside it get whole answers', async (_, killingStep) => {
    const poison = makeJob({ promptIds: [66, 66], maxNewTokens: 100 });
    const others = [1, 2, 3, 4, 5, 6].map((id) => makeJob({ promptIds: [id, id], maxNewTokens: 30 }));
    const jobs = [others[0]!, poison, ...others.slice(1)];
    let ran = 0;
    const { answers } = await runAll(jobs, deathLimits(2, 10), (plan, step, prompts) => {
      if (step === 0) ran = 0;
      if (plan.rows.some(({ sequence }) => prompts.get(sequence)![0] === 66)) ran++;
      return ran === killingStep;
    });
    const [first, ended, ...rest] = answers;
    expect(ended!.error).toMatchObject({ message: expect.stringMatching(/3 worker groups that died/) });
    expect([first!, ...rest].map(told)).toEqual(others.map(whole));
  });

  it('is blamed for none that came while no step of it was in flight, but for too many of them', () => {
    const job = makeJob({});
    const survives = () => goesOn(job, DEATH, { retries: 1, mostDeaths: 5 }, { newTokens: 0, ran: false });
    expect(Array.from({ length: 5 }, survives)).not.toContain(false);
    expect(job.deathsHere).toBe(0);
    expect(survives()).toBe(false);
  });

  it('is not blamed for what came from outside, though it has a limit of that too', () => {
    const job = makeJob({});
    const kill = new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL', { fromOutside: true });
    const survives = () => goesOn(job, kill, { retries: 1, mostDeaths: 5 }, { newTokens: 0, ran: true });
    expect(Array.from({ length: 5 }, survives)).not.toContain(false);
    expect(job.deathsHere).toBe(0);
    expect(survives()).toBe(false);
  });
});
