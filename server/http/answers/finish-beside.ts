/**
 * Whether a token is the last: the batch loop pushes the finish in the same turn as the last token.
 *
 * In      what comes behind a token
 * Out     the finish, where it is there already: a dialect that tells the whole text with the last token need not hold each token back
 */
import type { FinishEvent, GenerationEvent } from '../../requests/job-events.js';

/** The finish, if it is there after one turn of the event loop. */
export async function finishIfThere(
  next: Promise<IteratorResult<GenerationEvent>>,
): Promise<FinishEvent | null> {
  const turn = new Promise<null>((resolve) => setImmediate(() => resolve(null)));
  // A failure is for the next turn of the loop to meet.
  const result = await Promise.race([next.catch(() => null), turn]);
  return result === null || result.done || result.value.kind !== 'finish' ? null : result.value;
}
