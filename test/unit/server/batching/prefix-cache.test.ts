/** The prefix cache behind the batch loop, against a rank that checks that shared rows are there and of the same tokens. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { BatchLoop } from '../../../../server/batching/batch-loop.js';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { PrefixCache } from '../../../../server/batching/prefix-cache.js';
import { SlotTable } from '../../../../server/batching/slot-table.js';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { clientLeft } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { FakeGroup } from '../../../fixtures/fake-group.js';
import {
  FAKE_TEXTS,
  makeJob,
  makeRequest,
  readAll,
  tokenIdsOf,
} from '../../../fixtures/generate-requests.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';
import { fakeTokens } from '../../../support/fake-rank.js';

interface Options {
  maxSlots?: number;
  warmSlots?: number;
  kvTokens?: number;
  longAfterTokens?: number | null;
  prefillTokens?: number;
}

function startLoop(options: Options = {}) {
  const {
    kvTokens = 4096,
    longAfterTokens = null,
    maxSlots = 4,
    prefillTokens = 64,
    warmSlots = 4,
  } = options;
  const maxStepTokens = prefillTokens + maxSlots;
  const group = new FakeGroup({ maxSlots: maxSlots + warmSlots, slotTokens: 1024, maxStepTokens, kvTokens });
  // The clock of the jobs, which are queued at 0: real time goes past a minute in a slow run.
  const clock = new ManualClock();
  const queue = new JobQueue<GenerationJob>('toy', 100, 60_000, () => clock.nowMs());
  const slots = new SlotTable(maxSlots, kvTokens, warmSlots);
  const prefixCache = new PrefixCache({ slots, longAfterTokens });
  const lookedUp: number[][] = [];
  const loop = new BatchLoop({
    group,
    queue,
    batcher: new ContinuousBatcher(),
    slots,
    prefixCache,
    // A step takes a millisecond a token.
    chunkBudget: new ChunkBudget({
      gapMs: prefillTokens,
      scheduling: 'throughput',
      maxTokens: prefillTokens,
    }),
    texts: FAKE_TEXTS,
    clock,
    observer: {
      jobStarted: () => {},
      firstToken: () => {},
      prefixLookedUp: (...tokens) => lookedUp.push(tokens),
      nextToken: () => {},
      stepDone: () => {},
    },
  });
  const ended = loop.run().catch((error: unknown) => error);
  const run = async (job: GenerationJob): Promise<number> => {
    group.auto = true;
    queue.push(job);
    const { error, events } = await readAll(job.stream);
    expect(error).toBeNull();
    expect(tokenIdsOf(events)).toEqual(fakeTokens(job.promptIds, job.maxNewTokens, job.endIds));
    await settle();
    const last = events.at(-1);
    return last?.kind === 'finish' ? (last.cachedTokens ?? 0) : Number.NaN;
  };
  return { ended, group, lookedUp, prefixCache, queue, run, slots };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

const ids = (count: number, seed = 0): number[] =>
  Array.from({ length: count }, (_, index) => (index * 7 + seed * 13 + 1) % 512);

describe('the prefix cache', () => {
  it('computes of the same prompt again nothing but its last token', async () => {
    const { group, lookedUp, prefixCache, run } = startLoop();
    expect(await run(makeJob({ promptIds: ids(100) }))).toBe(0);
    expect(await run(makeJob({ promptIds: ids(100) }))).toBe(99);
    expect(group.rank.sharedRows).toBe(99);
    expect(lookedUp).toEqual([
      [100, 0],
      [100, 99],
    ]);
    // The second has no row that the first has not.
    expect([prefixCache.warmSlots, prefixCache.warmTokens]).toEqual([1, 128]);
  });

  it('takes the slot over when a prompt goes on behind all its rows, as the next turn of a chat does', async () => {
    const { group, prefixCache, run } = startLoop();
    const first = makeJob({ promptIds: ids(40), maxNewTokens: 20 });
    await run(first);
    const answer = fakeTokens(first.promptIds, 20);
    const second = makeJob({ promptIds: [...first.promptIds, ...answer, ...ids(10, 3)] });
    // The last token of the answer was chosen, not run.
    expect(await run(second)).toBe(59);
    const opens = group.plans.flatMap((plan) => plan.opens);
    expect(opens.map(({ keptRows, slot }) => [slot, keptRows])).toEqual([
      [0, 0],
      [0, 59],
    ]);
    expect(group.plans.flatMap((plan) => plan.copies ?? [])).toEqual([]);
    expect(prefixCache.warmSlots).toBe(1);
  });

  it('copies what prompts share, and keeps what they do not', async () => {
    const { group, prefixCache, run } = startLoop();
    const system = ids(80);
    await run(makeJob({ promptIds: [...system, ...ids(20, 1)] }));
    expect(await run(makeJob({ promptIds: [...system, ...ids(20, 2)] }))).toBe(80);
    expect(await run(makeJob({ promptIds: [...system, ...ids(20, 1), 9, 9] }))).toBe(100);
    expect(group.plans.flatMap((plan) => plan.copies ?? []).map(({ rows }) => rows)).toEqual([80, 100]);
    expect(prefixCache.warmSlots).toBe(3);
  });

  it('shares less than 16 tokens with nobody', async () => {
    const { run } = startLoop();
    await run(makeJob({ promptIds: ids(15), maxNewTokens: 1 }));
    expect(await run(makeJob({ promptIds: [...ids(15), 500, 501] }))).toBe(0);
    expect(await run(makeJob({ promptIds: [...ids(15), 500, 501, 502] }))).toBe(17);
  });

  it('shares nothing between tenants', async () => {
    const { group, run } = startLoop();
    const of = (cacheSalt?: string) =>
      makeJob({ promptIds: ids(100), request: makeRequest(cacheSalt === undefined ? {} : { cacheSalt }) });
    expect([await run(of()), await run(of('a')), await run(of('b'))]).toEqual([0, 0, 0]);
    expect(group.rank.sharedRows).toBe(0);
    expect([await run(of()), await run(of('a')), await run(of('b'))]).toEqual([99, 99, 99]);
  });

  it('shares nothing between sequences that count their positions otherwise', async () => {
    const { run } = startLoop({ longAfterTokens: 200 });
    expect(await run(makeJob({ promptIds: ids(100), maxNewTokens: 100 }))).toBe(0);
    expect(await run(makeJob({ promptIds: ids(100), maxNewTokens: 101 }))).toBe(0);
    expect(await run(makeJob({ promptIds: ids(100), maxNewTokens: 99 }))).toBe(99);
  });

  it('computes a prompt once that several ask for at the same time', async () => {
    const { group, queue } = startLoop();
    const jobs = [1, 2, 3].map(() => makeJob({ promptIds: ids(200), maxNewTokens: 4 }));
    for (const job of jobs) queue.push(job);
    group.auto = true;
    for (const job of jobs) {
      expect(tokenIdsOf((await readAll(job.stream)).events)).toEqual(fakeTokens(job.promptIds, 4));
    }
    expect(group.rank.sharedRows).toBe(2 * 199);
    const computed = group.plans
      .flatMap((plan) => plan.rows)
      .filter(({ tokens }) => tokens > 1)
      .reduce((sum, { tokens }) => sum + tokens, 0);
    expect(computed).toBeLessThanOrEqual(200);
  });

  it('goes on with what there is when the one it waits for is cancelled', async () => {
    const { group, queue } = startLoop({ prefillTokens: 32 });
    const [first, second] = [makeJob({ promptIds: ids(300) }), makeJob({ promptIds: ids(300) })];
    queue.push(first);
    queue.push(second);
    await settle();
    for (let step = 0; step < 3; step++) {
      group.runNext();
      await settle();
    }
    first.cancel(clientLeft());
    group.auto = true;
    while (group.inFlight > 0) group.runNext();
    expect(tokenIdsOf((await readAll(second.stream)).events)).toEqual(fakeTokens(second.promptIds, 8));
    expect(group.rank.sharedRows).toBeGreaterThan(32);
  });

  it('gives the least recently used rows up first when no slot is left', async () => {
    const { prefixCache, run } = startLoop({ maxSlots: 1, warmSlots: 2 });
    const [a, b, c] = [ids(50, 1), ids(50, 2), ids(50, 3)];
    // Two slots are warm while a third sequence runs.
    for (const promptIds of [a, b]) await run(makeJob({ promptIds }));
    expect(await run(makeJob({ promptIds: a }))).toBe(49);
    await run(makeJob({ promptIds: c }));
    expect(prefixCache.warmSlots).toBe(3);
    expect(await run(makeJob({ promptIds: ids(50, 4) }))).toBe(0);
    expect(await run(makeJob({ promptIds: a }))).toBe(49);
    expect(await run(makeJob({ promptIds: b }))).toBe(0);
  });

  it('never takes KV memory that a running sequence needs', async () => {
    const { prefixCache, run, slots } = startLoop({ kvTokens: 256, maxSlots: 2 });
    for (let seed = 0; seed < 6; seed++) {
      await run(makeJob({ promptIds: ids(100, seed), maxNewTokens: 20 }));
      expect(prefixCache.warmTokens).toBeLessThanOrEqual(256);
    }
    expect(slots.freeKvTokens).toBe(256);
    // The whole memory, of which its donor holds a part: there is no room for both.
    const all = makeJob({ promptIds: [...ids(60, 5), ...ids(150, 9)], maxNewTokens: 46 });
    expect(await run(all)).toBe(60);
    expect(prefixCache.warmSlots).toBe(1);
  });

  it('keeps nothing of a group that is lost', async () => {
    const { ended, group, prefixCache, queue, slots } = startLoop();
    queue.push(makeJob({ promptIds: ids(100) }));
    await settle();
    group.die(new ServingError('WORKER_FAILED', 'gone'));
    await ended;
    expect([prefixCache.warmSlots, slots.freeSlots]).toEqual([0, 4]);
  });
});
