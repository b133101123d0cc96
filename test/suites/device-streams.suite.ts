/**
 * A device with memory of its own behind the batch loop: streams that come and go, prompts in chunks beside them, a reader that leaves, a
 * mask, log-probabilities, prompts that begin like others, and, where there is time, too little KV memory. In float32 the tokens are
 * transformers'; in other formats those that the device gives each prompt alone.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { BatchLoop } from '../../server/batching/batch-loop.js';
import type { SteppedGroup } from '../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../server/batching/continuous-batcher.js';
import { PrefixCache } from '../../server/batching/prefix-cache.js';
import { KV_PAGE_TOKENS, SlotTable, type SwapLimits } from '../../server/batching/slot-table.js';
import { systemClock } from '../../server/jobs/clock.js';
import type { GenerationJob, GenerationJobOptions } from '../../server/jobs/generation-job.js';
import { JobQueue } from '../../server/jobs/job-queue.js';
import type { SlotFreed } from '../../server/jobs/work-observer.js';
import type { GenerationEvent, TokenEvent } from '../../server/requests/job-events.js';
import type { Device, RemoteDevice } from '../../shard-worker/device/device.js';
import { FAKE_TEXTS, makeJob, makeRequest, readAll, tokenIdsOf } from '../fixtures/generate-requests.js';
import { type Golden, type GoldenPrompt, goldenFolder, readGolden } from '../support/golden.js';
import { createInProcessGroup, type InProcessGroup } from '../support/in-process-group.js';

const SLOT_TOKENS = 192;
const STREAMS = 4;
const WARM_SLOTS = 2;
/** The long prompt comes in three. */
const CHUNK_TOKENS = 32;
const NO_SWAP: SwapLimits = { slots: 0, kvTokens: 0 };
const LOGPROB_TOLERANCE = 1e-3;

export interface StreamsCase {
  tp: number;
  dtype: 'fp32' | 'fp16' | 'int8' | 'int4';
}

export interface StreamsOptions {
  device: () => RemoteDevice;
  cases: readonly StreamsCase[];
  /** Sequences long enough to run out of KV memory; default: none. */
  preempts?: (one: StreamsCase) => boolean;
}

interface LoopOptions {
  kvTokens?: number;
  warmSlots?: number;
  swap?: SwapLimits;
}

/** The batch loop over a group, and what it told. */
class RunningLoop {
  readonly freed: SlotFreed[] = [];
  /** Slots that had been freed when a job, by its id, got one. */
  readonly freedBefore = new Map<number, number>();
  /** Tokens of each prompt that were there. */
  readonly cached: number[] = [];
  readonly #queue = new JobQueue<GenerationJob>('llama', 16, 600_000);
  readonly #loop: BatchLoop;
  readonly #running: Promise<unknown>;
  readonly #group: Stepped;

  constructor(
    group: Stepped,
    { kvTokens = STREAMS * SLOT_TOKENS, swap = NO_SWAP, warmSlots = 0 }: LoopOptions = {},
  ) {
    this.#group = group;
    const slots = new SlotTable(STREAMS, kvTokens, warmSlots, swap);
    this.#loop = new BatchLoop({
      ...{ group, queue: this.#queue, batcher: new ContinuousBatcher(), slots, clock: systemClock },
      ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
      chunkBudget: new ChunkBudget({ gapMs: 60_000, scheduling: 'throughput', maxTokens: CHUNK_TOKENS }),
      texts: FAKE_TEXTS,
      onSlotFreed: (event) => this.freed.push(event),
      onJobStarted: ({ id }) => this.freedBefore.set(id, this.freed.length),
      observer: {
        prefixLookedUp: (_, cachedTokens) => this.cached.push(cachedTokens),
        ...{ jobStarted() {}, firstToken() {}, nextToken() {}, stepDone() {} },
      },
    });
    this.#running = this.#loop.run();
  }

  job(promptIds: readonly number[], maxNewTokens: number, fields: Partial<GenerationJobOptions> = {}) {
    const job = makeJob({ promptIds, maxNewTokens, queuedAtMs: systemClock.nowMs(), ...fields });
    this.#queue.push(job);
    return job;
  }

  async close(): Promise<void> {
    this.#loop.stop();
    await this.#running;
    await this.#group.end();
  }
}

interface Stepped extends SteppedGroup {
  /** Steps with rows of prompts beside rows that decode. */
  chunks: number;
  /** Closes what the loop left warm. */
  end(): Promise<void>;
}

