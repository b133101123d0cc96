/**
 * Tokens of a stream, the last together with its finish, as soon as they exist: for dialects whose last event carries the whole text.
 *
 * In      events of one generation
 * Out     a token each; the last with the finish; a finish alone where it came later than its token
 *
 * The batch loop pushes the finish in the same turn as the last token, so that one turn of the event loop decides whether a token is the
 * last.
 */
import type { FinishEvent, GenerationEvent, TokenEvent } from '../../requests/job-events.js';

export type TokenWithFinish =
  | { token: TokenEvent; finish: FinishEvent | null }
  | { token: null; finish: FinishEvent };

export async function* tokensWithFinish(
  events: AsyncIterable<GenerationEvent>,
): AsyncGenerator<TokenWithFinish> {
  const iterator = events[Symbol.asyncIterator]();
  try {
    let next = iterator.next();
    for (;;) {
      const { value: event, done } = await next;
      if (done) throw new Error('a stream of events ended without its finish');
      if (event.kind === 'finish') {
        yield { token: null, finish: event };
        return;
      }
      next = iterator.next();
      next.catch(() => undefined);
      if (event.kind === 'prompt-token') continue;
      const finish = await finishIfThere(next);
      yield { token: event, finish };
      if (finish !== null) return;
    }
  } finally {
    await iterator.return?.();
  }
}

/** The finish, if it is there after one turn of the event loop. */
async function finishIfThere(next: Promise<IteratorResult<GenerationEvent>>): Promise<FinishEvent | null> {
  const turn = new Promise<null>((resolve) => setImmediate(() => resolve(null)));
  // A failure is for the next turn of the loop to meet.
  const result = await Promise.race([next.catch(() => null), turn]);
  return result === null || result.done || result.value.kind !== 'finish' ? null : result.value;
}
