/** server/http/generations.ts: many streams made one. */
import { describe, expect, it } from 'vitest';
import { mergeEvents } from '../../../../server/http/answers/generations.js';
import type { GenerationEvent } from '../../../../server/requests/job-events.js';
import type { Generation } from '../../../../server/requests/service.js';

const token = { kind: 'token' } as GenerationEvent;
const finish = { kind: 'finish' } as GenerationEvent;

/** @param next called for each event; it may wait */
function generation(next: (count: number) => Promise<GenerationEvent>, onLeft = () => {}): Generation {
  let count = 0;
  const events: AsyncIterableIterator<GenerationEvent> = {
    [Symbol.asyncIterator]: () => events,
    next: async () => ({ done: false, value: await next(count++) }),
    return: async () => {
      onLeft();
      return { done: true, value: undefined };
    },
  };
  return { promptTokens: 1, events };
}

const quick = (tokens: number): Generation => generation(async (count) => (count < tokens ? token : finish));

describe('mergeEvents', () => {
  it('gives every event of every generation, by its index', async () => {
    const seen: string[] = [];
    for await (const { index, event } of mergeEvents([quick(2), quick(0), quick(1)])) {
      seen.push(`${index} ${event.kind}`);
    }
    expect(seen.filter((one) => one.startsWith('0'))).toEqual(['0 token', '0 token', '0 finish']);
    expect(seen.filter((one) => one.startsWith('1'))).toEqual(['1 finish']);
    expect(seen.filter((one) => one.startsWith('2'))).toEqual(['2 token', '2 finish']);
  });

  it('listens once to one that waits, however many events the others have', async () => {
    let listened = 0;
    /** A promise that counts who waits for it, and for what is made of it. */
    class Counted<T> extends Promise<T> {
      // biome-ignore lint/suspicious/noThenProperty: it counts
      override then<A = T, B = never>(
        yes?: ((value: T) => A | PromiseLike<A>) | null,
        no?: ((reason: unknown) => B | PromiseLike<B>) | null,
      ): Promise<A | B> {
        listened++;
        return super.then(yes, no);
      }
    }
    let release!: (result: IteratorResult<GenerationEvent>) => void;
    const waiting = new Counted<IteratorResult<GenerationEvent>>((resolve) => {
      release = resolve;
    });
    const events = { [Symbol.asyncIterator]: () => ({ next: () => waiting }) };
    let count = 0;
    for await (const { index } of mergeEvents([quick(1000), { promptTokens: 1, events }])) {
      if (index === 0 && ++count === 1000) {
        expect(listened).toBe(1);
        release({ done: false, value: finish });
      }
    }
    expect(count).toBe(1001);
  });

  it('ends with the error of the first that fails, and leaves the others', async () => {
    let left = 0;
    const never = () =>
      generation(
        () => new Promise(() => {}),
        () => left++,
      );
    const failing = generation(async (count) => {
      if (count === 1) throw new Error('gone');
      return token;
    });
    const seen: number[] = [];
    await expect(async () => {
      for await (const { index } of mergeEvents([never(), failing, never()])) seen.push(index);
    }).rejects.toThrow('gone');
    expect([seen, left]).toEqual([[1], 2]);
  });

  it('leaves each that has not ended when its reader leaves', async () => {
    const left: string[] = [];
    const endless = (name: string) =>
      generation(
        async () => token,
        () => left.push(name),
      );
    for await (const { index } of mergeEvents([quick(0), endless('a'), endless('b')])) if (index === 2) break;
    expect(left.sort()).toEqual(['a', 'b']);
  });
});
