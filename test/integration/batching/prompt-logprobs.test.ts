/**
 * Log-probabilities of a prompt's tokens by the real ranks behind the batch loop: those of the logits at each place, at degrees 1 and 2; and the
 * answer behind them is the one that the prompt gets without.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { decodeToWorker, encodeToWorker, GREEDY_SAMPLING } from '../../../proto/control.js';
import type { Manifest } from '../../../proto/manifest.js';
import { BatchLoop } from '../../../server/batching/batch-loop.js';
import type { SteppedGroup } from '../../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../server/batching/continuous-batcher.js';
import { SlotTable } from '../../../server/batching/slot-table.js';
import { makeJob as makeRealJob } from '../../../server/engines/llm/make-job.js';
import { systemClock } from '../../../server/jobs/clock.js';
import type { GenerationJob } from '../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../server/jobs/job-queue.js';
import type { GenerateRequest } from '../../../server/requests/generate-request.js';
import type { PromptTokenEvent } from '../../../server/requests/job-events.js';
import { readManifest } from '../../../shard-worker/read-manifest.js';
import { FAKE_TEXTS, makeRequest, readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import { createInProcessGroup, type InProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const PROMPT = [9, 120, 7, 33, 500, 2, 2, 41];
const NEW_TOKENS = 6;

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'prompt-logprobs-'));
});
afterAll(() => rmSync(store, { recursive: true }));

/** For the token behind each place but the last, from the logits themselves. */
async function reference(group: InProcessGroup): Promise<number[]> {
  const found: number[] = [];
  for (let count = 1; count < PROMPT.length; count++) {
    const open = { slot: 0, sequence: count, promptIds: PROMPT.slice(0, count), maxNewTokens: 1, endIds: [] };
    const opens = [{ ...open, sampling: GREEDY_SAMPLING }];
    const rows = [{ slot: 0, sequence: count, tokens: count }];
    await group.step({ step: 2 * count - 1, closeSlots: [], opens, rows });
    const logits = Float64Array.from(group.logits(0));
    const max = logits.reduce((a, b) => Math.max(a, b));
    const sum = logits.reduce((all, logit) => all + Math.exp(logit - max), 0);
    found.push(logits[PROMPT[count]!]! - max - Math.log(sum));
    await group.step({ step: 2 * count, closeSlots: [0], opens: [], rows: [] });
  }
  return found;
}

async function run(
  shardFolder: string,
  requests: readonly Partial<GenerateRequest>[],
  info: Manifest['model'],
  perStep: number,
) {
  const maxSlots = requests.length;
  const group = await createInProcessGroup(shardFolder, { maxSlots, maxDrafts: perStep, slotTokens: 64 });
  let last = 0;
  let before: Promise<unknown> = Promise.resolve();
  const stepped: SteppedGroup = {
    failed: new Promise(() => {}),
    step(plan) {
      const sent = decodeToWorker(encodeToWorker({ body: 'step', step: { ...plan, step: ++last } }));
      const result = before.then(async () => {
        if (sent.body !== 'step') throw new Error('a step is a step');
        return (await group.step(sent.step))[0]!;
      });
      before = result.catch(() => {});
      return result;
    },
  };
  const queue = new JobQueue<GenerationJob>('embedded', requests.length, 600_000);
  const loop = new BatchLoop({
    group: stepped,
    queue,
    batcher: new ContinuousBatcher(),
    slots: new SlotTable(requests.length, requests.length * 64, 0),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'balanced', maxTokens: 64 }),
    texts: FAKE_TEXTS,
    clock: systemClock,
    ...(perStep > 0 && { drafts: { perSequence: 0, perStep, guess: () => [] } }),
  });
  const running = loop.run();
  const jobs = requests.map((fields, id) =>
    makeRealJob({
      id,
      request: makeRequest({ maxNewTokens: NEW_TOKENS, ignoreEndIds: true, ...fields }),
      promptIds: PROMPT,
      info,
      limits: { slotTokens: 64, kvTokens: 1024 },
      normalise: false,
      receivedAtMs: 0,
      queuedAtMs: systemClock.nowMs(),
    }),
  );
  for (const job of jobs) queue.push(job);
  const read = await Promise.all(jobs.map((job) => readAll(job.stream)));
  loop.stop();
  await running;
  expect(read.map(({ error }) => error)).toEqual(jobs.map(() => null));
  return { events: read.map(({ events }) => events), steps: last };
}

it.each([
  [1, 0],
  [2, 0],
  [1, 9],
  [2, 3],
])('tp %i, %i known tokens a step: those of the logits, and the same answer', async (tp, perStep) => {
  const folder = path.join(repositoryRoot, 'models', 'embedded');
  const { shardFolder } = await partition({ folder, outStore: store, tp, dtype: 'fp32' });
  const { model } = await readManifest(shardFolder);
  const expected = await reference(await createInProcessGroup(shardFolder, { maxSlots: 1, slotTokens: 64 }));
  const penalties = { presencePenalty: 1, frequencyPenalty: 0.5 };
  const sampling = { doSample: true, temperature: 1.2, seed: 11, minNewTokens: 3, ...penalties };
  const greedy = { sampling: { doSample: false } };
  // An end id in the prompt ends nothing.
  const ends = { stopTokenIds: [PROMPT[3]!] };
  const { events, steps } = await run(
    shardFolder,
    [
      greedy,
      { ...greedy, promptLogprobs: 3, logprob: true, topLogprobs: 1, ...ends },
      { sampling },
      { promptLogprobs: 0, sampling },
      { promptLogprobs: 1, maxNewTokens: 0 },
    ],
    model,
    perStep,
  );
  const [plain, told, free, toldSampled, score] = events;
  // The told prompts go on together with others that have a token a step.
  if (perStep === 9) expect(steps).toBeLessThan(PROMPT.length + NEW_TOKENS);
  const prompts = [told!, toldSampled!, score!].map((events) =>
    events.filter((event): event is PromptTokenEvent => event.kind === 'prompt-token'),
  );
  for (const prompt of prompts) {
    expect(prompt.map(({ tokenId }) => tokenId)).toEqual(PROMPT);
    expect(prompt[0]!.logprob).toBeNaN();
    prompt.slice(1).forEach(({ logprob }, at) => {
      expect(Math.abs(logprob - expected[at]!)).toBeLessThan(1e-4);
    });
  }
  expect(prompts[0]![1]!.topLogprobs).toHaveLength(3);
  expect(tokenIdsOf(told!)).toEqual(tokenIdsOf(plain!));
  expect(tokenIdsOf(toldSampled!)).toEqual(tokenIdsOf(free!));
  expect(score!.at(-1)).toMatchObject({
    kind: 'finish',
    reason: 'length',
    promptTokens: 8,
    newTokens: 0,
    text: '',
  });
  expect(told!.at(-1)).toMatchObject({ promptTokens: 8, newTokens: NEW_TOKENS });
});
