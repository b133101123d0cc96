/**
 * The Open Inference Protocol, version 2, over HTTP, with Triton's extensions: binary tensors, statistics, configuration, generate.
 *
 * In      tensor-inference.ts: tensors for ONNX models, text_input for language models, BYTES for handlers, an element a request
 * Out     JSON, or JSON with bytes behind it; generate_stream: server-sent events, one a token
 * Limits  the body limit; a stalled reader is dropped after chunked_read_timeout
 * Errors  {"error": …} with the table's status
 * Source  Open Inference Protocol, REST; Triton's extensions: generate, statistics, model configuration, binary tensor data
 */

import type { TSchema } from '@sinclair/typebox';
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { ServerConfig } from '../../../config/config.js';
import { configurationOf, meantVersion, metadataOf, statisticsOf } from '../../../requests/model-facts.js';
import { requestControl, withVersion } from '../../../requests/request-control.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { inferTensors } from '../../../requests/tensor-inference.js';
import { compileValidator } from '../../../requests/validation.js';
import { sendAnswer } from '../../answers/answer.js';
import { clientSignal } from '../../answers/stream-reply.js';
import { jsonBodyParser } from '../../bodies/json-body.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import type { ErrorAnswer } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { ModelParams, type ModelTarget, nearName, registeredName } from '../../model-target.js';
import { explainTensorsOf } from './explain.js';
import { generateAnswer } from './generate.js';
import { HEADER_LENGTH, InferBody, inferRequest, sendOutputs } from './infer-body.js';

const InferSchema = Type.Unknown();
const GenerateSchema = Type.Object(
  { text_input: Type.String(), parameters: Type.Optional(Type.Record(Type.String(), Type.Unknown())) },
  { additionalProperties: true },
);

export const oipError = (error: ServingError): ErrorAnswer => ({
  status: error.httpStatus,
  body: JSON.stringify({ error: error.message }),
});

export const oipDialect: Dialect = {
  name: 'oip',
  roles: ['inference'],
  access: ['infer'],
  words: { prefix: '/v2', error: (error: ServingError, _config: ServerConfig) => oipError(error) },
  refusesMethods: true,
  reference: [
    ...(
      [
        ['/v2', 'What the server is (Open Inference Protocol).'],
        ['/v2/health/live', 'The process answers.'],
        ['/v2/health/ready', 'Requests are taken, and every startup model is ready.'],
        ['/v2/models/stats', 'Statistics of every model.'],
        ['/v2/models/:model/ready', 'One model can run a request.'],
        ['/v2/models/:model/stats', 'Statistics of one model.'],
        ['/v2/models/:model/config', 'How a model is configured.'],
      ] as const
    ).map(([path, summary]) => ({ method: 'GET', path, summary })),
    {
      method: 'GET',
      path: '/v2/models/:model',
      summary: 'What a model takes and gives (Open Inference Protocol).',
    },
    {
      ...{
        method: 'POST',
        path: '/v2/models/:model/infer',
        summary: 'Infers by tensors (Open Inference Protocol).',
      },
      example: () => ({ inputs: [{ name: 'text_input', shape: [1], datatype: 'BYTES', data: ['Once'] }] }),
      body: InferSchema,
      tasks: ['text-generation'] as const,
    },
    {
      ...{ method: 'POST', path: '/v2/models/:model/explain', body: InferSchema },
      summary: 'What of a request an answer comes from (Open Inference Protocol, as TorchServe has it).',
    },
    ...(
      [
        ['generate', "Continues a text (Triton's generate)."],
        ['generate_stream', "Continues a text (Triton's generate), an event a token."],
      ] as const
    ).map(([verb, summary]) => ({
      ...{ method: 'POST', path: `/v2/models/:model/${verb}`, summary, body: GenerateSchema },
      example: () => ({ text_input: 'Once upon a time', parameters: { max_tokens: 50 } }),
      tasks: ['text-generation'] as const,
    })),
  ],
  routes: oipRoutes,
};

