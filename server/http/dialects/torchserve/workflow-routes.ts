/**
 * TorchServe's management of workflows: /workflows (register, list, describe, unregister).
 *
 * In      url (a file of the workflow store, or one that fits allowed_urls) and workflow_name, in the query or as JSON
 * Out     {"status": …}, or TorchServe's descriptions; `workflowDag` is ours
 * Limits  registering and unregistering need enable_model_api, as models do (TorchServe's last release refuses both always)
 * Errors  {"code", "type", "message"} in TorchServe's words
 * Source  TorchServe's workflow management API
 */
import type { Static, TObject } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { WorkflowDescription, WorkflowService } from '../../../requests/workflows.js';
import { addOptionalJsonParser } from '../../bodies/optional-json.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import { methodNotAllowed, prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import {
  PageParameters,
  pageOf,
  parameterValidator,
  WorkflowParameters,
} from '../management/management-request.js';
import { TorchServeRefusal, torchServeError } from './torchserve-errors.js';
import { type TorchServeModels, torchServePlace } from './torchserve-models.js';

export const torchServeWorkflows = (models: TorchServeModels): Dialect => ({
  name: 'torchserve-workflows',
  roles: ['management'],
  access: ['manage'],
  words: { prefix: '/workflows', error: torchServeError },
  refusesMethods: true,
  reference: [
    { method: 'GET', path: '/workflows', summary: 'All workflows.', query: PageParameters },
    { method: 'POST', path: '/workflows', summary: 'Registers a workflow.', query: WorkflowParameters },
    { method: 'GET', path: '/workflows/:workflow', summary: 'Describes a workflow.' },
    { method: 'DELETE', path: '/workflows/:workflow', summary: 'Unregisters a workflow.' },
  ],
  routes: (app, context) => workflowRoutes(app, context, models),
});

async function workflowRoutes(
  app: FastifyInstance,
  { workflows, ...context }: HttpContext,
  { parts: { config } }: TorchServeModels,
): Promise<void> {
  addOptionalJsonParser(app);
  app.setValidatorCompiler(({ schema }) => parameterValidator(schema as TObject));
  setErrorWords(app, context, { tell: torchServeError, counted: false });
  if (workflows === undefined) return;
  const modelApi = async (): Promise<void> => {
    if (!config.enableModelApi) throw methodNotAllowed();
  };
  app.get('/workflows', { schema: { querystring: PageParameters } }, async (request, reply) => {
    const { items, next, total } = paged(workflows, request.query as Static<typeof PageParameters>);
    const listed = items.map(({ name, url }) => ({ workflowName: name, workflowUrl: url }));
    return sendJson(reply, { ...(next < total && { nextPageToken: String(next) }), workflows: listed });
  });
  app.post(
    '/workflows',
    { schema: { querystring: WorkflowParameters, body: WorkflowParameters }, onRequest: modelApi },
    async (request, reply) => {
      const { url, workflow_name: name } = {
        ...(request.query as Static<typeof WorkflowParameters>),
        ...(request.body as Static<typeof WorkflowParameters>),
      };
      if (url === undefined || url === '')
        throw new ServingError('BAD_REQUEST', 'Parameter url is required.');
      const place = torchServePlace(url, config.workflowStore, config.allowedUrls, 'Workflow');
      const given = { url: place, ...(name !== undefined && { name }) };
      const registered = await workflows.register(given);
      await registered.ready;
      const status = `Workflow ${registered.name} has been registered and scaled successfully.`;
      return sendJson(reply, { status });
    },
  );
  app.get('/workflows/:workflow', async (request, reply) =>
    sendJson(reply, [described(found(workflows, request))]),
  );
  app.delete('/workflows/:workflow', { onRequest: modelApi }, async (request, reply) => {
    const { name } = found(workflows, request);
    await workflows.unregister(name);
    return sendJson(reply, { status: `Workflow "${name}" unregistered` });
  });
}

function paged(workflows: WorkflowService, page: Static<typeof PageParameters>) {
  const all = workflows.list();
  return { ...pageOf(all, page), total: all.length };
}

/** @throws ServingError */
function found(workflows: WorkflowService, { params }: FastifyRequest): WorkflowDescription {
  const { workflow: name } = params as { workflow: string };
  const workflow = workflows.find(name);
  if (workflow !== null) return workflow;
  const sentence = `Workflow not found: ${name.slice(0, 128)}`;
  throw new TorchServeRefusal('MODEL_NOT_FOUND', 'WorkflowNotFoundException', 404, sentence);
}

const described = ({ name, nodes, url }: WorkflowDescription) => ({
  workflowName: name,
  workflowUrl: url,
  workflowDag: Object.fromEntries(nodes.map((node) => [node.name, node.after])),
});

function sendJson(reply: FastifyReply, body: unknown): FastifyReply {
  return reply.type('application/json').send(prettyJson(body));
}
