/** Asynchronous answers: bounds of count, bytes and time; what happens to a job whose answer is given up. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { AsyncResults } from '../../../../server/http/answers/async-results.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const LIMITS = { maxResults: 2, maxBytes: 100, ttlMs: 1000 };
const value = (text: string) => ({ kind: 'value' as const, make: async () => text });
const settle = () => vi.advanceTimersByTimeAsync(0);

async function* texts(...all: string[]): AsyncGenerator<string> {
  yield* all;
}
const frames = (...all: string[]) => ({ texts: texts(...all), broken: () => ['broken'] });

async function stored(results: AsyncResults, text: string): Promise<string> {
  const { token, fill } = results.reserve();
  fill(value(text));
  await settle();
  return token;
}

describe('AsyncResults', () => {
  it('forgets an answer ttlMs after its end, not while it runs', async () => {
    const results = new AsyncResults(LIMITS);
    const { token, fill } = results.reserve();
    await vi.advanceTimersByTimeAsync(5000);
    expect(results.poll(token, 10).kind).toBe('pending');
    fill(value('x'));
    await vi.advanceTimersByTimeAsync(999);
    expect(results.poll(token, 10)).toMatchObject({ kind: 'items', text: '"x"', nextToken: null });
    await vi.advanceTimersByTimeAsync(1);
    expect(() => results.poll(token, 10)).toThrow(`Invalid x-starting-token: ${token}`);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('a key has half of them at most, and the others still find a place', async () => {
    const results = new AsyncResults({ ...LIMITS, maxResults: 4 });
    const ofKey = async (owner: string) => {
      const { token, fill } = results.reserve({ owner });
      fill(value('a'));
      await settle();
      return token;
    };
    const [first] = [await ofKey('greedy'), await ofKey('greedy')];
    expect(() => results.reserve({ owner: 'greedy' })).toThrow(/2 asynchronous answers of this key are kept/);
    await ofKey('other');
    // One that was read to its end makes room.
    results.poll(first, 10, 'greedy');
    await ofKey('greedy');
    expect(() => results.poll(first, 10, 'greedy')).toThrow('Invalid');
    expect(() => results.reserve({ owner: 'greedy' })).toThrow(/of this key/);
  });

  it('is read by its own key alone, and tells once that its job has ended', async () => {
    const results = new AsyncResults({ ...LIMITS, maxResults: 10 });
    let ends = 0;
    const { fill, token } = results.reserve({ owner: 'a', onEnd: () => ends++ });
    for (const owner of ['b', null]) expect(() => results.poll(token, 10, owner)).toThrow('Invalid');
    expect([results.poll(token, 10, 'a').kind, ends]).toEqual(['pending', 0]);
    fill(value('x'));
    await settle();
    expect([results.poll(token, 10, 'a').kind, ends]).toEqual(['items', 1]);
    const given = results.reserve({ onEnd: () => ends++ });
    given.release();
    expect(ends).toBe(2);
    // One that runs is given up: its job's own end is no other.
    const running = results.reserve({ onEnd: () => ends++ });
    const make = () =>
      new Promise<never>((_, reject) =>
        running.client.signal.addEventListener('abort', () => reject(new Error())),
      );
    running.fill({ kind: 'value', make });
    results.close();
    await settle();
    expect(ends).toBe(3);
  });

  it('at most maxResults; those that were read to their end go first', async () => {
    const results = new AsyncResults(LIMITS);
    const [first, second] = [await stored(results, 'a'), await stored(results, 'b')];
    expect(() => results.reserve()).toThrow(expect.objectContaining({ code: 'QUEUE_FULL' }));
    results.poll(second, 10);
    results.reserve();
    expect(() => results.poll(second, 10)).toThrow('Invalid');
    expect(results.poll(first, 10)).toMatchObject({ text: '"a"' });
  });

  it('unread answers make room a minute after their end, the oldest first; running ones never', async () => {
    const results = new AsyncResults({ ...LIMITS, maxResults: 3, ttlMs: 3_600_000 });
    const running = results.reserve();
    const [first, second] = [await stored(results, 'a'), await stored(results, 'b')];
    await vi.advanceTimersByTimeAsync(59_999);
    expect(() => results.reserve()).toThrow(expect.objectContaining({ code: 'QUEUE_FULL' }));
    await vi.advanceTimersByTimeAsync(1);
    results.reserve();
    expect(() => results.poll(first, 10)).toThrow('Invalid');
    expect(results.poll(second, 10)).toMatchObject({ text: '"b"' });
    results.reserve();
    expect(() => results.reserve()).toThrow(expect.objectContaining({ code: 'QUEUE_FULL' }));
    expect(results.poll(running.token, 10).kind).toBe('pending');
  });

  it('a released place is free again', () => {
    const results = new AsyncResults({ ...LIMITS, maxResults: 1 });
    results.reserve().release();
    expect(() => results.reserve()).not.toThrow();
  });

  it('at most maxBytes: the answer that outgrows them fails and its job ends; freed bytes can be used again', async () => {
    const results = new AsyncResults(LIMITS);
    const big = results.reserve();
    big.fill({ kind: 'stream', contentType: 'text/plain', frames: frames('x'.repeat(60), 'y'.repeat(41)) });
    await settle();
    expect(big.client.signal.aborted).toBe(true);
    const first = results.poll(big.token, 10);
    expect(first).toMatchObject({ kind: 'items', text: 'x'.repeat(60), nextToken: `${big.token}1` });
    expect(results.poll(`${big.token}1`, 10)).toMatchObject({
      kind: 'failed',
      error: { code: 'QUEUE_FULL', message: expect.stringContaining('async_result_memory_mb') },
    });
    // The failure was read: the place and the bytes go to the next one.
    const next = await stored(results, 'z'.repeat(90));
    expect(results.poll(next, 10)).toMatchObject({ kind: 'items' });
  });

  it('refuses at the door while the bytes are used up', async () => {
    const results = new AsyncResults({ ...LIMITS, maxResults: 9 });
    await stored(results, 'x'.repeat(98));
    expect(() => results.reserve()).toThrow(/fill async_result_memory_mb/);
  });

  it('an error of the answer is what a poll gets; anything else than an operating error is internal', async () => {
    const results = new AsyncResults(LIMITS);
    const { token, fill } = results.reserve();
    fill({ kind: 'value', make: () => Promise.reject(new TypeError('bug')) });
    await settle();
    expect(results.poll(token, 10)).toMatchObject({ kind: 'failed', error: { code: 'INTERNAL' } });
  });

  it('close ends what runs and forgets all', async () => {
    const results = new AsyncResults(LIMITS);
    const running = results.reserve();
    const ended = await stored(results, 'a');
    results.close();
    expect(running.client.signal.aborted).toBe(true);
    expect(() => results.poll(ended, 10)).toThrow(ServingError);
    running.fill(value('late'.repeat(20)));
    await settle();
    expect(vi.getTimerCount()).toBe(0);
    // What came too late takes no room.
    const next = await stored(results, 'n'.repeat(90));
    expect(results.poll(next, 10)).toMatchObject({ kind: 'items' });
  });
});
