/**
 * Several generations that answer one HTTP request (n choices, a list of prompts): all accepted or none, one event stream.
 *
 * In      requests, the client's AbortController
 * Out     the generations in order; their events merged as they come
 * Errors  the first error ends all: the others are aborted
 */
import type {
  FinishEvent,
  GenerateRequest,
  Generation,
  GenerationEvent,
  GenerationService,
  TokenEvent,
} from '../jobs/generate-request.js';

/** The whole answer to one request. */
export interface Collected {
  tokens: readonly TokenEvent[];
  finish: FinishEvent;
}

/**
 * Submits all requests.
 *
 * @throws ServingError of the first that was refused; those accepted are aborted
 */
export async function submitAll(
  service: GenerationService,
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
  for await (const event of generation.events) {
    if (event.kind === 'finish') return { tokens, finish: event };
    tokens.push(event);
  }
  throw new Error('a stream of events ended without its finish');
}

export interface IndexedEvent {
  index: number;
  event: GenerationEvent;
}

/** Events of all generations in the order in which they come; leaving early leaves each of them. */
export async function* mergeEvents(generations: readonly Generation[]): AsyncGenerator<IndexedEvent> {
  const iterators = generations.map((generation) => generation.events[Symbol.asyncIterator]());
  const take = (index: number) => {
    const taken = iterators[index]!.next().then((result) => ({ index, result }));
    // It may fail while nobody waits for it; whoever waits next, or nobody, sees the failure.
    taken.catch(() => undefined);
    return taken;
  };
  const waiting = new Map(iterators.map((_, index) => [index, take(index)]));
  try {
    while (waiting.size > 0) {
      const { index, result } = await Promise.race(waiting.values());
      if (result.done) {
        waiting.delete(index);
        continue;
      }
      if (result.value.kind === 'finish') waiting.delete(index);
      else waiting.set(index, take(index));
      yield { index, event: result.value };
    }
  } finally {
    await Promise.all([...waiting.keys()].map((index) => iterators[index]!.return?.()));
  }
}
