/**
 * The vectors of all texts of one HTTP request, a few of them in the queue at a time.
 *
 * In      one request a text, the client's AbortController
 * Out     once the first text is accepted: a function that waits for all; what `each` makes of the vectors, in order, and the
 *         tokens of all texts
 * Limits  MAX_WAITING texts of a request are in the model's queue or run: a long list keeps nobody else out
 * Errors  that of the first text: nothing was begun. Later the first error ends all, but for a full queue while others of the list
 *         run: then the rest waits for them
 */

import { ServingError } from '../../../proto/errors.js';
import type { EmbedRequest } from '../../requests/embed-request.js';
import type { Accepted, EventsOf, InferenceService } from '../../requests/service.js';
import { shortDecimal } from '../../requests/tensor-elements.js';

/** Two steps' worth of a model with the usual 32 slots. */
const MAX_WAITING = 64;

export interface Embedded<T> {
  vectors: readonly T[];
  promptTokens: number;
}

/** @throws ServingError of the first text */
export async function embedAll<T>(
  service: InferenceService,
  requests: readonly EmbedRequest[],
  client: AbortController,
  each: (vector: readonly number[]) => T,
): Promise<() => Promise<Embedded<T>>> {
  const vectors = new Array<T>(requests.length);
  const running = new Map<number, Promise<void>>();
  let promptTokens = 0;
  const begin = async (index: number): Promise<void> => {
    const generation = await service.submit(requests[index]!, client.signal);
    promptTokens += generation.promptTokens;
    const ended = vectorOf(generation).then((vector) => {
      vectors[index] = each(vector);
      running.delete(index);
    });
    // It may fail while nobody waits for it; the next wait sees it.
    ended.catch(() => undefined);
    running.set(index, ended);
  };
  await begin(0);
  return async () => {
    try {
      for (let next = 1; next < requests.length || running.size > 0; ) {
        if (next < requests.length && running.size < MAX_WAITING) {
          if (await wasTaken(begin(next), running.size > 0)) {
            next++;
            continue;
          }
        }
        // The last that ran may have ended while this one was refused: then it is tried again.
        if (running.size > 0) await Promise.race(running.values());
      }
      return { vectors, promptTokens };
    } catch (error) {
      client.abort();
      throw error;
    }
  };
}

/** false: the queue was full, and a place in it will come free. @throws any other refusal */
async function wasTaken(beginning: Promise<void>, willComeFree: boolean): Promise<boolean> {
  try {
    await beginning;
    return true;
  } catch (error) {
    if (willComeFree && error instanceof ServingError && error.code === 'QUEUE_FULL') return false;
    throw error;
  }
}

async function vectorOf(generation: Accepted<EventsOf<EmbedRequest>>): Promise<readonly number[]> {
  for await (const event of generation.events) {
    if (event.kind === 'vector') return event.vector;
  }
  throw new Error('a text ended without its vector');
}

/** As few digits as tell one float32 from the next: JSON is half as long. */
export const shortDecimals = (vector: readonly number[]): number[] => vector.map(shortDecimal);
