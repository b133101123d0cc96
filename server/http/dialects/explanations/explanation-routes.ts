/**
 * Explanations: /explanations/{model}[/{version}], TorchServe's path.
 *
 * In      the body of a prediction (JSON, text, or bytes for a handler); method, target, samples, steps, seed, input and output in the query
 * Out     words, tokens or an input's shape, with importances, score, base and delta
 * Errors  in the words of the dialect that it is served beside: DJLServing's or TorchServe's
 * Source  TorchServe's path, and its answers to explanations
 */
import { isUtf8 } from 'node:buffer';
import type { Static, TSchema } from '@sinclair/typebox';
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { requestControl, withVersion } from '../../../requests/request-control.js';
import { compileValidator } from '../../../requests/validation.js';
import { clientSignal } from '../../answers/stream-reply.js';
import { jsonBodyParser } from '../../bodies/json-body.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import type { HttpContext } from '../../http-context.js';
import { djlTarget, ModelParams } from '../../model-target.js';
import { djlError } from '../djl/djl-errors.js';
import { explain } from './explain.js';
import { BytesBody } from './explain-handler.js';
import { ExplainQuery } from './explain-options.js';

/** @param tell what an error is */
export const explanationsIn = (tell: typeof djlError): Dialect => ({
  name: 'explanations',
  roles: ['inference'],
  access: ['infer'],
  // Each feature of it is a question or more.
  longestBody: 16_777_216,
  refusesMethods: true,
  reference: [
    {
      ...{ method: 'POST', path: '/explanations/:model', query: ExplainQuery, body: Type.Unknown() },
      summary: 'What of a request a prediction comes from: Shapley values, occlusion, integrated gradients.',
      example: () => ({ inputs: 'Once upon a time', parameters: { max_new_tokens: 4 } }),
      tasks: ['text-generation'],
    },
  ],
  routes: (app, context) => explanationRoutes(app, context, tell),
});

export const explanationDialect = explanationsIn(djlError);

async function explanationRoutes(
  app: FastifyInstance,
  context: HttpContext,
  tell: typeof djlError,
): Promise<void> {
  const { config, service } = context;
  const parseJson = jsonBodyParser(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, payload, done) => {
    const bytes = payload as Buffer;
    const type = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? '';
    // curl's -T sends no type, and its -d calls everything a form.
    const isUntyped = type === '' || type === 'application/x-www-form-urlencoded';
    const isText = type === 'application/json' || type.startsWith('text/') || (isUntyped && isUtf8(bytes));
    if (!isText) {
      done(null, new BytesBody(bytes, isUntyped ? 'application/octet-stream' : type));
      return;
    }
    const text = bytes.toString('utf8');
    const isJson = type === 'application/json' || (isUntyped && /^\s*[[{]/.test(text));
    if (isJson) parseJson(request, text, done);
    else done(null, text);
  });
  setErrorWords(app, context, { tell: (error) => tell(error, config) });
  app.setValidatorCompiler(({ schema }) => {
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(withNumbers(value));
  });
  for (const url of ['/explanations/:model', '/explanations/:model/:version']) {
    app.post(url, { schema: { params: ModelParams, querystring: ExplainQuery } }, async (request, reply) => {
      const { body, headers, params, query } = request as FastifyRequest<{ Params: { model: string } }>;
      const at = djlTarget({ params, query: {}, headers, form: new Map() }, service, null);
      const to = withVersion(at, service, headers);
      const target = { requestId: request.id, ...to, ...requestControl(headers, request.accessKey) };
      const options = query as Static<typeof ExplainQuery>;
      return reply.send(await explain(context, { body, headers, target, options }, clientSignal(reply)));
    });
  }
}

/** A query has texts only. */
const withNumbers = (value: unknown): unknown =>
  typeof value === 'object' && value !== null
    ? Object.fromEntries(
        Object.entries(value).map(([key, one]) => [
          key,
          ['samples', 'steps', 'seed'].includes(key) && typeof one === 'string' && /^\d{1,10}$/.test(one)
            ? Number(one)
            : one,
        ]),
      )
    : value;
