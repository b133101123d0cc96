/** Versions of a model behind one name: named by `name:version`, or chosen once a request, by weights or by x-session-id, in every dialect. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { FakeManagement, pool } from '../../support/http-fake-management.js';
import { model, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
let management: FakeManagement;
let asked: (string | null)[];
beforeEach(async () => {
  management = new FakeManagement();
  management.pools = [pool('mlp', { version: 'v1', weight: 1 }), pool('mlp', { version: 'v2', weight: 1 })];
  test = await startServer({}, 'mlp', { management });
  test.service.statuses = ['v1', 'v2'].map((version) => model('mlp', { version }));
  asked = [];
  test.service.choice = (name, session) => {
    expect(name).toBe('mlp');
    asked.push(session);
    return 'v2';
  };
});
afterEach(() => test.server.close());

const versions = () => test.service.submitted.map(({ request }) => request.version);
const MESSAGES = [{ role: 'user', content: 'a' }];
const NAMED: readonly (readonly [path: string, body: object])[] = [
  ['/v1/completions', { prompt: 'a', n: 2 }],
  ['/v1/chat/completions', { messages: MESSAGES, n: 2 }],
  ['/v1/responses', { input: 'a' }],
  ['/v1/messages', { messages: MESSAGES, max_tokens: 3 }],
  ['/generate', { inputs: 'a' }],
];
const PATHS: readonly (readonly [path: string, body: object])[] = [
  ['/predictions/mlp', { inputs: 'a' }],
  ['/invocations', { inputs: ['a', 'b'] }],
  ['/models/mlp/invoke', { messages: MESSAGES }],
  ['/v2/models/mlp/generate', { text_input: 'a' }],
];

describe('a request without a version', () => {
  it.each([...NAMED, ...PATHS])('%s gets one, the same for all its jobs', async (path, body) => {
    const { status, text } = await postJson(test.url + path, body, { 'x-session-id': 'me' });
    expect([status, text]).toEqual([200, expect.any(String)]);
    expect(new Set(versions())).toEqual(new Set(['v2']));
    expect(asked).toEqual(['me']);
  });

  it('whose session is no name is refused, in the words of its dialect', async () => {
    const long = { 'x-session-id': 'x'.repeat(257) };
    const sentence = 'x-session-id must be a string of 1 … 256 characters';
    for (const [path, body] of [NAMED[0]!, NAMED[3]!, PATHS[0]!, PATHS[3]!]) {
      const { status, text } = await postJson(test.url + path, body, long);
      expect([path, status, text]).toEqual([path, 400, expect.stringContaining(sentence)]);
    }
    expect(versions()).toEqual([]);
  });
});

describe('name:version', () => {
  it.each(NAMED)('%s gets that one', async (path, body) => {
    const { status } = await postJson(test.url + path, { ...body, model: 'mlp:v1' });
    expect(status).toBe(200);
    expect(new Set(versions())).toEqual(new Set(['v1']));
    expect(asked).toEqual([]);
  });

  it('of a version that is not there is a model that is not there', async () => {
    const { status, text } = await postJson(`${test.url}/v1/completions`, { model: 'mlp:v9', prompt: 'a' });
    expect([status, JSON.parse(text)]).toMatchObject([404, { error: { code: 'model_not_found' } }]);
  });

  it("is in the list of models beside the name, and may be part of a model's own name", async () => {
    const ids = async () => {
      const { data } = (await (await fetch(`${test.url}/v1/models`)).json()) as {
        data: { id: string; parent: string | null; root: string }[];
      };
      return data.map(({ id, parent }) => [id, parent]);
    };
    expect(await ids()).toEqual([
      ['mlp', null],
      ['mlp:v1', 'mlp'],
      ['mlp:v2', 'mlp'],
    ]);
    expect(await (await fetch(`${test.url}/v1/models/mlp:v2`)).json()).toMatchObject({
      id: 'mlp:v2',
      parent: 'mlp',
    });
    expect((await fetch(`${test.url}/v1/models/mlp:v3`)).status).toBe(404);
    test.service.statuses = [model('org_name_GGUF_Q4')];
    test.service.choice = null;
    const { status } = await postJson(`${test.url}/v1/completions`, {
      model: 'org/name-GGUF:Q4',
      prompt: 'a',
    });
    expect(status).toBe(200);
  });
});

describe('weights', () => {
  const put = async (path: string) => {
    const response = await fetch(test.url + path, { method: 'PUT' });
    return [response.status, await response.json()] as const;
  };

  it('of a version are said with its share, without a worker of its being touched', async () => {
    expect(await put('/models/mlp/v2?weight=3')).toEqual([
      200,
      { status: 'Workflow "mlp/v2" has weight 3: 75 % of requests without a version' },
    ]);
    expect(management.scaled).toEqual([]);
    const [, told] = await put('/models/mlp/v1?weight=1&min_worker=1&max_worker=2');
    expect((told as { status: string }).status.split('\n')).toHaveLength(2);
    const described = (await (await fetch(`${test.url}/models/mlp`)).json()) as { models: object[] }[];
    expect(described.map(({ models }) => models[0])).toMatchObject([{ weight: 1 }, { weight: 3 }]);
  });

  it('are whole numbers from 0, of a version that is there', async () => {
    for (const weight of ['-1', '1.5', 'many', '1000001'])
      expect([weight, (await put(`/models/mlp/v2?weight=${weight}`))[0]]).toEqual([weight, 400]);
    expect(await put('/models/mlp/v9?weight=1')).toMatchObject([
      404,
      { message: 'Model or workflow not found: mlp/v9' },
    ]);
    management.setWeight = () => {
      throw new ServingError('BAD_REQUEST', 'weight needs a version in the path; mlp has v1, v2');
    };
    const sentence = 'weight needs a version in the path; mlp has v1, v2';
    expect(await put('/models/mlp?weight=1')).toMatchObject([400, { message: sentence }]);
  });
});
