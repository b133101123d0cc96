/** A prompt whose tokens are told with their log-probabilities, behind the real loop and a fake rank: what comes after it, and what is counted of it. */
import { expect, it } from 'vitest';
import type { TokenMask } from '../../../../proto/control.js';
import { BatchLoop } from '../../../../server/batching/batch-loop.js';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { PrefixCache } from '../../../../server/batching/prefix-cache.js';
import { SlotTable } from '../../../../server/batching/slot-table.js';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { FakeGroup } from '../../../fixtures/fake-group.js';
import { FAKE_TEXTS, makeJob, readAll, tokenIdsOf } from '../../../fixtures/generate-requests.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';
import { fakeTokens } from '../../../support/fake-rank.js';

const PROMPT = [7];
const TOLD = 9;
const NEW = 5;
const ALL = fakeTokens(PROMPT, TOLD + NEW);
const maskOf = (id: number): TokenMask => ({ ids: [id], bits: new Uint8Array() });

/** @param perStep drafts of a step @param count tokens that are told behind the first */
async function write(perStep: number, hasForm: boolean, count = TOLD) {
  const asked: number[][] = [];
  const seen = { prompt: 0, tried: 0, first: 0, next: 0 };
  const group = new FakeGroup({
    ...{ maxSlots: 1, slotTokens: 64, maxStepTokens: 17 + perStep, maxDrafts: perStep, obeysMasks: true },
  });
  group.auto = true;
  const queue = new JobQueue<GenerationJob>('toy', 1, 60_000, () => 0);
  const constraint = {
    first: maskOf(ALL[count]!),
    maskAfter: (ids: readonly number[]) => {
      asked.push([...ids]);
      return Promise.resolve(maskOf(ALL[count + ids.length]!));
    },
    release: () => {},
  };
  const job = makeJob({
    ...{ promptIds: PROMPT, toldPrompt: ALL.slice(0, count), maxNewTokens: count + NEW },
    ...(hasForm && { constraint }),
  });
  queue.push(job);
  const loop = new BatchLoop({
    ...{ group, queue, slots: new SlotTable(1, 64), clock: new ManualClock(), texts: FAKE_TEXTS },
    batcher: new ContinuousBatcher(),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'balanced', maxTokens: 16 }),
    ...(perStep > 0 && { drafts: { perSequence: 0, perStep, guess: () => [] } }),
    observer: {
      ...{
        jobStarted: (_: number, tokens: number) => {
          seen.prompt += tokens;
        },
        stepDone: () => {},
        draftsTried: () => void seen.tried++,
      },
      ...{ firstToken: () => void seen.first++, nextToken: () => void seen.next++ },
    },
  });
  const running = loop.run();
  const reading = readAll(job.stream);
  // Everything is there at once: as many turns as it could want.
  for (let turn = 0; turn < 1000 && !job.stream.ended; turn++) await Promise.resolve();
  const { ended } = job.stream;
  if (!ended) job.cancel(new Error('stuck') as never);
  const { events } = await reading;
  loop.stop();
  await running;
  const told = events.flatMap((event) => (event.kind === 'prompt-token' ? [event.tokenId] : []));
  const rows = group.plans.flatMap((plan) => plan.rows);
  return { ended, told, ids: tokenIdsOf(events), asked, rows, seen };
}

it.each([0, 4])(
  'an answer of a form follows it, %i drafts a step: masks bound the answer alone',
  async (perStep) => {
    const { asked, ended, ids, rows, told } = await write(perStep, true);
    expect(ended).toBe(true);
    expect(told).toEqual([...PROMPT, ...ALL.slice(0, TOLD)]);
    expect(ids).toEqual(ALL.slice(TOLD));
    expect(asked).toEqual(Array.from({ length: NEW - 1 }, (_, index) => ALL.slice(TOLD, TOLD + index + 1)));
    expect(rows.filter(({ mask }) => mask !== undefined)).toHaveLength(NEW);
    expect(rows).toHaveLength(Math.ceil(TOLD / (perStep + 1)) + NEW);
  },
);

it.each([false, true])(
  'its tokens count as prompt, and none as guessed or as made (form %s)',
  async (hasForm) => {
    const { ids, seen } = await write(4, hasForm);
    expect(ids).toHaveLength(NEW);
    expect(seen).toEqual({ prompt: 1 + TOLD, tried: 0, first: 1, next: NEW - 1 });
  },
);

it.each([false, true])('a prompt of one token is told, too (form %s)', async (hasForm) => {
  const { ids, told } = await write(4, hasForm, 0);
  expect(told).toEqual(PROMPT);
  expect(ids).toEqual(ALL.slice(0, NEW));
});

it('rows of its last step count where they stay warm: the next request has its own memory', async () => {
  // The last row of the told one has 60 tokens that are known, and ends it: 121 rows, two pages, of three that there are.
  const told = fakeTokens(PROMPT, 120);
  const group = new FakeGroup({
    maxSlots: 3,
    slotTokens: 192,
    maxStepTokens: 160,
    maxDrafts: 60,
    kvTokens: 192,
  });
  group.auto = true;
  const queue = new JobQueue<GenerationJob>('toy', 2, 60_000, () => 0);
  const slots = new SlotTable(1, 192, 2);
  const loop = new BatchLoop({
    ...{ group, queue, slots, clock: new ManualClock(), texts: FAKE_TEXTS, batcher: new ContinuousBatcher() },
    prefixCache: new PrefixCache({ slots, longAfterTokens: null }),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'balanced', maxTokens: 96 }),
    drafts: { perSequence: 0, perStep: 60, guess: () => [] },
  });
  const jobs = [
    makeJob({ promptIds: PROMPT, toldPrompt: told, maxNewTokens: told.length }),
    makeJob({ promptIds: Array.from({ length: 90 }, (_, index) => 200 + index), maxNewTokens: 5 }),
  ];
  const running = loop.run();
  for (const job of jobs) {
    queue.push(job);
    expect((await readAll(job.stream)).error).toBeNull();
  }
  loop.stop();
  await running;
  expect(group.rank.openSlots.length).toBeGreaterThan(0);
});
