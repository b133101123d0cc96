/**
 * The language model that a handler's code asks, by DJLServing's parameters.
 *
 * In      its configuration; texts and parameters as LMI has them
 * Out     BoundModel: a model of the work load manager under a name of its own
 * Errors  BAD_REQUEST: parameters that are none; those of a request for text
 */
import { randomUUID } from 'node:crypto';
import type { OpenBoundModel } from './engines/handlers/bound-model.js';
import { checkLmiBody, lmiRequests, requireFewInputs } from './http/dialects/djl/lmi-request.js';
import type { WorkLoadManager } from './work-load-manager/work-load-manager.js';

/** @param manager when it is there: the engines are made before it */
export const openBoundModel =
  (manager: () => Pick<WorkLoadManager, 'attach'>): OpenBoundModel =>
  async (config, signal) => {
    const { close, submit } = await manager().attach(config, signal);
    return {
      close,
      generate: async ({ parameters, text }, client) => {
        const checked = checkLmiBody({ inputs: text, parameters });
        if ('error' in checked) throw checked.error;
        requireFewInputs(checked.value);
        const target = { requestId: randomUUID(), model: config.name, version: config.version };
        const [request] = lmiRequests(checked.value, text, target, 1, false);
        return submit(request!, client);
      },
    };
  };
