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
import type { InferenceService } from './service.js';
import { watchedService } from './watched-service.js';

export interface TokenMeter {
  countsTokens(tenant: string | undefined): boolean;
  charge(tenant: string | undefined, tokens: number): void;
}

export function meteredService(service: InferenceService, meter: TokenMeter): InferenceService {
  return watchedService(service, {
    accepted(one, { tenant }: AddressedRequest) {
      if (!meter.countsTokens(tenant?.id)) return one;
      meter.charge(tenant?.id, one.promptTokens);
      return { ...one, events: counted(one.events, () => meter.charge(tenant?.id, 1)) };
    },
  });
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
