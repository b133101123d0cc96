/**
 * What workflows need of the server: its model store, its configuration, its work load manager.
 *
 * Out     WorkflowParts
 */
import type { RegistrationParts } from './work-load-manager/model-origin.js';
import type { WorkLoadManager } from './work-load-manager/work-load-manager.js';
import type { WorkflowParts } from './workflows/workflow-registry.js';

export function workflowParts(registration: RegistrationParts, manager: WorkLoadManager): WorkflowParts {
  return {
    fetch: async (url, byRequest) => {
      const { signal } = new AbortController();
      const fetched = await registration.fetch(url, { byRequest, signal, onProgress: () => {} });
      return { folder: fetched.folder, release: () => registration.release(fetched) };
    },
    nameOf: (url) => registration.nameOf(url),
    configure: (one, folder) => registration.configure(one, folder),
    attach: (model, signal) => manager.attach(model, signal),
    hasModel: (name) => manager.models().some((model) => model.name === name),
  };
}
