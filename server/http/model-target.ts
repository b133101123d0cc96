/**
 * Which model a request goes to.
 *
 * In      path, query, headers, form fields, body field `model`; the registered models
 * Out     name and version; null where any version may answer (request-control.ts chooses one)
 * Errors  BAD_REQUEST "Parameter model_name is required.", MODEL_NOT_FOUND
 * Source  DJLServing 0.36 (the order of its places); OpenAI API reference (`model`); Text Generation Inference's documentation ("tgi") and
 *         huggingface_hub ("dummy"), whose servers have one model and look at no name
 */
import type { IncomingHttpHeaders } from 'node:http';
import { Type } from '@sinclair/typebox';
import { ServingError } from '../../proto/errors.js';
import { nearestName } from '../config/nearest-name.js';
import { InvalidInput } from '../requests/invalid-input.js';
import type { InferenceService, ModelStatus } from '../requests/service.js';

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
  const name = registeredName(service.models(), model, version);
  if (name === null) throw modelNotFound('Model or workflow', { model, version }, service.models());
  return { model: name, version };
}

/** What clients say that know no model's name: the only one of the start, where none is called so. */
const STAND_INS: readonly string[] = ['tgi', 'dummy'];

/** @throws ServingError BAD_REQUEST, MODEL_NOT_FOUND */
export function openAiTarget(
  model: string | undefined,
  service: InferenceService,
  singleStartupModel: string | null,
): ModelTarget {
  const wanted = model ?? singleStartupModel;
  if (wanted === null)
    throw new InvalidInput('model is required: not exactly one startup model is loaded', 'model');
  const isStandIn = singleStartupModel !== null && STAND_INS.includes(wanted);
  const found = namedModel(service, wanted) ?? (isStandIn ? namedModel(service, singleStartupModel) : null);
  if (found === null) throw openAiModelNotFound(wanted, service);
  return found;
}

/** The version's that is asked for; where none is, the first one's. */
export const modelStatus = (
  { service }: { service: InferenceService },
  { model, version }: ModelTarget,
): ModelStatus | undefined =>
  service.models().find((one) => one.name === model && (version === null || one.version === version));

/** A name, or `name:version`: so do clients ask that have one field for both. null: there is none such. */
export function namedModel(service: InferenceService, asked: string): ModelTarget | null {
  const name = registeredName(service.models(), asked, null);
  if (name !== null) return { model: name, version: null };
  const [, model, version] = /^(.+):([^:]+)$/s.exec(asked) ?? [];
  if (model === undefined || version === undefined) return null;
  const versioned = registeredName(service.models(), model, version);
  return versioned === null ? null : { model: versioned, version };
}

export function openAiModelNotFound(model: string, service: InferenceService): ServingError {
  return new ServingError(
    'MODEL_NOT_FOUND',
    `The model '${model}' does not exist${nearName(service.models(), model)}`,
  );
}

/** In DJLServing's words. @param among those there are. @param what is not found */
export function modelNotFound(
  what: string,
  { model, version }: ModelTarget,
  among: readonly Named[],
): ServingError {
  const shown = version === null ? model : `${model}/${version}`;
  return new ServingError('MODEL_NOT_FOUND', `${what} not found: ${shown}${nearName(among, model)}`);
}

/** What is registered: a model of a version, or a workflow. */
export interface Named {
  readonly name: string;
  readonly version?: string | null;
}

/**
 * The name that a model is registered by: also where it is asked for by its folder's or its hub's own name, of which DJLServing's rule
 * has made another (all-MiniLM-L6-v2 → all_MiniLM_L6_v2).
 *
 * @returns null: there is no such model or version
 */
export function registeredName(
  among: readonly Named[],
  model: string,
  version: string | null,
): string | null {
  const fits = (name: string): boolean =>
    among.some((one) => one.name === name && (version === null || one.version === version));
  return [model, model.replace(/\W/g, '_')].find(fits) ?? null;
}

/** For whoever has mistyped it; '' where no name is near. */
export function nearName(among: readonly Named[], model: string): string {
  const names = [...new Set(among.map(({ name }) => name))];
  const nearest = names.includes(model) ? null : nearestName(model, names);
  return nearest === null ? '' : `; did you mean ${nearest}?`;
}

function header(headers: IncomingHttpHeaders, field: string): string | undefined {
  const value = headers[field];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
