/** The page at / and /openapi.json: every route that there is, with the fields that are checked; and what a 404 says. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeManagement, pool } from '../../support/http-fake-management.js';
import { model, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
beforeEach(async () => {
  test = await startServer();
});
afterEach(() => test.server.close());

interface OpenApi {
  openapi: string;
  paths: Record<
    string,
    Record<string, { requestBody?: { content: Record<string, { schema: object; example?: object }> } }>
  >;
}
const openApi = async () => (await (await fetch(`${test.url}/openapi.json`)).json()) as OpenApi;

describe('the reference', () => {
  it('is a page with routes, fields, errors, and curl lines for the model that is loaded', async () => {
    const response = await fetch(test.url);
    expect(response.headers.get('content-type')).toMatch(/^text\/html/);
    const page = await response.text();
    for (const part of [
      'POST /v1/chat/completions',
      'max_new_tokens',
      'QUEUE_FULL',
      `${test.url}/predictions/mlp`,
      'PUT /models/:model',
    ])
      expect(page).toContain(part);
    expect(page).not.toMatch(/<script|https?:\/\/(?!127\.0\.0\.1)/);
  });

  it('has lines for a shell: what nobody can know stands in capitals, a stream is not kept back', async () => {
    const page = await (await fetch(test.url)).text();
    const lines = [...page.matchAll(/<pre>(.*)<\/pre>/g)].map(([, line]) =>
      line!.replaceAll('&quot;', '"').replaceAll('&amp;', '&'),
    );
    expect(lines.length).toBeGreaterThan(40);
    expect(lines.filter((line) => /\/:|\{version\}/.test(line))).toEqual([]);
    expect(lines).toEqual(
      expect.arrayContaining([
        `curl -X POST '${test.url}/models?url=URL'`,
        `curl ${test.url}/models/mlp`,
        expect.stringContaining(`curl -N -X POST '${test.url}/invocations?model_name=mlp' -H`),
        `curl -X POST ${test.url}/wfpredict/WORKFLOW`,
        expect.stringMatching(/^curl -N -X POST .*\/predictions\/mlp\/VERSION -H/),
        expect.stringMatching(/^curl -N -X POST .*\/generate_stream -H/),
        // No model of this server makes vectors.
        expect.stringMatching(/\/v1\/embeddings .*"model":"MODEL"/),
      ]),
    );
    expect(page).toContain('<td>url (required)</td><td>query</td>');
    expect((await openApi()).paths['/models']!.post).toMatchObject({
      parameters: expect.arrayContaining([expect.objectContaining({ name: 'url', required: true })]),
    });
  });

  it('is told to programs by the schemas that requests are checked by', async () => {
    const { openapi, paths } = await openApi();
    expect(openapi).toBe('3.1.0');
    const { schema } = paths['/v1/completions']!.post!.requestBody!.content['application/json']!;
    expect(schema).toMatchObject({
      type: 'object',
      required: ['prompt'],
      properties: { max_tokens: { type: 'integer' } },
    });
    expect(Object.keys(paths)).toEqual(
      expect.arrayContaining(['/models/{model}', '/ping', '/metrics', '/health/ready']),
    );
  });

  it('gives examples that work', async () => {
    const { paths } = await openApi();
    for (const [path, { post }] of Object.entries(paths)) {
      const example = post?.requestBody?.content['application/json']?.example;
      // This test's model makes no vectors, has no labels and knows no tokens.
      if (
        example === undefined ||
        /embeddings$|(?:classify|score|rerank|pooling)$|tokenize$|count_tokens$|^\/explanations|\{version\}/.test(
          path,
        )
      )
        continue;
      const { status, text } = await postJson(test.url + path.replace('{model}', 'mlp'), example);
      expect(status, `${path}: ${text}`).toBe(200);
    }
  });

  it('names only routes that there are', async () => {
    const { paths } = await openApi();
    const there = new Set(
      test.server.routes.map(({ method, url }) => `${method} ${url.replace(/:(\w+)/g, '{$1}')}`),
    );
    const told = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(told.length).toBeGreaterThan(15);
    // This test's server has no metrics.
    expect(told.filter((route) => !there.has(route) && !route.endsWith('/metrics'))).toEqual([]);
  });

  it('names every route that there is', async () => {
    const { paths } = await openApi();
    // The reference itself; adapters, which are refused in words; what ends in a version is as without one.
    const untold = /^GET \/(?:openapi\.json)?$|\/adapters(?:\/|$)|\/\{version\}/;
    // They look at no method, or refuse all others.
    const anyMethod =
      /^\/(?:ping|predictions\/\{model\}|models\/\{model\}\/invoke|invocations|wfpredict\/\{workflow\}|(?:server\/)?metrics|server\/logging)$/;
    const left = test.server.routes
      .map(({ method, url }) => ({ method, path: url.replace(/:(\w+)/g, '{$1}') }))
      .filter(({ method }) => !['OPTIONS', 'HEAD'].includes(method))
      .filter(({ path }) => !(anyMethod.test(path) && path in paths))
      .filter(({ method, path }) => !(method.toLowerCase() in (paths[path] ?? {})))
      .map(({ method, path }) => `${method} ${path}`);
    expect([...new Set(left)].filter((route) => !untold.test(route)).sort()).toEqual([]);
  });

  it('asks a chat of a model that has a template', async () => {
    const answerFormat = { calls: null, reasoning: null, startsInside: false };
    test.service.statuses = [model('story'), model('talker', { answerFormat })];
    const { paths } = await openApi();
    const asked = (path: string) =>
      (paths[path]!.post!.requestBody!.content['application/json']!.example as { model: string }).model;
    expect(asked('/v1/completions')).toBe('story');
    for (const path of ['/v1/chat/completions', '/v1/responses', '/v1/messages'])
      expect(asked(path), path).toBe('talker');
  });

  it('is named by every 404 and 405', async () => {
    for (const [method, path] of [
      ['GET', '/nothing'],
      ['PUT', '/models'],
    ] as const) {
      expect(await (await fetch(test.url + path, { method })).text()).toContain(
        'It is at / (for programs: /openapi.json).',
      );
    }
  });
});

describe("a model's name", () => {
  it("is also its folder's own, of which DJLServing's rule has made another", async () => {
    test.service.statuses = [model('all_MiniLM_L6_v2')];
    const name = 'all-MiniLM-L6-v2';
    expect((await postJson(`${test.url}/predictions/${name}`, { inputs: 'a' })).status).toBe(200);
    expect((await postJson(`${test.url}/v1/completions`, { model: name, prompt: 'a' })).status).toBe(200);
    expect((await fetch(`${test.url}/v1/models/${name}`)).status).toBe(200);
    expect(test.service.submitted.map(({ request }) => request.model)).toEqual([
      'all_MiniLM_L6_v2',
      'all_MiniLM_L6_v2',
    ]);
  });

  it('is also the one it is managed by, and the one of its probe and of the Open Inference Protocol', async () => {
    const management = new FakeManagement();
    management.pools = [pool('all_MiniLM_L6_v2')];
    const own = await startServer({}, null, { management });
    own.service.statuses = [model('all_MiniLM_L6_v2')];
    const ask = async (path: string, method = 'GET') => (await fetch(own.url + path, { method })).status;
    const at = '/models/all-MiniLM-L6-v2';
    expect([await ask(at), await ask(`${at}/ready`), await ask(`/v2${at}`)]).toEqual([200, 200, 200]);
    expect([await ask(`${at}?min_worker=1`, 'PUT'), await ask(at, 'DELETE')]).toEqual([200, 200]);
    expect(management.pools).toEqual([]);
    await own.server.close();
  });

  it.each([
    ['GET', '/models/lama', 'Workflow not found: lama; did you mean llama?'],
    ['PUT', '/models/lama', 'Model or workflow not found: lama; did you mean llama?'],
    ['DELETE', '/models/lama', 'Model or workflow not found: lama; did you mean llama?'],
    ['GET', '/models/lama/ready', 'Model or workflow not found: lama; did you mean llama?'],
    ['GET', '/v2/models/lama', 'Model not found: lama; did you mean llama?'],
    ['POST', '/v2/models/lama/generate', 'Model not found: lama; did you mean llama?'],
  ])('that nobody has, at %s %s', async (method, path, sentence) => {
    test.service.statuses = [model('llama')];
    const body = method === 'POST' ? { body: '{"text_input":"a"}' } : {};
    const response = await fetch(test.url + path, { method, ...body });
    expect([response.status, await response.text()]).toEqual([404, expect.stringContaining(sentence)]);
  });

  it('that nobody has is a 404 with the nearest there is', async () => {
    test.service.statuses = [model('llama'), model('mistral')];
    const djl = await postJson(`${test.url}/predictions/lama`, { inputs: 'a' });
    expect([djl.status, djl.text]).toEqual([
      404,
      expect.stringContaining('not found: lama; did you mean llama?'),
    ]);
    const openAi = await postJson(`${test.url}/v1/completions`, { model: 'mistrall', prompt: 'a' });
    expect([openAi.status, openAi.text]).toEqual([404, expect.stringContaining('did you mean mistral?')]);
    expect((await postJson(`${test.url}/predictions/zzzzzz`, { inputs: 'a' })).text).not.toContain(
      'did you mean',
    );
  });
});

describe('probes', () => {
  it.each(['/ping', '/health', '/health/live', '/health/ready', '/', '/openapi.json'])(
    'HEAD %s is its GET without a body',
    async (path) => {
      const [head, get] = [await fetch(test.url + path, { method: 'HEAD' }), await fetch(test.url + path)];
      expect([head.status, await head.text()]).toEqual([200, '']);
      expect(get.status).toBe(200);
    },
  );
});
