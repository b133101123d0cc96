/**
 * Random lives of a few requests over the real ranks: late arrivals, cancels, a group that dies, KV memory for half of them (computed again or kept in
 * swap space), pieces of prompts of any size, prefix hits, guesses. Texts and the bits of their log-probabilities are those of each alone, at any
 * degree, weight format and type of KV rows. test/long has all cases, CI one.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { ServingError } from '../../proto/errors.js';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { BatchLoop } from '../../server/batching/batch-loop.js';
import type { BatchLoopOptions, SteppedGroup } from '../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../server/batching/continuous-batcher.js';
import { promptLookup } from '../../server/batching/drafts.js';
import { PrefixCache } from '../../server/batching/prefix-cache.js';
import { SlotTable } from '../../server/batching/slot-table.js';
import { systemClock } from '../../server/jobs/clock.js';
import type { GenerationJob } from '../../server/jobs/generation-job.js';
import { clientLeft } from '../../server/jobs/job.js';
import { JobQueue } from '../../server/jobs/job-queue.js';
import type { GenerationEvent } from '../../server/requests/job-events.js';
import type { KvType } from '../../shard-worker/kv-cache.js';
import { FAKE_TEXTS, makeJob, makeRequest, readAll } from '../fixtures/generate-requests.js';
import { type SeededRandom, seededRandom, testSeed } from '../fixtures/seeded-random.js';
import { createInProcessGroup, type InProcessGroup } from '../support/in-process-group.js';
import { repositoryRoot } from '../support/repository-root.js';

const JOBS = 6;
const SLOTS = 4;
const SLOT_TOKENS = 192;
const MAX_DRAFTS = 8;
export interface ScheduleCase {
  tp: number;
  dtype: 'fp32' | 'int8' | 'int4';
  kvType: KvType;
}

const KV_TYPES = ['fp32', 'fp16', 'int8'] as const;
export const SCHEDULE_CASES: readonly ScheduleCase[] = [1, 2, 4].flatMap((tp) =>
  (['fp32', 'int8', 'int4'] as const).flatMap((dtype) => KV_TYPES.map((kvType) => ({ tp, dtype, kvType }))),
);

/** The same ones for the same seed: some prompts begin like others, every other answer is sampled. */
function makeJobs(seed: number): GenerationJob[] {
  const random = seededRandom(seed);
  const prompts: number[][] = [];
  return Array.from({ length: JOBS }, (_, number) => {
    const like = random.next() < 0.5 ? (random.pick(prompts) ?? []).slice(0, random.integer(17, 40)) : [];
    const fresh = Array.from({ length: random.integer(1, 30) }, () => random.integer(1, 900));
    const promptIds = [...like, ...fresh];
    prompts.push(promptIds);
    const isSampled = number % 2 === 1;
    return makeJob({
      promptIds,
      request: makeRequest({ logprob: true, topLogprobs: 2 }),
      maxNewTokens: random.integer(20, 115),
      sampling: {
        ...GREEDY_SAMPLING,
        ...{ logprob: true, topLogprobs: 2 },
        ...(isSampled && {
          greedy: false,
          temperature: 0.8,
          topP: 0.95,
          repetitionPenalty: 1.1,
          seedLow: number,
        }),
      },
      queuedAtMs: systemClock.nowMs(),
    });
  });
}

/** What a client sees of each token, to the bit. */
const seenOf = (events: readonly GenerationEvent[]): unknown[] =>
  events.flatMap((event) =>
    event.kind === 'token'
      ? [
          [
            event.tokenId,
            event.logprob,
            ...event.topLogprobs.map(({ logprob, tokenId }) => [tokenId, logprob]),
          ],
        ]
      : [],
  );

/** @param onStep before each step; throws where the group dies */
function stepped(group: InProcessGroup, onStep: () => void): SteppedGroup & { rest: () => Promise<unknown> } {
  let last = 0;
  let before: Promise<unknown> = Promise.resolve();
  return {
    failed: new Promise(() => {}),
    rest: () => before,
    step(plan) {
      const step = ++last;
      const result = before.then(async () => {
        onStep();
        return (await group.step({ ...plan, step }))[0]!;
      });
      before = result.catch(() => {});
      return result;
    },
  };
}

type Parts = Pick<
  BatchLoopOptions,
  'slots' | 'prefixCache' | 'drafts' | 'chunkBudget' | 'onIdle' | 'onSlotFreed'
>;
const loopOf = (group: SteppedGroup, queue: JobQueue<GenerationJob>, parts: Parts): BatchLoop =>
  new BatchLoop({
    ...{ group, queue, clock: systemClock, texts: FAKE_TEXTS, batcher: new ContinuousBatcher() },
    deathLimits: { retries: 100, mostDeaths: 100 },
    ...parts,
  });
