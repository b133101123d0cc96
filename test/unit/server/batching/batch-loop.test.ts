/** The batch loop against a fake group that holds it to the contract of the control channel. */
import { describe, expect, it } from 'vitest';
import type { Row } from '../../../../proto/control.js';
import { ServingError } from '../../../../proto/errors.js';
import { BatchLoop } from '../../../../server/batching/batch-loop.js';
import type { Batcher } from '../../../../server/batching/batcher.js';
import { ChunkBudget } from '../../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { DynamicBatcher } from '../../../../server/batching/dynamic-batcher.js';
import { SlotTable } from '../../../../server/batching/slot-table.js';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { clientLeft } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import type { SlotFreed } from '../../../../server/jobs/work-observer.js';
import { FakeGroup } from '../../../fixtures/fake-group.js';
import {
  FAKE_TEXTS,
  makeJob,
  makeRequest,
  readAll,
  tokenIdsOf,
} from '../../../fixtures/generate-requests.js';
import { ManualClock } from '../../../fixtures/manual-clock.js';
import { fakeToken, fakeTokens, UNCHOOSABLE_ID } from '../../../support/fake-rank.js';

interface Options {
  batcher?: Batcher;
  maxSlots?: number;
  kvTokens?: number;
  chunkMs?: number;
  /** Masks may follow their steps, and are looked at. */
  masksFollow?: boolean;
  /** Deaths that a job survives. */
  retries?: number;
  /** The queue of a group that died, with what that one had. */
  before?: JobQueue<GenerationJob>;
}

function startLoop({
  batcher = new ContinuousBatcher(),
  maxSlots = 4,
  kvTokens = 4096,
  chunkMs = 64,
  masksFollow = false,
  retries = 0,
  before,
}: Options = {}) {
  const group = new FakeGroup({
    maxSlots,
    slotTokens: 1024,
    maxStepTokens: 64 + maxSlots,
    obeysMasks: masksFollow,
  });
  const told = masksFollow ? group.takeMasks() : [];
  // The clock of the jobs, which are queued at 0: real time goes past a minute in a slow run.
  const clock = new ManualClock();
  const queue = before ?? new JobQueue<GenerationJob>('toy', 100, 60_000, () => clock.nowMs());
  const freed: SlotFreed[] = [];
  const loop = new BatchLoop({
    group,
    queue,
    batcher,
    slots: new SlotTable(maxSlots, kvTokens),
    chunkBudget: new ChunkBudget({ gapMs: chunkMs, scheduling: 'throughput', maxTokens: 64 }),
    texts: FAKE_TEXTS,
    clock,
    deathLimits: { retries, mostDeaths: retries },
    onSlotFreed: (event) => freed.push(event),
  });
  const ended = loop.run().then(
    () => null,
    (error: unknown) => error,
  );
  return { group, queue, clock, freed, loop, ended, told };
}

