/**
 * TorchServe's description of its inference API, and of one model's, as OpenAPI 3.0.1.
 *
 * Out     plain data, without the schemas of bodies: a handler's are its own
 * Source  TorchServe's /api-description: paths and operation ids
 */
const JSON_ANSWER = {
  200: { description: 'OK' },
  400: { description: 'Bad request' },
  404: { description: 'Not found' },
};
const MODEL = { in: 'path', name: 'model_name', required: true, schema: { type: 'string' } };
const VERSION = { in: 'path', name: 'model_version', required: true, schema: { type: 'string' } };

const operation = (operationId: string, description: string, parameters: object[] = []) => ({
  ...{ description, operationId, parameters },
  responses: JSON_ANSWER,
});

const prediction = (verb: 'predictions' | 'explanations') => {
  const what = verb === 'predictions' ? 'Predictions' : 'Explanations';
  const unversioned = operation(verb, `${what} of the default version of a model`, [MODEL]);
  const versioned = operation(`version_${verb}`, `${what} of a version of a model`, [MODEL, VERSION]);
  return {
    [`/${verb}/{model_name}`]: { post: unversioned },
    [`/${verb}/{model_name}/{model_version}`]: { post: versioned },
  };
};

export const API_DESCRIPTION = {
  openapi: '3.0.1',
  info: { title: 'TorchServe APIs', version: '0.12.0' },
  paths: {
    '/': { options: operation('apiDescription', 'This description') },
    '/ping': { get: operation('ping', 'Health of the server') },
    ...prediction('predictions'),
    ...prediction('explanations'),
    '/api-description': { get: operation('api-description', 'This description') },
    '/invocations': { post: operation('invocations', 'A prediction, as SageMaker asks for it') },
    '/models': {
      post: operation('registerModel', 'Registers a model'),
      get: operation('listModels', 'Default versions of all models'),
    },
    '/models/{model_name}': {
      get: operation('describeModel', 'Describes a model', [MODEL]),
      put: operation('setAutoScale', 'Scales the workers of a model', [MODEL]),
      delete: operation('unregisterModel', 'Unregisters a model', [MODEL]),
    },
    '/models/{model_name}/{model_version}/set-default': {
      put: operation('setDefault', 'Makes a version the default one', [MODEL, VERSION]),
    },
    '/metrics': { get: operation('metrics', 'Metrics') },
  },
};

/** One model's path, as OPTIONS of it answers. */
export function modelDescription(model: string) {
  const described = operation('predictions', `Predictions of ${model}`);
  const info = { title: `RESTful API for: ${model}`, version: '1.0.0' };
  return { openapi: '3.0.1', info, paths: { [`/predictions/${model}`]: { post: described } } };
}