const newQueue = (): JobQueue<GenerationJob> => new JobQueue<GenerationJob>('embedded', JOBS, 600_000);

async function alone(makeGroup: () => Promise<InProcessGroup>, seed: number): Promise<unknown[][]> {
  const queue = newQueue();
  const chunkBudget = new ChunkBudget({ gapMs: 60_000, scheduling: 'throughput', maxTokens: 256 });
  const loop = loopOf(
    stepped(await makeGroup(), () => {}),
    queue,
    {
      ...{ slots: new SlotTable(1, SLOT_TOKENS), chunkBudget },
    },
  );
  const running = loop.run();
  const jobs = makeJobs(seed);
  for (const job of jobs) queue.push(job);
  const read = await Promise.all(jobs.map(({ stream }) => readAll(stream)));
  loop.stop();
  await running;
  return read.map(({ events }) => seenOf(events));
}

async function crowded(makeGroup: () => Promise<InProcessGroup>, seed: number, random: SeededRandom) {
  const queue = newQueue();
  const jobs = makeJobs(seed);
  const read = jobs.map(({ stream }) => readAll(stream));
  const coming = jobs.map((job, index) => ({ job, at: index < 3 ? 0 : random.integer(1, 60) }));
  const arrive = (step: number): void => {
    const come = coming.filter(({ at }) => at <= step);
    for (const one of come) queue.push(coming.splice(coming.indexOf(one), 1)[0]!.job);
  };
  const leaver = jobs[random.integer(0, JOBS - 1)]!;
  const leavesAt = random.integer(10, 200);
  const warmSlots = random.pick([0, 3]);
  const swap = random.pick([0, SLOTS]);
  const drafts = { perSequence: random.integer(1, 4), perStep: MAX_DRAFTS, guess: promptLookup(1, 3) };
  const guesses = random.next() < 0.5;
  let steps = 0;
  let preempted = 0;
  for (let life = 0; jobs.some(({ stream }) => !stream.ended); life++) {
    const diesAt = life < 2 ? steps + random.integer(20, 90) : Number.POSITIVE_INFINITY;
    const group = stepped(await makeGroup(), () => {
      if (++steps >= diesAt) throw new ServingError('WORKER_FAILED', 'rank 0 was killed by SIGKILL');
      if (steps === leavesAt) leaver.cancel(clientLeft());
      arrive(steps);
    });
    const slots = new SlotTable(SLOTS, 384, warmSlots, { slots: swap, kvTokens: swap * SLOT_TOKENS });
    const loop = loopOf(group, queue, {
      slots,
      ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
      ...(guesses && { drafts }),
      chunkBudget: new ChunkBudget({
        gapMs: 60_000,
        scheduling: 'balanced',
        maxTokens: random.integer(5, 40),
      }),
      // Whoever is still to come does so where the others are done.
      onIdle: (idle) => {
        if (idle) arrive(1000);
      },
      onSlotFreed: ({ why }) => {
        if (why === 'preempted') preempted++;
      },
    });
    const running = loop.run().then(
      () => {},
      () => {},
    );
    arrive(steps);
    await Promise.race([running, Promise.all(read)]);
    loop.stop();
    await running;
    await group.rest();
  }
  const ended = await Promise.all(read);
  return { preempted, seen: ended.map(({ events }) => seenOf(events)), leaver: jobs.indexOf(leaver) };
}

/** @param runs schedules of each case */
export function schedulesOf(cases: readonly ScheduleCase[], runs: number): void {
  let store: string;
  beforeAll(() => {
    store = mkdtempSync(path.join(tmpdir(), 'schedules-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  it.runIf(kernelLibrary() !== null).each(cases)('tp $tp, $dtype, KV rows of $kvType', async (one) => {
    const { dtype, kvType, tp } = one;
    const folder = path.join(repositoryRoot, 'models', 'embedded');
    const { shardFolder } = await partition({ folder, outStore: store, tp, dtype });
    const makeGroup = () =>
      createInProcessGroup(shardFolder, {
        ...{ maxSlots: 2 * SLOTS + 3, maxDrafts: MAX_DRAFTS, slotTokens: SLOT_TOKENS, kvType },
      });
    const lonely = await alone(makeGroup, testSeed);
    expect(lonely.every((text) => text.length >= 20)).toBe(true);
    for (let run = 0; run < runs; run++) {
      const { leaver, seen } = await crowded(makeGroup, testSeed, seededRandom(testSeed + run));
      seen.forEach((text, index) => {
        expect(text).toEqual(index === leaver ? lonely[index]!.slice(0, text.length) : lonely[index]);
      });
    }
  });
}