/** Lets everything run that is ready to. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

describe('the batch loop', () => {
  it('runs a job from its prompt to its end and gives the slot back', async () => {
    const { group, queue, freed } = startLoop();
    group.auto = true;
    const job = makeJob({ promptIds: [5, 6, 7], maxNewTokens: 6 });
    queue.push(job);
    const { events, error } = await readAll(job.stream);
    expect(error).toBeNull();
    expect(tokenIdsOf(events)).toEqual(fakeTokens([5, 6, 7], 6));
    expect(events.at(-1)).toMatchObject({ kind: 'finish', reason: 'length', newTokens: 6 });
    await settle();
    expect(freed).toEqual([{ jobId: job.id, requestId: 'request', slot: 0, why: 'finished', newTokens: 6 }]);
    expect(group.rank.openSlots).toEqual([]);
  });

  it('fails a job whose token cannot be chosen alone, and the others of its step go on', async () => {
    const { group, queue, freed, ended, loop } = startLoop();
    group.auto = true;
    const good = makeJob({ promptIds: [5, 6, 7], maxNewTokens: 6 });
    const bad = makeJob({ promptIds: [5, UNCHOOSABLE_ID], maxNewTokens: 6 });
    const waiting = makeJob({ promptIds: [9], maxNewTokens: 3 });
    for (const job of [good, bad, waiting]) queue.push(job);
    const [first, failed, last] = await Promise.all(
      [good, bad, waiting].map(({ stream }) => readAll(stream)),
    );
    expect(tokenIdsOf(first!.events)).toEqual(fakeTokens([5, 6, 7], 6));
    expect(tokenIdsOf(last!.events)).toEqual(fakeTokens([9], 3));
    expect(failed!.error).toMatchObject({ code: 'BAD_REQUEST', message: 'no token can be chosen' });
    await settle();
    expect(freed.filter(({ why }) => why === 'failed').map(({ jobId }) => jobId)).toEqual([bad.id]);
    expect(group.rank.openSlots).toEqual([]);
    loop.stop();
    expect(await ended).toBeNull();
  });

  it('sends the next step before the result of the last has come, and no third', async () => {
    const { group, queue } = startLoop();
    queue.push(makeJob({ promptIds: [5], maxNewTokens: 10 }));
    await settle();
    expect(group.plans).toHaveLength(2);
    group.runNext();
    await settle();
    expect(group.plans).toHaveLength(3);
    expect(group.inFlight).toBe(2);
  });

  it('has sequences that do not run ahead in one step, though their masks come apart, and waits a moment at most', async () => {
    const { clock, group, queue } = startLoop();
    const given = new Map<number, () => void>();
    const mask = { ids: [1], bits: new Uint8Array() };
    const constraintOf = (number: number) => ({
      first: mask,
      maskAfter: () =>
        new Promise<typeof mask>((resolve) => {
          given.set(number, () => resolve(mask));
        }),
      release: () => {},
    });
    const give = async (number: number): Promise<void> => {
      given.get(number)!();
      await settle();
    };
    for (const number of [0, 1]) {
      queue.push(makeJob({ promptIds: [5 + number], maxNewTokens: 10, constraint: constraintOf(number) }));
    }
    const slotsOf = (plan: number) => group.plans[plan]?.rows.map(({ slot }) => slot);
    await settle();
    expect(slotsOf(0)).toEqual([0, 1]);
    group.runNext();
    await settle();
    await give(0);
    expect(group.plans).toHaveLength(1);
    await give(1);
    expect(slotsOf(1)).toEqual([0, 1]);
    group.runNext();
    await settle();
    await give(0);
    clock.advance(5);
    await settle();
    expect(slotsOf(2)).toEqual([0]);
    // The other joins the next one, not a step of its own.
    await give(1);
    expect(group.plans).toHaveLength(3);
    group.runNext();
    await settle();
    await give(0);
    expect(slotsOf(3)).toEqual([0, 1]);
  });

  describe('where masks follow their steps', () => {
    /** A job with a form, whose masks come when they are given; each names the token it is for. */
    function constrainedJob(promptIds: number[], maxNewTokens = 10) {
      const waiting: (() => void)[] = [];
      const maskOf = (n: number) => ({ ids: [fakeToken(promptIds, n)], bits: new Uint8Array() });
      const constraint = {
        first: maskOf(0),
        maskAfter: (newIds: readonly number[]) =>
          new Promise<ReturnType<typeof maskOf>>((resolve) => {
            waiting.push(() => resolve(maskOf(newIds.length)));
          }),
        release: () => {},
      };
      const give = async (): Promise<void> => {
        waiting.shift()!();
        await settle();
      };
      return { job: makeJob({ promptIds, maxNewTokens, constraint }), give };
    }
    const followsOf = (rows: readonly Row[] | undefined) =>
      rows?.map(({ maskFollows = false }) => maskFollows);

    it('a constrained sequence runs ahead, and its mask comes while its step runs', async () => {
      const { group, queue, loop, ended, told } = startLoop({ masksFollow: true });
      const { job, give } = constrainedJob([5], 3);
      queue.push(job);
      await settle();
      expect(group.plans.map(({ rows }) => followsOf(rows))).toEqual([[false], [true]]);
      expect(group.plans[0]!.rows[0]!.mask).toEqual({ ids: [fakeToken([5], 0)], bits: new Uint8Array() });
      group.runNext();
      await settle();
      // The third is sent though nobody knows the second token.
      expect(followsOf(group.plans[2]?.rows)).toEqual([true]);
      expect(told).toEqual([]);
      await give();
      expect(told.map(({ mask }) => mask?.ids)).toEqual([[fakeToken([5], 1)]]);
      group.runNext();
      await settle();
      await give();
      group.runNext();
      expect(tokenIdsOf((await readAll(job.stream)).events)).toEqual(fakeTokens([5], 3));
      expect(told.map(({ mask }) => mask?.ids)).toEqual([[fakeToken([5], 1)], [fakeToken([5], 2)]]);
      loop.stop();
      await settle();
      group.runNext();
      expect(await ended).toBeNull();
    });

    it('one whose mask is late is left out, and does not run ahead for eight tokens; others do', async () => {
      const { clock, group, queue, told } = startLoop({ masksFollow: true });
      const [slow, quick] = [constrainedJob([5], 30), constrainedJob([9])];
      queue.push(slow.job);
      queue.push(quick.job);
      await settle();
      group.runNext();
      await settle();
      await quick.give();
      clock.advance(49);
      await settle();
      expect(told.map(({ mask }) => mask?.ids)).toEqual([[fakeToken([9], 1)]]);
      clock.advance(1);
      await settle();
      const [{ sequence }] = group.plans[0]!.rows as [Row];
      expect(told.slice(1)).toEqual([
        { sequence, mask: null },
        { sequence, mask: null },
      ]);
      group.runNext();
      await settle();
      await quick.give();
      // It is in no step until its mask is there, and then in one with it.
      expect(group.plans[3]!.rows.map((row) => row.sequence)).not.toContain(sequence);
      await slow.give();
      group.runNext();
      await settle();
      const own = group.plans[4]!.rows.find((row) => row.sequence === sequence);
      expect(own).toMatchObject({ mask: { ids: [fakeToken([5], 1)] } });
      await quick.give();
      group.runNext();
      await settle();
      await quick.give();
      group.runNext();
      await settle();
      expect(slow.job.stream.ended).toBe(false);
      expect(group.plans[5]!.rows.map((row) => row.sequence)).not.toContain(sequence);
      quick.job.cancel(clientLeft());
      await settle();
      const ownRows = (): Row[] =>
        group.plans.flatMap(({ rows }) => rows).filter((row) => row.sequence === sequence);
      for (let turn = 0; turn < 100 && !ownRows().at(-1)!.maskFollows; turn++) {
        if (group.inFlight > 0) group.runNext();
        else await slow.give();
        await settle();
      }
      // The first, eight alone in their steps, and the one that it runs ahead of again.
      expect(ownRows().filter(({ mask }) => mask)).toHaveLength(10);
      expect(followsOf(ownRows().slice(-2))).toEqual([false, true]);
    });

    it.each([true, false])(
      'one that has lost its group while its mask is made waits for it in the next (runs ahead: %s)',
      async (masksFollow) => {
        const first = startLoop({ masksFollow, retries: 2 });
        const { job, give } = constrainedJob([5], 3);
        first.queue.push(job);
        await settle();
        first.group.runNext();
        await settle();
        first.group.die(new ServingError('WORKER_FAILED', 'rank 0 died'));
        expect(await first.ended).toMatchObject({ code: 'WORKER_FAILED' });
        const second = startLoop({ masksFollow, before: first.queue });
        await settle();
        const rows = (): Row[] => second.group.plans.flatMap((plan) => plan.rows);
        expect(rows()).toEqual([]);
        await give();
        expect(rows()[0]).toMatchObject({ tokens: 2, mask: { ids: [fakeToken([5], 1)] } });
        // The step that opened its slot, and this one.
        for (const _ of [1, 2]) second.group.runNext();
        await settle();
        await give();
        second.group.runNext();
        expect(tokenIdsOf((await readAll(job.stream)).events)).toEqual(fakeTokens([5], 3));
      },
    );

    it('rows of one that leaves wait for no mask', async () => {
      const { group, queue, freed, told } = startLoop({ masksFollow: true });
      const { job } = constrainedJob([5]);
      queue.push(job);
      await settle();
      group.runNext();
      await settle();
      expect(group.inFlight).toBe(2);
      job.cancel(clientLeft());
      await settle();
      const { sequence } = group.plans[0]!.rows[0]!;
      expect(told).toEqual([
        { sequence, mask: null },
        { sequence, mask: null },
      ]);
      group.runNext();
      group.runNext();
      await settle();
      group.runNext();
      expect(group.rank.openSlots).toEqual([]);
      expect(freed.map(({ why }) => why)).toEqual(['cancelled']);
    });
  });

  it('plans no token beyond the budget of a job', async () => {
    const { group, queue } = startLoop();
    group.auto = true;
    const job = makeJob({ promptIds: [5], maxNewTokens: 4 });
    queue.push(job);
    await readAll(job.stream);
    await settle();
    // A prompt and three decodes, then the close.
    expect(group.plans.map((plan) => plan.rows.length)).toEqual([1, 1, 1, 1, 0]);
    expect(group.plans.at(-1)?.closeSlots).toEqual([0]);
  });

  it('lets the workers skip the row that was sent ahead of an end, and closes the slot in the step after', async () => {
    const { group, queue } = startLoop();
    const end = fakeToken([5], 1);
    const job = makeJob({ promptIds: [5], maxNewTokens: 10, endIds: [end] });
    queue.push(job);
    await settle();
    for (let step = 1; step <= 3; step++) {
      group.runNext();
      await settle();
    }
    const { events } = await readAll(job.stream);
    expect(tokenIdsOf(events)).toEqual(fakeTokens([5], 10, [end]));
    expect(events.at(-1)).toMatchObject({ reason: 'end-id', newTokens: 2 });
    expect(group.plans.map((plan) => [plan.rows.length, plan.closeSlots.length])).toEqual([
      [1, 0],
      [1, 0],
      [1, 0],
      [0, 1],
    ]);
  });

  it('drops tokens that came after a stop string', async () => {
    const { group, queue } = startLoop();
    group.auto = true;
    const second = fakeToken([5], 1);
    const request = makeRequest({ stopStrings: [`<${second}>`] });
    const job = makeJob({ request, promptIds: [5], maxNewTokens: 20 });
    queue.push(job);
    const { events } = await readAll(job.stream);
    expect(tokenIdsOf(events)).toEqual(fakeTokens([5], 2));
    expect(events.at(-1)).toMatchObject({ reason: 'stop-string', generatedText: '<6>', newTokens: 2 });
    await settle();
    expect(group.rank.openSlots).toEqual([]);
  });

  it('lets a job join while another runs, and leave before it', async () => {
    const { group, queue } = startLoop();
    const long = makeJob({ promptIds: [5], maxNewTokens: 100 });
    queue.push(long);
    await settle();
    group.runNext();
    await settle();
    const short = makeJob({ promptIds: [9, 8], maxNewTokens: 2 });
    queue.push(short);
    const reading = readAll(short.stream);
    while (!short.stream.ended) {
      group.runNext();
      await settle();
    }
    expect(tokenIdsOf((await reading).events)).toEqual(fakeTokens([9, 8], 2));
    expect(long.stream.ended).toBe(false);
    expect(group.plans.length).toBeLessThan(12);
  });

  it('cuts a prompt into chunks', async () => {
    const { group, queue } = startLoop();
    group.auto = true;
    const promptIds = Array.from({ length: 150 }, (_, index) => index);
    const job = makeJob({ promptIds, maxNewTokens: 1 });
    queue.push(job);
    const { events } = await readAll(job.stream);
    expect(tokenIdsOf(events)).toEqual(fakeTokens(promptIds, 1));
    expect(group.plans.flatMap((plan) => plan.rows.map((row) => row.tokens))).toEqual([64, 64, 22]);
  });

  it('cuts it shorter while another decodes', async () => {
    // The group takes a millisecond a token.
    const { group, queue } = startLoop({ chunkMs: 16 });
    queue.push(makeJob({ promptIds: [5], maxNewTokens: 10 }));
    await settle();
    queue.push(makeJob({ promptIds: Array.from({ length: 100 }, (_, index) => index), maxNewTokens: 2 }));
    group.runNext();
    await settle();
    expect(group.plans.at(-1)?.rows.map(({ tokens }) => tokens)).toEqual([1, 8]);
  });

  it('gives a slot that was freed to the next job in the same step that closes it', async () => {
    const { group, queue } = startLoop({ maxSlots: 1 });
    group.auto = true;
    const [first, second] = [makeJob({ maxNewTokens: 1 }), makeJob({ maxNewTokens: 1 })];
    queue.push(first);
    queue.push(second);
    await readAll(second.stream);
    const reuse = group.plans.find((plan) => plan.closeSlots.length > 0);
    expect(reuse?.opens.map((open) => open.slot)).toEqual([0]);
  });

  it('keeps jobs waiting that do not fit the KV tokens, and starts them when there is room', async () => {
    const { group, queue, loop } = startLoop({ kvTokens: 128 });
    const jobs = [1, 2, 3].map(() => makeJob({ promptIds: [1], maxNewTokens: 40 }));
    for (const job of jobs) queue.push(job);
    await settle();
    expect([loop.runningCount, queue.length]).toEqual([2, 1]);
    group.auto = true;
    group.runNext();
    group.runNext();
    for (const job of jobs) expect((await readAll(job.stream)).error).toBeNull();
  });
});

