/** JobStream: order, end, failure, early leave, bound. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { JobStream } from '../../../../server/jobs/job-stream.js';
import type { JobEvent } from '../../../../server/requests/job-events.js';
import { readAll, tokenIdsOf } from '../../../fixtures/generate-requests.js';

const token = (tokenId: number): JobEvent => ({
  kind: 'token',
  tokenId,
  text: '',
  special: false,
  logprob: Number.NaN,
  topLogprobs: [],
});

function makeStream(capacity = 10) {
  const calls: string[] = [];
  const stream = new JobStream({
    capacity,
    onAbandoned: () => calls.push('abandoned'),
    onEnded: () => calls.push('ended'),
  });
  return { stream, calls };
}

describe('a token stream', () => {
  it('gives events in order, those pushed before the reader came and those after', async () => {
    const { stream, calls } = makeStream();
    stream.push(token(1));
    const reading = readAll(stream);
    stream.push(token(2));
    await Promise.resolve();
    stream.push(token(3));
    stream.end();
    const { error, events } = await reading;
    expect(error).toBeNull();
    expect(tokenIdsOf(events)).toEqual([1, 2, 3]);
    expect(calls).toEqual(['ended']);
  });

  it('gives what came before a failure, then the error', async () => {
    const { stream, calls } = makeStream();
    const failure = new ServingError('WORKER_FAILED', 'rank 1 was killed');
    stream.push(token(1));
    stream.fail(failure);
    const { error, events } = await readAll(stream);
    expect(tokenIdsOf(events)).toEqual([1]);
    expect(error).toBe(failure);
    expect(calls).toEqual(['ended']);
  });

  it('wakes a reader that waits when it fails', async () => {
    const { stream } = makeStream();
    const reading = readAll(stream);
    await Promise.resolve();
    stream.fail(new ServingError('WORKER_FAILED', 'gone'));
    expect((await reading).error).toMatchObject({ code: 'WORKER_FAILED' });
  });

  it('tells when its reader leaves early, and not when it leaves after the end', async () => {
    const early = makeStream();
    early.stream.push(token(1));
    for await (const _ of early.stream) break;
    expect(early.calls).toEqual(['abandoned']);

    const late = makeStream();
    late.stream.push(token(1));
    late.stream.end();
    for await (const _ of late.stream) break;
    expect(late.calls).toEqual(['ended']);
  });

  it('ignores a failure after the end', async () => {
    const { stream, calls } = makeStream();
    stream.end();
    stream.fail(new ServingError('WORKER_FAILED', 'late'));
    expect((await readAll(stream)).error).toBeNull();
    expect(calls).toEqual(['ended']);
  });

  it('holds no more than its capacity, takes nothing after its end, and has one reader', () => {
    const { stream } = makeStream(1);
    stream.push(token(1));
    expect(() => stream.push(token(2))).toThrow(/more than 1/);
    stream.end();
    expect(() => stream.push(token(3))).toThrow(/ended/);
    stream[Symbol.asyncIterator]();
    expect(() => stream[Symbol.asyncIterator]()).toThrow(/one reader/);
  });
});
