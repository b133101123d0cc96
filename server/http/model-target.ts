/**
 * Which model a request goes to.
 *
 * In      path, query, headers, form fields, body field `model`; the registered models
 * Out     name and version
 * Errors  BAD_REQUEST "Parameter model_name is required.", MODEL_NOT_FOUND
 * Source  reference serving-apis §1.4 (order of DJLServing's places); OpenAI API reference (`model`)
 */
import type { IncomingHttpHeaders } from 'node:http';
import { Type } from '@sinclair/typebox';
import { ServingError } from '../../proto/errors.js';
import { InvalidInput } from '../requests/invalid-input.js';
import type { InferenceService } from '../requests/service.js';

export const MAX_MODEL_NAME_CHARACTERS = 512;

const name = Type.String({ minLength: 1, maxLength: MAX_MODEL_NAME_CHARACTERS });

/** Path parameters. */
export const ModelParams = Type.Object({ model: name, version: Type.Optional(name) });
/** Query parameters that DJLServing reads; others are the model's own and ignored here. */
export const ModelQuery = Type.Object({
  model_name: Type.Optional(name),
  model_version: Type.Optional(name),
});

export interface ModelTarget {
  model: string;
  version: string | null;
}

interface Places {
  params: { model?: string; version?: string };
  query: { model_name?: string; model_version?: string };
  headers: IncomingHttpHeaders;
  /** Fields of a form, but for the payload. */
  form: ReadonlyMap<string, string>;
}

/** @throws ServingError BAD_REQUEST, MODEL_NOT_FOUND */
export function djlTarget(
  { params, query, headers, form }: Places,
  service: InferenceService,
  singleStartupModel: string | null,
): ModelTarget {
  const model =
    params.model ??
    query.model_name ??
    header(headers, 'model_name') ??
    form.get('model_name') ??
    singleStartupModel;
  if (model === null) throw new ServingError('BAD_REQUEST', 'Parameter model_name is required.');
  const version =
    params.version ??
    query.model_version ??
    header(headers, 'model_version') ??
    form.get('model_version') ??
    null;
  if (!isRegistered(service, model, version)) {
    const shown = version === null ? model : `${model}/${version}`;
    throw new ServingError('MODEL_NOT_FOUND', `Model or workflow not found: ${shown}`);
  }
  return { model, version };
}

/** @throws ServingError BAD_REQUEST, MODEL_NOT_FOUND */
export function openAiTarget(
  model: string | undefined,
  service: InferenceService,
  singleStartupModel: string | null,
): ModelTarget {
  const wanted = model ?? singleStartupModel;
  if (wanted === null)
    throw new InvalidInput('model is required: not exactly one startup model is loaded', 'model');
  if (!isRegistered(service, wanted, null)) throw openAiModelNotFound(wanted);
  return { model: wanted, version: null };
}

export function openAiModelNotFound(model: string): ServingError {
  return new ServingError('MODEL_NOT_FOUND', `The model '${model}' does not exist`);
}

function isRegistered(service: InferenceService, model: string, version: string | null): boolean {
  return service
    .models()
    .some((status) => status.name === model && (version === null || status.version === version));
}

function header(headers: IncomingHttpHeaders, field: string): string | undefined {
  const value = headers[field];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