describe('the batch loop, when a job is cancelled', () => {
  it('frees the slot of a prefill in the next step', async () => {
    const { group, queue, freed } = startLoop();
    const promptIds = Array.from({ length: 300 }, (_, index) => index);
    const job = makeJob({ promptIds, maxNewTokens: 5 });
    queue.push(job);
    await settle();
    expect(group.plans).toHaveLength(2);
    job.cancel(clientLeft());
    await settle();
    expect(freed).toMatchObject([{ why: 'cancelled', newTokens: 0 }]);
    group.runNext();
    await settle();
    expect(group.plans[2]).toEqual({ closeSlots: [0], opens: [], rows: [] });
    group.runNext();
    group.runNext();
    await settle();
    expect(group.rank.openSlots).toEqual([]);
    expect((await readAll(job.stream)).error).toMatchObject({ code: 'CANCELLED' });
  });

  it('frees the slot of a decode, and drops the results that still come', async () => {
    const { group, queue, freed } = startLoop();
    const job = makeJob({ promptIds: [1], maxNewTokens: 50 });
    queue.push(job);
    await settle();
    for (let step = 0; step < 3; step++) {
      group.runNext();
      await settle();
    }
    job.cancel(clientLeft());
    group.auto = true;
    while (group.inFlight > 0) group.runNext();
    await settle();
    expect(freed).toMatchObject([{ why: 'cancelled', newTokens: 3 }]);
    expect(group.rank.openSlots).toEqual([]);
    const { events, error } = await readAll(job.stream);
    expect([tokenIdsOf(events).length, (error as ServingError).code]).toEqual([3, 'CANCELLED']);
  });

  it('does not disturb the others of its batch', async () => {
    const { group, queue } = startLoop();
    const jobs = [11, 12, 13].map((id) => makeJob({ promptIds: [id], maxNewTokens: 10 }));
    for (const job of jobs) queue.push(job);
    await settle();
    group.runNext();
    await settle();
    jobs[1]!.cancel(clientLeft());
    group.auto = true;
    while (group.inFlight > 0) group.runNext();
    for (const id of [0, 2]) {
      const { events } = await readAll(jobs[id]!.stream);
      expect(tokenIdsOf(events)).toEqual(fakeTokens(jobs[id]!.promptIds, 10));
    }
  });

  it('when its reader leaves, likewise', async () => {
    const { group, queue, freed } = startLoop();
    group.auto = true;
    const job = makeJob({ promptIds: [1], maxNewTokens: 900 });
    queue.push(job);
    for await (const event of job.stream) {
      if (event.kind === 'token') break;
    }
    await settle();
    expect(freed).toMatchObject([{ why: 'cancelled' }]);
    expect(group.rank.openSlots).toEqual([]);
  });
});