/** Like the coordinator, which sends a step while another runs: in their order. */
function steppedBy(group: InProcessGroup, lastStep: { number: number }): Stepped {
  let before: Promise<unknown> = Promise.resolve();
  const taken = new Set<number>();
  const stepped: Stepped = {
    chunks: 0,
    failed: new Promise(() => {}),
    end: async () => {
      await stepped.step({ closeSlots: [...taken], opens: [], rows: [] });
    },
    step(plan) {
      for (const slot of plan.closeSlots) taken.delete(slot);
      for (const { slot } of plan.opens) taken.add(slot);
      const counts = plan.rows.map(({ tokens }) => tokens);
      if (counts.includes(1) && counts.some((tokens) => tokens > 1)) stepped.chunks++;
      const step = ++lastStep.number;
      const result = before.then(async () => {
        const results = await group.step({ ...plan, step });
        for (const { rows } of results) expect(rows).toEqual(results[0]!.rows);
        return results[0]!;
      });
      before = result.catch(() => {});
      return result;
    },
  };
  return stepped;
}

/** Reads some tokens of a stream and goes. */
async function readSome(job: GenerationJob, count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const event of job.stream as AsyncIterable<GenerationEvent>) {
    if (event.kind === 'token') ids.push(event.tokenId);
    if (ids.length === count) break;
  }
  return ids;
}

async function idsOf(job: GenerationJob): Promise<number[]> {
  const { error, events } = await readAll(job.stream);
  expect(error).toBeNull();
  return tokenIdsOf(events);
}

