/**
 * Guessed tokens by the real ranks behind the batch loop: the texts are those of a loop that guesses nothing, greedy and sampled, at degrees 1
 * and 2, with room and with KV memory for two of five sequences, and with a prefix cache; in fewer steps, since the texts repeat their prompts.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../../proto/control.js';
import { BatchLoop } from '../../../server/batching/batch-loop.js';
import type { SteppedGroup } from '../../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../server/batching/continuous-batcher.js';
import { promptLookup } from '../../../server/batching/drafts.js';
import { PrefixCache } from '../../../server/batching/prefix-cache.js';
import { SlotTable } from '../../../server/batching/slot-table.js';
import { systemClock } from '../../../server/jobs/clock.js';
import type { GenerationJob } from '../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../server/jobs/job-queue.js';
import { FAKE_TEXTS, makeJob, readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const SEQUENCES = 5;
const NEW_TOKENS = 150;
const SLOT_TOKENS = 256;
const MAX_DRAFTS = 12;
const WARM_SLOTS = 3;

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'speculation-'));
});
afterAll(() => rmSync(store, { recursive: true }));

/** Even ones are greedy, which soon repeat themselves; odd ones are sampled, and leave what they repeat. */
const makeJobs = (): GenerationJob[] =>
  Array.from({ length: SEQUENCES }, (_, number) =>
    makeJob({
      promptIds: Array.from({ length: 40 }, (_, index) => 1 + ((number * 31 + (index % 20) * 7) % 900)),
      maxNewTokens: NEW_TOKENS,
      sampling:
        number % 2 === 0
          ? GREEDY_SAMPLING
          : {
              ...GREEDY_SAMPLING,
              greedy: false,
              temperature: 0.7,
              topP: 0.9,
              minNewTokens: 100,
              seedLow: number,
            },
      endIds: number % 2 === 0 ? [] : [0],
      queuedAtMs: systemClock.nowMs(),
    }),
  );

async function write(shardFolder: string, guesses: boolean, kvTokens: number, warmSlots: number) {
  const group = await createInProcessGroup(shardFolder, {
    ...{ maxSlots: SEQUENCES + warmSlots, maxDrafts: MAX_DRAFTS, slotTokens: SLOT_TOKENS },
  });
  let steps = 0;
  let before: Promise<unknown> = Promise.resolve();
  const stepped: SteppedGroup = {
    failed: new Promise(() => {}),
    step(plan) {
      const step = ++steps;
      const result = before.then(async () => (await group.step({ ...plan, step }))[0]!);
      before = result.catch(() => {});
      return result;
    },
  };
  const queue = new JobQueue<GenerationJob>('embedded', SEQUENCES, 600_000);
  const slots = new SlotTable(SEQUENCES, kvTokens, warmSlots);
  const tried = { drafts: 0, accepted: 0 };
  const nothing = () => {};
  const loop = new BatchLoop({
    ...{
      group: stepped,
      queue,
      slots,
      batcher: new ContinuousBatcher(),
      texts: FAKE_TEXTS,
      clock: systemClock,
    },
    ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
    ...(guesses && { drafts: { perSequence: 4, perStep: MAX_DRAFTS, guess: promptLookup(2, 4) } }),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'balanced', maxTokens: 256 }),
    observer: {
      ...{ jobStarted: nothing, firstToken: nothing, nextToken: nothing, stepDone: nothing },
      draftsTried: (drafts, accepted) => {
        tried.drafts += drafts;
        tried.accepted += accepted;
      },
    },
  });
  const running = loop.run();
  const jobs = makeJobs();
  for (const job of jobs) queue.push(job);
  const read = await Promise.all(jobs.map((job) => readAll(job.stream)));
  loop.stop();
  await running;
  expect(read.map(({ error }) => error)).toEqual(jobs.map(() => null));
  return { texts: read.map(({ events }) => tokenIdsOf(events)), steps, tried };
}

it.each([1, 2])('tp %i: the same texts, in fewer steps', async (tp) => {
  const folder = path.join(repositoryRoot, 'models', 'embedded');
  const { shardFolder } = await partition({ folder, outStore: store, tp, dtype: 'int8' });
  const room = SEQUENCES * SLOT_TOKENS;
  const plain = await write(shardFolder, false, room, 0);
  expect(plain.tried.drafts).toBe(0);
  const guessed = await write(shardFolder, true, room, 0);
  expect(guessed.texts).toEqual(plain.texts);
  expect(guessed.tried.accepted).toBeGreaterThan(50);
  expect(guessed.tried.accepted).toBeLessThan(guessed.tried.drafts);
  expect(guessed.steps).toBeLessThan(plain.steps);
  const crowded = await write(shardFolder, true, 512, WARM_SLOTS);
  expect(crowded.texts).toEqual(plain.texts);
});