describe('the batch loop, when things go wrong', () => {
  it('ends every started job with the error of the group, and leaves the others in the queue', async () => {
    const { ended, freed, group, queue } = startLoop({ maxSlots: 2 });
    const jobs = [1, 2, 3].map(() => makeJob({ maxNewTokens: 20 }));
    for (const job of jobs) queue.push(job);
    await settle();
    const death = new ServingError('WORKER_FAILED', 'rank 1 was killed by SIGKILL');
    group.die(death);
    expect(await ended).toBe(death);
    for (const job of jobs.slice(0, 2)) expect((await readAll(job.stream)).error).toBe(death);
    expect(queue.waiting).toEqual([jobs[2]]);
    expect(freed.map((event) => event.why)).toEqual(['failed', 'failed']);
  });

  it('ends when an idle group dies', async () => {
    const { ended, group } = startLoop();
    await settle();
    const death = new ServingError('WORKER_FAILED', 'rank 0 exited with code 3');
    group.die(death);
    expect(await ended).toBe(death);
  });

  it('gives out the tokens of the steps that were done before the group died', async () => {
    const { ended, group, queue } = startLoop();
    const job = makeJob({ promptIds: [4], maxNewTokens: 20 });
    queue.push(job);
    await settle();
    group.runNext();
    group.die(new ServingError('WORKER_FAILED', 'gone'));
    await ended;
    expect(tokenIdsOf((await readAll(job.stream)).events)).toEqual(fakeTokens([4], 1));
  });

  it('ends one job alone when its text cannot be made', async () => {
    const { group, queue } = startLoop();
    group.auto = true;
    const bad = makeJob({ promptIds: [1], maxNewTokens: 5 });
    // A stream that is full stands for any bug behind append.
    Object.assign(bad.stream, {
      push: () => {
        throw new Error('no text');
      },
    });
    const good = makeJob({ promptIds: [2], maxNewTokens: 5 });
    queue.push(bad);
    queue.push(good);
    expect((await readAll(bad.stream)).error).toMatchObject({ code: 'INTERNAL' });
    expect(tokenIdsOf((await readAll(good.stream)).events)).toEqual(fakeTokens([2], 5));
  });

  it('refuses a result that does not belong to its step', async () => {
    const { ended, group, queue } = startLoop();
    const job = makeJob({ maxNewTokens: 5 });
    const run = group.rank.run.bind(group.rank);
    group.rank.run = (step) => ({ ...run(step), rows: [] });
    queue.push(job);
    await settle();
    group.runNext();
    expect(await ended).toMatchObject({ code: 'ERR_ASSERTION' });
    expect((await readAll(job.stream)).error).toMatchObject({ code: 'INTERNAL' });
  });
});

