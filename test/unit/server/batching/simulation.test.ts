/**
 * Seeded simulation: random arrivals, lengths, cancels and deaths against a fake group that checks every step.
 *
 * Invariants  no slot is used twice, no more slots or tokens than there are (fake-rank.ts); every job ends; its tokens are
 *             those it has alone; jobs start in their order; the prompt tokens of a step stay within the budget; nothing is
 *             left open; warm rows never take memory of running ones
 */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { BatchLoop } from '../../../../server/batching/batch-loop.js';
import type { Batcher } from '../../../../server/batching/batcher.js';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { DynamicBatcher } from '../../../../server/batching/dynamic-batcher.js';
import { PrefixCache } from '../../../../server/batching/prefix-cache.js';
import { SlotTable } from '../../../../server/batching/slot-table.js';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { clientLeft } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { FakeGroup } from '../../../fixtures/fake-group.js';
import { FAKE_TEXTS, makeJob, readAll, tokenIdsOf } from '../../../fixtures/generate-requests.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';
import { type SeededRandom, seededRandom, testSeed } from '../../../fixtures/seeded-random.js';
import { FAKE_VOCAB, fakeTokens } from '../../../support/fake-rank.js';

const JOBS = 150;
const MAX_PREFILL = 48;
/** Far more than the tokens of all jobs: a run that needs so many rounds hangs. */
const MAX_ROUNDS = 100_000;

interface Ran {
  job: GenerationJob;
  result: Awaited<ReturnType<typeof readAll>>;
}

interface Simulation {
  ran: Ran[];
  started: number[];
  group: FakeGroup;
  slots: SlotTable;
  prefixCache: PrefixCache | null;
  preempted: number;
}

/** @param earlier jobs whose prompts it may begin with, or go on behind */
function randomJob(
  random: SeededRandom,
  earlier: readonly GenerationJob[] = [],
  mostNew = 60,
): GenerationJob {
  const fresh = Array.from({ length: random.integer(1, 120) }, () => random.integer(0, FAKE_VOCAB - 1));
  const like = random.next() < 0.7 ? random.pick(earlier) : undefined;
  const answered = like
    ? [...like.promptIds, ...fakeTokens(like.promptIds, random.integer(0, like.maxNewTokens), like.endIds)]
    : [];
  const promptIds = [...answered.slice(0, random.integer(0, 110)), ...fresh].slice(0, 120);
  const endIds = random.next() < 0.5 ? [random.integer(0, FAKE_VOCAB - 1), random.integer(0, 40)] : [];
  return makeJob({ promptIds, maxNewTokens: random.integer(1, mostNew), endIds });
}

const NO_OBSERVER = {
  jobStarted: () => {},
  firstToken: () => {},
  nextToken: () => {},
  stepDone: () => {},
};

async function simulate(
  random: SeededRandom,
  batcher: Batcher,
  cancelShare: number,
  warmSlots = 0,
  sizes?: { maxSlots: number; kvTokens: number; newTokens: number },
  maxDrafts = 0,
  swap = { slots: 0, kvTokens: 0 },
): Promise<Simulation> {
  const maxSlots = sizes?.maxSlots ?? random.integer(1, 8);
  const slotTokens = 120 + (sizes?.newTokens ?? 60);
  const clock = new ManualClock();
  const queue = new JobQueue<GenerationJob>('toy', JOBS, 60_000_000, () => clock.nowMs());
  const slots = new SlotTable(
    maxSlots,
    sizes?.kvTokens ?? random.integer(192, 192 * maxSlots),
    warmSlots,
    swap,
  );
  const prefixCache = warmSlots > 0 ? new PrefixCache({ slots, longAfterTokens: 150 }) : null;
  const group = new FakeGroup({
    maxSlots: maxSlots + warmSlots + swap.slots,
    slotTokens,
    maxStepTokens: MAX_PREFILL + maxSlots + maxDrafts,
    maxDrafts,
    kvTokens: slots.kvTokens + swap.kvTokens,
  });
  const jobs: GenerationJob[] = [];
  /** What follows, now and then with one that does not. */
  const guess = (ids: readonly number[], most: number): number[] => {
    const job = jobs.find(({ promptIds }) => promptIds.every((id, index) => ids[index] === id));
    const made = ids.length - (job?.promptIds.length ?? 0);
    const right = job ? fakeTokens(job.promptIds, made + most).slice(made) : [];
    const wrong = random.integer(0, 2 * most);
    return right.map((id, index) => (index === wrong ? id + 1 : id)).slice(0, random.integer(0, most));
  };
  const started: number[] = [];
  let preempted = 0;
  const loop = new BatchLoop({
    group,
    queue,
    batcher,
    slots,
    ...(prefixCache && { prefixCache }),
    ...(maxDrafts > 0 && { drafts: { perSequence: random.integer(1, 6), perStep: maxDrafts, guess } }),
    chunkBudget: new ChunkBudget({
      gapMs: random.integer(8, 600),
      scheduling: random.pick(['throughput', 'balanced', 'latency'] as const) ?? 'balanced',
      maxTokens: MAX_PREFILL,
    }),
    texts: FAKE_TEXTS,
    clock,
    onJobStarted: (job) => started.push(job.id),
    onSlotFreed: ({ why }) => {
      if (why === 'preempted') preempted++;
    },
  });
  const running = loop.run();
  const reading: Promise<Ran>[] = [];
  for (let round = 0; jobs.length < JOBS || jobs.some((job) => !job.stream.ended); round++) {
    expect(round, 'rounds').toBeLessThan(MAX_ROUNDS);
    if (jobs.length < JOBS && random.next() < 0.3) {
      const job = randomJob(random, warmSlots > 0 ? jobs.slice(-20) : [], sizes?.newTokens);
      jobs.push(job);
      queue.push(job);
      reading.push(readAll(job.stream).then((result) => ({ job, result })));
    }
    if (random.next() < cancelShare) random.pick(jobs)?.cancel(clientLeft());
    clock.advance(random.integer(0, 20));
    if (group.inFlight > 0 && random.next() < 0.8) group.runNext();
    for (let turn = 0; turn < 8; turn++) await Promise.resolve();
  }
  loop.stop();
  group.auto = true;
  while (group.inFlight > 0) group.runNext();
  await running;
  return { ran: await Promise.all(reading), started, group, slots, prefixCache, preempted };
}

