/**
 * Several generations that answer one HTTP request (n choices, a list of prompts): all accepted or none, one event stream.
 *
 * In      requests, the client's AbortController
 * Out     the generations in order; their events merged as they come
 * Errors  the first error ends all: the others are aborted
 */

import type { GenerateRequest } from '../../requests/generate-request.js';
import type {
  FinishEvent,
  GenerationEvent,
  PromptTokenEvent,
  TokenEvent,
} from '../../requests/job-events.js';
import type { Generation, InferenceService } from '../../requests/service.js';

/** The whole answer to one request. */
export interface Collected {
  /** Tokens of the prompt, where they were asked for. */
  prompt?: readonly PromptTokenEvent[];
  tokens: readonly TokenEvent[];
  finish: FinishEvent;
}

/**
 * Submits all requests.
 *
 * @throws ServingError of the first that was refused; those accepted are aborted
 */
export async function submitAll(
  service: InferenceService,
  requests: readonly GenerateRequest[],
  client: AbortController,
): Promise<Generation[]> {
  const outcomes = await Promise.allSettled(
    requests.map((request) => service.submit(request, client.signal)),
  );
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) {
    client.abort();
    throw failed.reason;
  }
  return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
}

/** How good one of several texts is. */
export type Score = (one: Collected) => number;

/** TGI's: the sum of its log-probabilities. */
export const logprobSum: Score = ({ tokens }) => tokens.reduce((sum, { logprob }) => sum + logprob, 0);

/** OpenAI's: their mean, a token. */
export const logprobMean: Score = (one) => logprobSum(one) / Math.max(1, one.tokens.length);

/** Those that are equally good stay in their order. */
export function bestFirst(all: readonly Collected[], score: Score): Collected[] {
  return [...all].sort((a, b) => score(b) - score(a));
}

/** Reads all generations to their ends. */
export async function collectAll(
  generations: readonly Generation[],
  client: AbortController,
): Promise<Collected[]> {
  try {
    return await Promise.all(generations.map(collect));
  } catch (error) {
    client.abort();
    throw error;
  }
}

async function collect(generation: Generation): Promise<Collected> {
  const tokens: TokenEvent[] = [];
  const prompt: PromptTokenEvent[] = [];
  for await (const event of generation.events) {
    if (event.kind === 'finish') return { prompt, tokens, finish: event };
    if (event.kind === 'token') tokens.push(event);
    else prompt.push(event);
  }
  throw new Error('a stream of events ended without its finish');
}

export interface IndexedEvent {
  index: number;
  event: GenerationEvent;
}

/**
 * Events of all generations in the order in which they come; leaving early leaves each of them.
 *
 * A list of arrivals and one wake-up: Promise.race over those that wait would leave a reaction on each of them with every event, which is
 * kept until it comes, minutes later where there are more choices than slots.
 */
export async function* mergeEvents(generations: readonly Generation[]): AsyncGenerator<IndexedEvent> {
  const iterators = generations.map((generation) => generation.events[Symbol.asyncIterator]());
  const open = new Set(iterators.keys());
  /** At most one a generation; reading one throws what the generation failed with. */
  const arrived: (() => { index: number; result: IteratorResult<GenerationEvent> })[] = [];
  let wake: (() => void) | null = null;
  const arrive = (arrival: (typeof arrived)[number]): void => {
    arrived.push(arrival);
    wake?.();
    wake = null;
  };
  const take = (index: number): void => {
    iterators[index]!.next().then(
      (result) => arrive(() => ({ index, result })),
      (error: unknown) =>
        arrive(() => {
          throw error;
        }),
    );
  };
  try {
    for (const index of open) take(index);
    while (open.size > 0) {
      const next = arrived.shift();
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      const { index, result } = next();
      if (result.done) {
        open.delete(index);
        continue;
      }
      if (result.value.kind === 'finish') open.delete(index);
      else take(index);
      yield { index, event: result.value };
    }
  } finally {
    await Promise.all([...open].map((index) => iterators[index]!.return?.()));
  }
}
