/** A dialect is one object: a toy one, given to the server beside its own, has routes, words for its errors, a scope and a listener. */
import { afterEach, describe, expect, it } from 'vitest';
import { type Dialect, KnownPaths } from '../../../server/http/dialect.js';
import { ALL_DIALECTS } from '../../../server/http/dialects/all-dialects.js';
import { openAiDialect } from '../../../server/http/dialects/openai/openai-routes.js';
import { makeRequest } from '../../fixtures/generate-requests.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

/** Continues a text in capitals. */
const toy: Dialect = {
  name: 'toy',
  roles: ['inference'],
  access: ['infer'],
  words: { prefix: '/toy/', error: ({ code, httpStatus }) => ({ status: httpStatus, body: `oh: ${code}` }) },
  refusesMethods: true,
  async routes(app, { service }) {
    app.get('/toy/:model/:text', async ({ id, params }, reply) => {
      const { model, text } = params as { model: string; text: string };
      const asked = makeRequest({ requestId: id, model, prompt: { kind: 'text', text }, maxNewTokens: 2 });
      const { events } = await service.submit(asked, AbortSignal.timeout(10_000));
      for await (const event of events)
        if (event.kind === 'finish') return reply.send(event.generatedText.toUpperCase());
    });
  },
};
describe('a dialect of one object', () => {
  let running: TestServer | null = null;
  afterEach(async () => running?.server.close());

  const start = async (config = {}) => {
    running = await startServer(config, 'mlp', {}, [...ALL_DIALECTS, toy]);
    return running;
  };

  it('answers, beside the others', async () => {
    const { url } = await start();
    expect(await (await fetch(`${url}/toy/mlp/one`)).text()).toBe(' W1 W2');
    expect((await fetch(`${url}/v1/models`)).status).toBe(200);
  });

  it('says its errors in its own words, also for paths and methods it has not', async () => {
    const { url, service } = await start();
    service.statuses = [];
    const told = async (path: string, method = 'GET') => {
      const response = await fetch(`${url}${path}`, { method });
      return [response.status, await response.text()];
    };
    expect(await told('/toy/nothing')).toEqual([404, 'oh: ROUTE_NOT_FOUND']);
    expect(await told('/toy/mlp/one', 'DELETE')).toEqual([405, 'oh: METHOD_NOT_ALLOWED']);
    expect((await told('/v1/nothing'))[1]).toContain('"unknown_url"');
    expect((await told('/nothing'))[1]).toContain('ResourceNotFoundException');
  });

  it('is closed without a key of its scope, and absent from listeners of other roles', async () => {
    const apart = { kind: 'tcp' as const, host: '127.0.0.1', port: 0, path: 'apart' };
    const { url, server } = await start({ apiKey: 'k'.repeat(20), managementAddress: apart });
    expect((await fetch(`${url}/toy/mlp/one`)).status).toBe(401);
    expect((await fetch(`${url}/toy/mlp/one`, { headers: { 'x-api-key': 'k'.repeat(20) } })).status).toBe(
      200,
    );
    const management = await fetch(`${server.managementUrl}/toy/mlp/one`, {
      headers: { 'x-api-key': 'k'.repeat(20) },
    });
    expect(await management.text()).toBe('oh: ROUTE_NOT_FOUND');
  });
});

describe('the paths of a dialect', () => {
  it('are known by their pattern, with a query, a slash at the end, or an empty parameter', () => {
    const known = new KnownPaths();
    known.add('/v1/models/:model', openAiDialect);
    known.add('/v1/a.b/*', openAiDialect);
    for (const url of ['/v1/models/x', '/v1/models/x?y=/z', '/v1/models/x/', '/v1/models/', '/v1/a.b/c/d'])
      expect(known.find(url), url).toBe(openAiDialect);
    for (const url of ['/v1/models', '/v1/models/x/y', '/v1/axb/c', '/x/v1/models/x'])
      expect(known.find(url), url).toBeNull();
  });
});
