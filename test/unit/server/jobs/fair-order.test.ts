/** Fair turns between keys in the queue of a model. */
import { describe, expect, it } from 'vitest';
import type { GenerationJob } from '../../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { makeJob, makeRequest } from '../../../fixtures/generate-requests.js';

const jobOf = (tenant: string | null, more: object = {}): GenerationJob =>
  makeJob({
    request: makeRequest({ ...(tenant !== null && { tenant: { id: tenant, weight: 1 } }), ...more }),
  });
const ownerOf = (job: GenerationJob): string => job.request.tenant?.id ?? '-';
const queueOf = () => new JobQueue<GenerationJob>('toy', 10_000, 100_000, () => 0);

describe('jobs of several keys', () => {
  it('start in turn, however many one of them has waiting, and each key in its own order', () => {
    const queue = queueOf();
    const flood = Array.from({ length: 50 }, () => jobOf('a'));
    for (const job of flood) queue.push(job);
    queue.take(3);
    const late = [jobOf('b'), jobOf('b'), jobOf(null)];
    for (const job of late) queue.push(job);
    const next = queue.take(7);
    expect(next.map(ownerOf).slice(0, 3).sort()).toEqual(['-', 'a', 'b']);
    expect(next.slice(3).map(ownerOf).sort()).toEqual(['a', 'a', 'a', 'b']);
    expect(next.filter((job) => ownerOf(job) === 'a')).toEqual(flood.slice(3, 7));
    expect(next.filter((job) => ownerOf(job) === 'b')).toEqual(late.slice(0, 2));
  });

  it('of a heavier key start oftener, in the proportion of the weights', () => {
    const queue = queueOf();
    for (let count = 0; count < 100; count++) {
      queue.push(jobOf('a'));
      queue.push(jobOf(null, { tenant: { id: 'b', weight: 3 } }));
    }
    const started = queue.take(80).map(ownerOf);
    expect(started.filter((owner) => owner === 'b')).toHaveLength(60);
  });

  it('keep their turns when one is cancelled, and a key that was idle has saved nothing up', () => {
    const queue = queueOf();
    const a = Array.from({ length: 20 }, () => jobOf('a'));
    for (const job of a) queue.push(job);
    queue.take(10);
    const b = Array.from({ length: 10 }, () => jobOf('b'));
    for (const job of b) queue.push(job);
    b[0]!.stream[Symbol.asyncIterator]().return?.();
    expect(queue.length).toBe(19);
    const owners = queue.take(18).map(ownerOf).join('');
    expect(owners).toMatch(/^(?:ab|ba)+$/);
  });

  it('of one key alone go by priority and age as ever', () => {
    const queue = queueOf();
    const jobs = [3, -5, 3].map((priority) => jobOf('a', { priority }));
    for (const job of jobs) queue.push(job);
    expect(queue.take(3)).toEqual([jobs[1], jobs[0], jobs[2]]);
  });
});