function check({ group, prefixCache, ran, slots, started }: Simulation): void {
  expect(ran).toHaveLength(JOBS);
  for (const { job, result } of ran) {
    const alone = fakeTokens(job.promptIds, job.maxNewTokens, job.endIds);
    const ids = tokenIdsOf(result.events);
    if (job.cancelled) {
      expect(result.error).toMatchObject({ code: 'CANCELLED' });
      expect(ids).toEqual(alone.slice(0, ids.length));
    } else {
      expect(result.error).toBeNull();
      expect(ids).toEqual(alone);
    }
  }
  expect(started).toEqual([...started].sort((a, b) => a - b));
  expect(group.mostInFlight).toBeLessThanOrEqual(2);
  expect(group.rank.openSlots).toHaveLength(prefixCache?.warmSlots ?? 0);
  expect([slots.freeSlots, slots.freeKvTokens, slots.parkedKvTokens]).toEqual([
    slots.maxSlots,
    slots.kvTokens,
    0,
  ]);
}

describe(`simulation (seed ${testSeed})`, () => {
  const batchers: [string, (random: SeededRandom) => Batcher][] = [
    ['continuous', (random) => new ContinuousBatcher(random.next() < 0.5 ? 'shortest' : 'fair')],
    ['dynamic', (random) => new DynamicBatcher(random.integer(1, 8), random.integer(0, 100))],
  ];
  for (const [name, make] of batchers) {
    for (let run = 0; run < 4; run++) {
      it(`${name} batching, run ${run}: every job ends with the tokens it has alone`, async () => {
        const random = seededRandom(testSeed + run);
        check(await simulate(random, make(random), run % 2 === 0 ? 0 : 0.05));
      });
    }
  }

  for (const [name, make] of batchers) {
    it(`${name} batching with a prefix cache: the same tokens, of which many are not computed again`, async () => {
      let sharedRows = 0;
      for (let run = 0; run < 6; run++) {
        const random = seededRandom(testSeed + 1000 + run);
        const warmSlots = random.integer(1, 6);
        const simulation = await simulate(random, make(random), run % 2 === 0 ? 0 : 0.05, warmSlots);
        check(simulation);
        sharedRows += simulation.group.rank.sharedRows;
      }
      expect(sharedRows).toBeGreaterThan(1000);
    });
  }

  it.each([0, 4])(
    'KV memory for two among eight slots, %i of them warm: many are preempted, none loses or changes a token',
    async (warm) => {
      let preempted = 0;
      for (let run = 0; run < 6; run++) {
        const random = seededRandom(testSeed + 2000 + run);
        const simulation = await simulate(random, new ContinuousBatcher(), run % 2 === 0 ? 0 : 0.02, warm, {
          maxSlots: 8,
          kvTokens: 512,
          newTokens: 300,
        });
        check(simulation);
        preempted += simulation.preempted;
      }
      expect(preempted).toBeGreaterThan(20);
    },
    120_000,
  );

  it.each([
    [0, 0],
    [4, 0],
    [0, 12],
    [4, 12],
  ])(
    'the same with swap space, %i warm slots, %i drafts: rows of many are kept',
    async (warm, maxDrafts) => {
      let kept = 0;
      for (let run = 0; run < 6; run++) {
        const random = seededRandom(testSeed + 5000 + run);
        const swap = { slots: random.integer(1, 8), kvTokens: 64 * random.integer(2, 40) };
        const sizes = { maxSlots: 8, kvTokens: 512, newTokens: 300 };
        const cancelShare = run % 2 === 0 ? 0 : 0.02;
        const simulation = await simulate(
          ...([random, new ContinuousBatcher(), cancelShare, warm, sizes, maxDrafts, swap] as const),
        );
        check(simulation);
        const opens = simulation.group.plans.flatMap((plan) => plan.opens);
        kept += opens.filter(({ keptRows = 0, newIds = [] }) => keptRows > 0 && newIds.length > 0).length;
      }
      expect(kept).toBeGreaterThan(20);
    },
    120_000,
  );

  it.each([0, 4])(
    'tokens that are guessed, right or wrong, %i warm slots: every job ends with the tokens it has alone, in fewer steps',
    async (warmSlots) => {
      for (let run = 0; run < 6; run++) {
        const sizes = run % 3 === 2 ? { maxSlots: 8, kvTokens: 512, newTokens: 300 } : undefined;
        const simulation = await simulate(
          ...([seededRandom(testSeed + 4000 + run), new ContinuousBatcher()] as const),
          ...([run % 2 === 0 ? 0 : 0.03, warmSlots, sizes, 12] as const),
        );
        check(simulation);
        const rows = simulation.group.plans.flatMap((plan) => plan.rows);
        const drafts = rows.reduce((sum, { draftIds }) => sum + (draftIds?.length ?? 0), 0);
        expect(drafts).toBeGreaterThan(100);
      }
    },
    120_000,
  );

  it.each([0, 4])(
    'groups that die again and again, %i warm slots: every job goes on in the next life and ends with the tokens it has alone',
    async (warmSlots) => {
      let resumed = 0;
      for (let run = 0; run < 6; run++) {
        const random = seededRandom(testSeed + 3000 + run);
        const queue = new JobQueue<GenerationJob>('toy', 100, 60_000_000, () => 0);
        const jobs = Array.from({ length: 12 }, () => randomJob(random));
        const reading = jobs.map((job) => readAll(job.stream));
        for (const job of jobs) queue.push(job);
        for (let life = 0; jobs.some(({ stream }) => !stream.ended); life++) {
          expect(life, 'lives').toBeLessThan(1000);
          const group = new FakeGroup({
            maxSlots: 4 + warmSlots,
            slotTokens: 180,
            maxStepTokens: MAX_PREFILL + 4,
          });
          const slots = new SlotTable(4, 4096, warmSlots);
          const loop = new BatchLoop({
            ...{ group, queue, slots },
            ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
            batcher: new ContinuousBatcher(),
            chunkBudget: new ChunkBudget({ gapMs: 20, scheduling: 'balanced', maxTokens: MAX_PREFILL }),
            texts: FAKE_TEXTS,
            clock: new ManualClock(),
            deathLimits: { retries: 1000, mostDeaths: 1000 },
            observer: { ...NO_OBSERVER, jobResumed: () => void resumed++ },
          });
          const ended = loop.run().catch((error: unknown) => error);
          for (let step = random.integer(5, 60); step > 0; step--) {
            if (random.next() < 0.02) random.pick(jobs)?.cancel(clientLeft());
            if (group.inFlight > 0) group.runNext();
            for (let turn = 0; turn < 8; turn++) await Promise.resolve();
          }
          group.die(new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL'));
          await ended;
          expect(slots.freeSlots).toBe(4);
        }
        const results = await Promise.all(reading);
        for (const [index, job] of jobs.entries()) {
          const alone = fakeTokens(job.promptIds, job.maxNewTokens, job.endIds);
          const ids = tokenIdsOf(results[index]!.events);
          expect(ids).toEqual(job.cancelled ? alone.slice(0, ids.length) : alone);
        }
      }
      expect(resumed).toBeGreaterThan(18);
    },
    60_000,
  );

  it('a group that dies ends every started job, and loses none that waits', async () => {
    const random = seededRandom(testSeed + 100);
    for (let run = 0; run < 20; run++) {
      const group = new FakeGroup({ maxSlots: 4, slotTokens: 180, maxStepTokens: MAX_PREFILL + 4 });
      const queue = new JobQueue<GenerationJob>('toy', 100, 60_000, () => 0);
      const loop = new BatchLoop({
        group,
        queue,
        batcher: new ContinuousBatcher(),
        slots: new SlotTable(4, 4096),
        chunkBudget: new ChunkBudget({ gapMs: 20, scheduling: 'balanced', maxTokens: MAX_PREFILL }),
        texts: FAKE_TEXTS,
        clock: new ManualClock(),
      });
      const ended = loop.run().catch((error: unknown) => error);
      const jobs = Array.from({ length: 12 }, () => randomJob(random));
      for (const job of jobs) queue.push(job);
      for (let step = random.integer(0, 30); step > 0; step--) {
        if (group.inFlight > 0) group.runNext();
        for (let turn = 0; turn < 8; turn++) await Promise.resolve();
      }
      const death = new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL');
      group.die(death);
      expect(await ended).toBe(death);
      for (const job of jobs) expect(job.stream.ended || queue.waiting.includes(job)).toBe(true);
    }
  });
});
