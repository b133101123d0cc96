/**
 * A ManagementService that can only tell what a GenerationService knows: for a server whose models are fixed.
 *
 * Out     list and describe with what is known of each model; zeros elsewhere
 * Errors  BAD_REQUEST for everything that would change a model; MODEL_NOT_FOUND
 */
import { ServingError } from '../../proto/errors.js';
import type { GenerationService, ModelStatus } from '../jobs/generate-request.js';
import type { ManagementService, PoolDescription } from '../jobs/management.js';

export function modelsOnly(service: GenerationService): ManagementService {
  const list = () => service.models().map(describe);
  const find = (name: string, version: string | null) => {
    const found = list().filter(
      (pool) => pool.name === name && (version === null || pool.version === version),
    );
    if (found.length === 0) throw new ServingError('MODEL_NOT_FOUND', `Model not found: ${name}`);
    return found;
  };
  const refuse = async (): Promise<never> => {
    throw new ServingError('BAD_REQUEST', 'The models of this server are fixed');
  };
  return { list, describe: find, register: refuse, unregister: refuse, scale: refuse };
}

function describe({ name, version, state, healthy, loadedAtStartup }: ModelStatus): PoolDescription {
  return {
    name,
    version,
    url: '',
    state,
    healthy,
    loadedAtStartup,
    loading: null,
    failure: null,
    tensorParallelDegree: 1,
    batchSize: 1,
    maxBatchDelayMs: 0,
    maxIdleSeconds: 0,
    queueSize: 0,
    requestsInQueue: 0,
    minGroups: 1,
    maxGroups: 1,
    groups: state === 'READY' ? [{ id: 1, startedAtMs: 0, state: 'running', ranks: [] }] : [],
    coresOversubscribed: false,
  };
}
