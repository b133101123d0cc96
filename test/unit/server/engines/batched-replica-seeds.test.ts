/**
 * Seeds of a replica that runs whole requests: some end the process wherever they run, some fail their batch,
 * clients leave. Every request ends once, the good ones with their own answer, the bad ones with their error.
 */
import pino from 'pino';
import { expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import type { ModelConfig } from '../../../../server/config/config.js';
import {
  ALL_TOLD,
  type Answers,
  type BatchedChild,
  type BatchedJob,
  BatchedReplica,
} from '../../../../server/engines/batched-replica.js';
import { systemClock } from '../../../../server/jobs/clock.js';
import { clientLeft, Job, type JobOptions } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { type SeededRandom, seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const SEEDS = 150;
const KINDS = ['good', 'good', 'good', 'kills', 'fails', 'leaves'] as const;

class SeededJob extends Job implements BatchedJob {
  readonly batchKey: string;
  readonly rows = 1;
  readonly kind: (typeof KINDS)[number];
  ends = 0;

  constructor(basis: JobOptions, kind: (typeof KINDS)[number], batchKey: string) {
    super(basis);
    this.kind = kind;
    this.batchKey = batchKey;
    void this.ended.then(() => this.ends++);
  }
}

/** A process that dies with whoever kills it. */
class SeededReplica extends BatchedReplica<SeededJob, BatchedChild> {
  random!: SeededRandom;
  /** By job, how often it was answered. */
  answered!: Map<number, number>;

  protected async launch(): Promise<BatchedChild> {
    return { pid: undefined, failed: new Promise(() => {}), stop: async () => {} };
  }

  protected async runJobs(jobs: readonly SeededJob[]): Promise<Answers> {
    await this.#run(jobs);
    if (jobs.some(({ kind }) => kind === 'fails')) {
      await this.runApart(jobs, async (job) => {
        await this.#run([job]);
        if (job.kind === 'fails') this.fail(job, new ServingError('BAD_REQUEST', 'refused'));
        else this.#answer(job);
      });
      return ALL_TOLD;
    }
    return () => {
      for (const job of jobs) if (!job.cancelled) this.#answer(job);
    };
  }

  async #run(jobs: readonly SeededJob[]): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    for (const job of jobs) if (job.kind === 'leaves') job.cancel(clientLeft());
    if (jobs.some(({ kind }) => kind === 'kills')) throw new ServingError('WORKER_FAILED', 'killed');
  }

  #answer(job: SeededJob): void {
    this.answered.set(job.id, (this.answered.get(job.id) ?? 0) + 1);
    this.finish(job);
  }
}

it(`seeds from ${testSeed} on`, async () => {
  for (let seed = testSeed; seed < testSeed + SEEDS; seed++) {
    const random = seededRandom(seed);
    const jobs: SeededJob[] = [];
    const queue = new JobQueue<SeededJob>('m', 100, 60_000, () => systemClock.nowMs());
    const retries = random.integer(1, 3);
    const answered = new Map<number, number>();
    const push = (): void => {
      const request = { requestId: 'r', model: 'm', version: null } as SeededJob['request'];
      const basis = { id: jobs.length, request, eventCapacity: 2, queuedAtMs: systemClock.nowMs() };
      const job = new SeededJob(basis, random.pick(KINDS), random.pick(['a', 'a', 'b']));
      jobs.push(job);
      queue.push(job);
    };
    for (let count = random.integer(1, 12); count > 0; count--) push();
    let later = random.integer(0, 6);
    // A life after the other, as a worker group has them.
    for (let life = 0; jobs.some(({ stream }) => !stream.ended); life++) {
      expect(life, `seed ${seed}`).toBeLessThan(200);
      const replica = new SeededReplica({
        config: {
          batchSize: random.integer(1, 5),
          maxBatchDelayMs: 0,
          requestRetries: retries,
        } as ModelConfig,
        ...{ queue, threads: 1, sharesCores: false, mayStart: () => Number.POSITIVE_INFINITY },
        ...{ logger: pino({ level: 'silent' }), hooks: {} },
        onIdle: (isIdle) => {
          if (isIdle && later-- > 0) push();
          else if (isIdle && queue.length === 0) replica.drain();
        },
      });
      Object.assign(replica, { random, answered });
      await replica.start(new AbortController().signal);
      await replica.run().catch(() => {});
    }
    await new Promise((resolve) => setImmediate(resolve));
    const wrong = jobs.filter((job) => {
      const { ending } = job.stream;
      const code = ending instanceof ServingError ? ending.code : (ending as { kind?: string })?.kind;
      const wanted = { good: 'finish', kills: 'WORKER_FAILED', fails: 'BAD_REQUEST', leaves: 'CANCELLED' }[
        job.kind
      ];
      const times = job.kind === 'good' ? 1 : 0;
      return code !== wanted || job.ends !== 1 || (answered.get(job.id) ?? 0) !== times;
    });
    expect(wrong.map(({ id, kind, stream }) => [seed, id, kind, stream.ending])).toEqual([]);
  }
});
