/**
 * What a management request asks for, as arguments of a registration: keys of the key table, the strongest layer.
 *
 * In      RegisterRequest
 * Out     ModelRegistration
 * Errors  BAD_REQUEST: a name that cannot stand in a path, a URL that is none
 */
import { ServingError } from '../../proto/errors.js';
import type { ModelRegistration } from '../config/config.js';
import type { RegisterRequest } from '../requests/management.js';
import type { RegistrationParts } from './model-origin.js';

const NAME = /^[\w.-]{1,128}$/;

/** Always with a name. */
export interface NamedRegistration extends ModelRegistration {
  readonly name: string;
}

/** @throws ServingError BAD_REQUEST */
export function registrationOf(
  request: RegisterRequest,
  { nameOf }: Pick<RegistrationParts, 'nameOf'>,
): NamedRegistration {
  const inferred = nameOf(request.url);
  const { name = inferred, version } = request;
  for (const [key, value] of [
    ['model_name', name],
    ['model_version', version],
  ] as const) {
    if (value !== null && !NAME.test(value)) {
      throw new ServingError(
        'BAD_REQUEST',
        `${key} may hold letters, digits, _, . and - only, at most 128; got ${JSON.stringify(value.slice(0, 128))}`,
      );
    }
  }
  return { name, version, url: request.url, where: 'registration', arguments: argumentsOf(request) };
}

function argumentsOf(request: RegisterRequest): Record<string, string> {
  const given: Record<string, string | number | undefined> = {
    engine: request.engine,
    load_on_devices: request.device,
    job_queue_size: request.jobQueueSize,
    batch_size: request.batchSize,
    max_batch_delay: request.maxBatchDelayMs,
    max_idle_time: request.maxIdleSeconds,
    // With the device: stronger than whatever the model's own file says.
    'cpu.minWorkers': request.minGroups,
    'cpu.maxWorkers': request.maxGroups,
    ...(request.entryPoint !== undefined && { engine: 'Handler', 'option.entryPoint': request.entryPoint }),
    'option.step_timeout': request.stepTimeoutSeconds,
    'option.model_loading_timeout': request.loadingTimeoutSeconds,
  };
  return Object.fromEntries(
    Object.entries(given).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
  );
}
