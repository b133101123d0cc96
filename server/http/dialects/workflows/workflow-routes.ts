/**
 * Requests to workflows: /wfpredict/{name}, TorchServe's path. (DJLServing's /predictions/{name} leads here as well.)
 *
 * In      any body, as it came; the method is not looked at
 * Out     the workflow's answer
 * Errors  in the words of the dialect that it is served beside: DJLServing's or TorchServe's
 * Source  TorchServe 0.12 (workflow management, wfpredict); DJLServing 0.36 (workflow.json)
 */
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { requestControl } from '../../../requests/request-control.js';
import { answerNowOrLater } from '../../answers/async-replies.js';
import { propertiesOf } from '../../answers/handler-answer.js';
import { addBodyReader } from '../../bodies/body-reader.js';
import { ContentBody } from '../../bodies/model-bodies.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import type { HttpContext } from '../../http-context.js';
import { modelNotFound } from '../../model-target.js';
import { djlError } from '../djl/djl-errors.js';
import { answerWorkflow } from './workflow-answer.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

/** @param tell what an error is */
export const workflowsIn = (tell: typeof djlError): Dialect => ({
  name: 'workflows',
  roles: ['inference'],
  access: ['infer'],
  refusesMethods: false,
  reference: [
    {
      ...{ method: 'POST', path: '/wfpredict/:workflow', body: Type.Unknown() },
      summary: 'Asks a workflow: the body goes to its first nodes, what its last ones give comes back.',
    },
  ],
  routes: (app, context) => workflowRoutes(app, context, tell),
});

export const workflowDialect = workflowsIn(djlError);

async function workflowRoutes(
  app: FastifyInstance,
  context: HttpContext,
  tell: typeof djlError,
): Promise<void> {
  const { config, workflows } = context;
  addBodyReader(app, { isContent: () => true, plain: (_request, _body, done) => done(null) });
  setErrorWords(app, context, { tell: (error) => tell(error, config) });
  app.route({
    method: METHODS,
    url: '/wfpredict/:workflow',
    handler: (request: FastifyRequest, reply) => {
      const { workflow: name } = request.params as { workflow: string };
      const workflow = workflows?.find(name) ?? null;
      if (workflow === null || workflows === undefined)
        throw modelNotFound('Model or workflow', { model: name, version: null }, workflows?.list() ?? []);
      const { accessKey, headers, id: requestId, log, query } = request;
      const body = request.body instanceof ContentBody ? request.body : new ContentBody([]);
      const properties = propertiesOf(headers, query);
      const origin = { requestId, ...requestControl(headers, accessKey) };
      return answerNowOrLater(context, request, reply, (client) =>
        answerWorkflow(context, workflows, log, { body, origin, properties, workflow }, client),
      );
    },
  });
}