describe('the batch loop, when it is stopped', () => {
  it('ends at once when nothing runs', async () => {
    const { ended, loop } = startLoop();
    loop.stop();
    expect(await ended).toBeNull();
  });

  it('lets those that run end, and starts nobody', async () => {
    const { ended, group, loop, queue } = startLoop();
    const running = makeJob({ promptIds: [3], maxNewTokens: 5 });
    queue.push(running);
    await settle();
    loop.stop();
    queue.push(makeJob());
    group.auto = true;
    while (group.inFlight > 0) group.runNext();
    expect(await ended).toBeNull();
    expect(tokenIdsOf((await readAll(running.stream)).events)).toEqual(fakeTokens([3], 5));
    expect(queue.length).toBe(1);
  });
});

describe('the batch loop with dynamic batching', () => {
  it('waits for company on the clock, then runs the batch and answers each when it ends', async () => {
    const { clock, group, queue } = startLoop({ batcher: new DynamicBatcher(3, 100) });
    group.auto = true;
    const jobs = [2, 6].map((maxNewTokens) => makeJob({ promptIds: [maxNewTokens], maxNewTokens }));
    for (const job of jobs) queue.push(job);
    await settle();
    expect(group.plans).toHaveLength(0);
    expect(clock.timers).toEqual([100]);
    clock.advance(100);
    for (const job of jobs) {
      expect(tokenIdsOf((await readAll(job.stream)).events)).toEqual(
        fakeTokens(job.promptIds, job.maxNewTokens),
      );
    }
    expect(group.plans[0]?.opens).toHaveLength(2);
    expect(clock.timers).toEqual([]);
  });

  it('lets nobody join a batch', async () => {
    const { group, queue, loop } = startLoop({ batcher: new DynamicBatcher(1, 0), maxSlots: 1 });
    const [first, second] = [makeJob({ maxNewTokens: 3 }), makeJob({ maxNewTokens: 3 })];
    queue.push(first);
    await settle();
    queue.push(second);
    while (!first.stream.ended) {
      expect([loop.runningCount, queue.length]).toEqual([1, 1]);
      group.runNext();
      await settle();
    }
    expect(queue.length).toBe(0);
  });
});
