/**
 * The service behind HTTP and gRPC, with the tokens of each key counted: those of the prompt when it is accepted, those of the answer as
 * they are told.
 *
 * In      a service; whoever counts
 * Out     the same service
 *
 * Nothing lies between a stream and its reader where the key has no limit of tokens.
 */
import type { AddressedRequest } from './addressed-request.js';
import type { Accepted, EventsOf, InferenceService, JobRequest } from './service.js';

export interface TokenMeter {
  countsTokens(tenant: string | undefined): boolean;
  charge(tenant: string | undefined, tokens: number): void;
}

export function meteredService(service: InferenceService, meter: TokenMeter): InferenceService {
  return {
    models: () => service.models(),
    ...(service.tokens && { tokens: service.tokens.bind(service) }),
    ...(service.chooseVersion && { chooseVersion: service.chooseVersion.bind(service) }),
    async submit<R extends JobRequest>(request: R, signal: AbortSignal): Promise<Accepted<EventsOf<R>>> {
      const accepted = await service.submit(request, signal);
      const { tenant }: AddressedRequest = request;
      if (!meter.countsTokens(tenant?.id)) return accepted;
      meter.charge(tenant?.id, accepted.promptTokens);
      return { ...accepted, events: counted(accepted.events, () => meter.charge(tenant?.id, 1)) };
    },
  };
}

/** By hand: a generator that is left before it was begun would not tell the one that it reads. */
function counted<E extends { kind: string }>(
  events: AsyncIterable<E>,
  onToken: () => void,
): AsyncIterable<E> {
  return {
    [Symbol.asyncIterator]() {
      const inner = events[Symbol.asyncIterator]();
      return {
        async next() {
          const result = await inner.next();
          if (result.done !== true && result.value.kind === 'token') onToken();
          return result;
        },
        return: async () => (await inner.return?.()) ?? { done: true, value: undefined },
      };
    },
  };
}
