/**
 * A service whose accepted requests somebody looks at: who counts tokens, who takes times.
 *
 * In      a service; what is made of an accepted request
 * Out     the same service: all that it can be asked it can be asked still
 */
import type { Accepted, EventsOf, InferenceService, JobRequest } from './service.js';

export interface Watcher {
  accepted<R extends JobRequest>(
    one: Accepted<EventsOf<R>>,
    request: R,
    signal: AbortSignal,
  ): Accepted<EventsOf<R>>;
}

export function watchedService(service: InferenceService, watcher: Watcher): InferenceService {
  return {
    models: () => service.models(),
    ...(service.tokens && { tokens: service.tokens.bind(service) }),
    ...(service.chooseVersion && { chooseVersion: service.chooseVersion.bind(service) }),
    async submit<R extends JobRequest>(request: R, signal: AbortSignal): Promise<Accepted<EventsOf<R>>> {
      return watcher.accepted(await service.submit(request, signal), request, signal);
    },
  };
}