async function oipRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { config, service } = context;
  addParsers(app);
  addErrors(app, context);
  app.get('/v2', async () => ({
    name: 'shardserve',
    version: '2',
    extensions: ['binary_tensor_data', 'generate', 'model_configuration', 'model_repository', 'statistics'],
  }));
  const probe = { config: { access: 'open' as const } };
  app.get('/v2/health/live', probe, async () => ({ live: true }));
  app.get('/v2/health/ready', probe, async (_request, reply) => {
    const ready =
      !context.draining &&
      service.models().every(({ loadedAtStartup, state }) => !loadedAtStartup || state === 'READY');
    return reply.code(ready ? 200 : 503).send({ ready });
  });
  const counts = () => context.metrics?.statistics?.() ?? [];
  app.get('/v2/models/stats', async () => statisticsOf(counts(), null, null));
  for (const root of ['/v2/models/:model', '/v2/models/:model/versions/:version']) {
    const schema = { params: ModelParams };
    app.get(root, { schema }, async (request) => metadataOf(service.models(), find(request)));
    app.get(`${root}/ready`, { schema }, async (request, reply) => {
      const { name, state } = find(request);
      return reply.code(state === 'READY' ? 200 : 503).send({ name, ready: state === 'READY' });
    });
    app.get(`${root}/stats`, { schema }, async (request) => {
      const { name } = find(request);
      return statisticsOf(counts(), name, (request.params as { version?: string }).version ?? null);
    });
    app.get(`${root}/config`, { schema }, async (request) =>
      configurationOf(context.management.list(), find(request)),
    );
    app.post(`${root}/infer`, { schema: { ...schema, body: InferSchema } }, async (request, reply) => {
      const status = chosen(request);
      const asked = inferRequest(bodyOf(request));
      const outputs = await inferTensors(
        service,
        status,
        asked,
        targetOf(request, status),
        clientSignal(reply).signal,
      );
      const head = {
        model_name: status.name,
        model_version: status.version ?? '',
        ...(asked.id !== null && { id: asked.id }),
      };
      return sendOutputs(reply, head, outputs, asked.isBinary);
    });
    app.post(`${root}/explain`, { schema: { ...schema, body: InferSchema } }, async (request, reply) => {
      const status = chosen(request);
      const { body, headers } = request;
      const asked = { body: bodyOf({ body }), headers, target: targetOf(request, status) };
      return explainTensorsOf(context, status, asked, clientSignal(reply));
    });
    for (const streamed of [false, true]) {
      const url = `${root}/generate${streamed ? '_stream' : ''}`;
      app.post(url, { schema: { ...schema, body: GenerateSchema } }, async (request, reply) => {
        const status = chosen(request);
        const client = clientSignal(reply);
        const body = bodyOf(request).json as Record<string, unknown>;
        const answer = await generateAnswer(
          context,
          request.log,
          status,
          body,
          targetOf(request, status),
          streamed,
          client,
        );
        return sendAnswer(reply, answer, config.chunkedReadTimeoutSeconds * 1000);
      });
    }
  }

  /** What a request's path names, by its registered name. @throws ServingError MODEL_NOT_FOUND */
  function named({ params }: FastifyRequest): ModelTarget {
    const { model: asked, version = null } = params as { model: string; version?: string };
    const models = service.models();
    const model = registeredName(models, asked, version) ?? asked;
    if (models.some((one) => one.name === model && (version === null || one.version === version)))
      return { model, version };
    throw new ServingError(
      'MODEL_NOT_FOUND',
      `Model not found: ${asked}${version === null ? '' : `, version ${version}`}${nearName(models, asked)}`,
    );
  }

  const statusOf = ({ model, version }: ModelTarget): ModelStatus =>
    meantVersion(service.models(), () => context.management.list(), model, version)!;

  /** @throws ServingError MODEL_NOT_FOUND */
  const find = (request: FastifyRequest): ModelStatus => statusOf(named(request));

  /** What a request for an answer means: by the versions' weights where it names none. @throws ServingError */
  const chosen = (request: FastifyRequest): ModelStatus =>
    statusOf(withVersion(named(request), service, request.headers));

  function targetOf(request: FastifyRequest, { name, version }: ModelStatus): Target {
    return {
      requestId: request.id,
      model: name,
      version,
      ...requestControl(request.headers, request.accessKey),
    };
  }
}

const bodyOf = ({ body }: Pick<FastifyRequest, 'body'>): InferBody =>
  body instanceof InferBody ? body : new InferBody(body, Buffer.alloc(0));

/** JSON, whatever the type says; behind so many bytes of it, tensors. */
function addParsers(app: FastifyInstance): void {
  const parseJson = jsonBodyParser(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, payload, done) => {
    const bytes = payload as Buffer;
    const given = request.headers[HEADER_LENGTH];
    const length = given === undefined ? bytes.length : Number(given);
    if (!Number.isSafeInteger(length) || length < 0 || length > bytes.length) {
      const sentence = `Inference-Header-Content-Length must be a whole number up to the body's ${bytes.length} bytes`;
      done(new ServingError('BAD_REQUEST', sentence));
      return;
    }
    parseJson(request, bytes.toString('utf8', 0, length), (error, json) =>
      error === null ? done(null, new InferBody(json, bytes.subarray(length))) : done(error),
    );
  });
  app.setValidatorCompiler(({ httpPart, schema }) => {
    const validator = compileValidator(schema as TSchema);
    if (httpPart !== 'body') return (value: unknown) => validator.check(value);
    return (value: unknown) => {
      const body = value instanceof InferBody ? value : new InferBody(value, Buffer.alloc(0));
      const checked = validator.check(body.json);
      return 'error' in checked ? checked : { value: body };
    };
  });
}

export function addErrors(app: FastifyInstance, context: HttpContext): void {
  setErrorWords(app, context, { tell: oipError });
}