export function deviceStreamsSuite({ cases, device, preempts = () => false }: StreamsOptions): void {
  describe.each(cases)('streams at tp $tp in $dtype', ({ dtype, tp }) => {
    const golden: Golden = readGolden('llama');
    const [short, medium, long] = ['short', 'medium', 'long'].map(
      (name) => golden.prompts.find((one) => one.name === name)!,
    ) as [GoldenPrompt, GoldenPrompt, GoldenPrompt];
    const lastStep = { number: 0 };
    let store: string;
    let group: InProcessGroup;
    beforeAll(async () => {
      store = mkdtempSync(path.join(tmpdir(), 'device-streams-'));
      const options = { folder: goldenFolder('llama'), outStore: store, tp, dtype };
      const { shardFolder } = await partition({ ...options, device: device().deviceClass });
      group = await createInProcessGroup(shardFolder, {
        ...{ maxSlots: 2 * STREAMS + WARM_SLOTS, slotTokens: SLOT_TOKENS, device: (): Device => device() },
      });
    });
    afterAll(() => rmSync(store, { recursive: true }));

    const open = (options: LoopOptions = {}) => {
      const stepped = steppedBy(group, lastStep);
      return { stepped, loop: new RunningLoop(stepped, options) };
    };
    /** By transformers, or by the device alone. */
    const expectedOf = async ({ greedyIds, ids }: GoldenPrompt, count: number): Promise<number[]> => {
      if (dtype === 'fp32') return greedyIds.slice(0, count);
      const { loop } = open();
      const alone = await idsOf(loop.job(ids, count));
      await loop.close();
      return alone;
    };

    it('come, go and are left, each as alone, and a slot that is left serves who waits', async () => {
      const expected = {
        short: await expectedOf(short, 8),
        medium: await expectedOf(medium, 12),
        long: await expectedOf(long, 3),
      };
      const { loop, stepped } = open();
      const first = loop.job(medium.ids, 12);
      const firstIds: number[] = [];
      let come = (): void => {};
      const bothThere = new Promise<void>((resolve) => {
        come = resolve;
      });
      const reading = (async () => {
        for await (const event of first.stream as AsyncIterable<GenerationEvent>) {
          if (event.kind === 'token') firstIds.push(event.tokenId);
          if (firstIds.length === 2) come();
        }
      })();
      await bothThere;
      // Its prompt comes in chunks beside the first one's tokens.
      const chunked = idsOf(loop.job(long.ids, 3));
      const sampling = { ...GREEDY_SAMPLING, logprob: true, topLogprobs: 2 };
      const request = makeRequest({ logprob: true, topLogprobs: 2 });
      const told = readAll(loop.job(short.ids, 8, { sampling, request }).stream);
      const left = readSome(loop.job(short.ids, 100), 2);
      // A fifth, for which there is no slot.
      const even = Array.from({ length: golden.vocabSize }, (_, id) => id).filter((id) => id % 2 === 0);
      const mask = { ids: even, bits: new Uint8Array() };
      const constraint = { first: mask, maskAfter: () => mask, release: () => {} };
      const waiting = loop.job(medium.ids, 4, { constraint });
      expect(await left).toEqual(expected.short.slice(0, 2));
      const constrained = await idsOf(waiting);
      await reading;
      expect(firstIds).toEqual(expected.medium);
      expect(await chunked).toEqual(expected.long);
      expect(stepped.chunks).toBeGreaterThan(1);
      const { error, events } = await told;
      expect([error, tokenIdsOf(events)]).toEqual([null, expected.short]);
      await loop.close();

      expect(loop.freed[0]).toMatchObject({ why: 'cancelled' });
      expect(loop.freed[0]!.newTokens).toBeLessThan(10);
      // Who waited had the slot before any other stream ended.
      expect(loop.freedBefore.get(waiting.id)).toBe(1);
      expect(loop.freed.slice(1).map(({ why }) => why)).toEqual(Array(STREAMS).fill('finished'));

      expect(constrained.every((id) => id % 2 === 0)).toBe(true);
      if (dtype !== 'fp32') return;
      const behindPrompt = golden.logits(medium, medium.ids.length - 1);
      expect(constrained[0]).toBe(even.reduce((a, b) => (behindPrompt[b]! > behindPrompt[a]! ? b : a)));
      const logits = golden.logits(short, short.ids.length - 1);
      const sum = logits.reduce((all, logit) => all + Math.exp(logit), 0);
      const [token] = events.filter((event): event is TokenEvent => event.kind === 'token');
      const best = [...logits].map((logit) => logit - Math.log(sum)).sort((a, b) => b - a);
      expect(Math.abs(token!.logprob - best[0]!)).toBeLessThan(LOGPROB_TOLERANCE);
      token!.topLogprobs.forEach(({ logprob }, at) => {
        expect(Math.abs(logprob - best[at]!)).toBeLessThan(LOGPROB_TOLERANCE);
      });
    });

    it('begin like others and are not computed again, with the same tokens', async () => {
      const expected = await expectedOf(long, 8);
      const { loop } = open({ warmSlots: WARM_SLOTS });
      expect(await idsOf(loop.job(long.ids, 4))).toEqual(expected.slice(0, 4));
      // The next turn of a chat, the same prompt again, and one that leaves it half way: all at once.
      const turn = [...long.ids, ...expected.slice(0, 4)];
      const half = [...long.ids.slice(0, 50), ...short.ids];
      const jobs = [loop.job(turn, 4), loop.job(long.ids, 4), loop.job(half, 3)];
      const [next, again, other] = await Promise.all(jobs.map(idsOf));
      expect(next).toEqual(expected.slice(4));
      expect(again).toEqual(expected.slice(0, 4));
      expect(loop.cached.sort((a, b) => a - b)).toEqual([0, 50, long.ids.length - 1, long.ids.length + 3]);
      await loop.close();
      const without = open().loop;
      expect(await idsOf(without.job(half, 3))).toEqual(other);
      await without.close();
    });

    if (!preempts({ dtype, tp })) return;

    it('run out of KV memory and go on as if they had not', async () => {
      // Two start with two pages each, and come to want a third; there are five.
      const prompts = [
        [...medium.ids, ...medium.greedyIds.slice(0, 20)],
        long.ids.slice(0, 60),
        long.ids.slice(30),
      ];
      const write = async (options: LoopOptions) => {
        const { loop } = open(options);
        const ids = await Promise.all(prompts.map((promptIds) => idsOf(loop.job(promptIds, 75))));
        await loop.close();
        return { ids, preempted: loop.freed.filter(({ why }) => why === 'preempted').length };
      };
      const undisturbed = await write({});
      expect(undisturbed.preempted).toBe(0);
      if (dtype === 'fp32') expect(undisturbed.ids[0]!.slice(0, 12)).toEqual(medium.greedyIds.slice(20));
      const kvTokens = 5 * KV_PAGE_TOKENS;
      const swap = { slots: STREAMS, kvTokens: STREAMS * SLOT_TOKENS };
      for (const options of [{ kvTokens }, { kvTokens, warmSlots: WARM_SLOTS }, { kvTokens, swap }]) {
        const crowded = await write(options);
        expect(crowded.preempted).toBeGreaterThan(0);
        expect(crowded.ids).toEqual(undisturbed.ids);
      }
    });
  });
}
