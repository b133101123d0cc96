/** The management API over a real port: exact texts, codes and shapes of the reference; two listeners; what it refuses. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { FakeManagement, group, pool } from '../../support/http-fake-management.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

let management: FakeManagement;
let test: TestServer;
beforeEach(async () => {
  management = new FakeManagement();
  test = await startServer({}, 'mlp', { management });
});
afterEach(() => test.server.close());

async function ask(method: string, path: string, body?: unknown) {
  const response = await fetch(test.url + path, {
    method,
    ...(body !== undefined && {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    }),
  });
  const text = await response.text();
  return { status: response.status, text, body: JSON.parse(text) as Record<string, unknown> };
}

const failure = (code: number, type: string, message: string) => ({ code, type, message });

describe('POST /models', () => {
  it("answers when the model is ready, in DJLServing's pretty-printed words", async () => {
    let ready = () => {};
    management.loading = new Promise((resolve) => {
      ready = resolve;
    });
    let answered = false;
    const pending = ask('POST', '/models?url=file:///m/mlp_2&model_name=mlp_2').then((answer) => {
      answered = true;
      return answer;
    });
    await expect.poll(() => management.registered.length).toBe(1);
    expect(answered).toBe(false);
    ready();
    expect(await pending).toMatchObject({
      status: 200,
      text: '{\n  "status": "Model \\"mlp_2\\" registered."\n}\n',
    });
  });

  it('synchronous=false answers 202 at once; a failure later is logged', async () => {
    management.loading = Promise.reject(new ServingError('OUT_OF_MEMORY', 'needs 9 GB'));
    management.loading.catch(() => undefined);
    const answer = await ask('POST', '/models?url=file:///m/mlp_1&synchronous=false');
    expect([answer.status, answer.body]).toEqual([202, { status: 'Model "mlp_1" registration scheduled.' }]);
    await test.logged(({ msg, model }) => msg === 'a scheduled registration failed' && model === 'mlp_1');
  });

  it('takes every parameter, as query or JSON, numbers also as text', async () => {
    const expected = {
      url: 's3://b/m',
      name: 'm',
      version: 'v1',
      engine: 'Python',
      device: 'cpu',
      jobQueueSize: 7,
      batchSize: 2,
      maxBatchDelayMs: 0,
      maxIdleSeconds: 5,
      weight: 3,
      minGroups: 0,
      maxGroups: 3,
    };
    const given = {
      url: 's3://b/m',
      model_name: 'm',
      model_version: 'v1',
      engine: 'Python',
      device: 'cpu',
      job_queue_size: 7,
      batch_size: 2,
      max_batch_delay: 0,
      max_idle_time: 5,
      weight: 3,
      min_worker: 0,
      max_worker: 3,
    };
    const query = new URLSearchParams(
      Object.entries(given).map(([name, value]): [string, string] => [name, String(value)]),
    );
    expect((await ask('POST', `/models?${query}`)).status).toBe(200);
    expect((await ask('POST', '/models', { ...given, model_version: 'v2', synchronous: true })).status).toBe(
      200,
    );
    const texts = { ...given, model_version: 'v3', min_worker: '0', max_worker: '3', synchronous: 'false' };
    expect((await ask('POST', '/models', texts)).status).toBe(202);
    expect(management.registered).toEqual([
      expected,
      { ...expected, version: 'v2' },
      { ...expected, version: 'v3' },
    ]);
  });

  it('−1 is "as configured", and what is not given is not passed on', async () => {
    await ask('POST', '/models?url=/m/a&batch_size=-1&min_worker=-1&max_worker=-1&job_queue_size=-1');
    expect(management.registered).toEqual([{ url: '/m/a', version: null }]);
  });

  it("SageMaker's multi-model contract: model_name and url as JSON, invoke, list, describe, delete", async () => {
    expect(
      (await ask('POST', '/models', { model_name: 'a1b2', url: '/opt/ml/models/a1b2/model' })).status,
    ).toBe(200);
    const duplicate = await ask('POST', '/models', { model_name: 'a1b2', url: '/opt/ml/models/a1b2/model' });
    expect([duplicate.status, duplicate.body]).toEqual([
      409,
      failure(409, 'BadRequestException', 'Workflow a1b2 is already registered.'),
    ]);
    expect((await ask('GET', '/models')).body).toEqual({
      models: [{ modelName: 'a1b2', modelUrl: '/opt/ml/models/a1b2/model', status: 'READY' }],
    });
    expect((await ask('GET', '/models/a1b2')).status).toBe(200);
    // A DELETE may carry a content type and no body.
    const gone = await fetch(`${test.url}/models/a1b2`, {
      method: 'DELETE',
      headers: { 'content-type': 'application/json' },
    });
    expect([gone.status, await gone.json()]).toEqual([
      200,
      { status: 'Model or workflow "a1b2" unregistered' },
    ]);
    expect((await ask('GET', '/models/a1b2')).status).toBe(404);
  });

  it.each([
    ['a model that is not there', 'MODEL_NOT_FOUND', 404, 'ModelNotFoundException'],
    ['too little memory', 'OUT_OF_MEMORY', 507, 'WlmOutOfMemoryException'],
    ['a damaged checkpoint', 'CHECKPOINT_INVALID', 400, 'MalformedModelException'],
    ['a server that ends', 'SHUTTING_DOWN', 503, 'WlmShutdownException'],
  ] as const)('%s: its code, its exception and the reason', async (_name, code, status, type) => {
    management.loading = Promise.reject(new ServingError(code, 'the reason'));
    management.loading.catch(() => undefined);
    expect(await ask('POST', '/models?url=/m/x')).toMatchObject({
      status,
      body: failure(status, type, 'the reason'),
    });
  });

  it.each([
    ['', 'Parameter url is required.'],
    ['?url=', /^url must be a string of 1 … 4096 characters, got ""$/],
    [
      '?url=/m&batch_size=two',
      /^parameter is invalid number\. batch_size must be an integer .*1024, got "two"$/,
    ],
    ['?url=/m&batch_size=1025', /batch_size .*at most 1024, got 1025/],
    ['?url=/m&batch_size=0', /batch_size must be -1 or an integer of at least 1, got 0/],
    ['?url=/m&job_queue_size=-2', /job_queue_size .*at least -1 .*got -2/],
    ['?url=/m&max_batch_delay=600001', /at most 600000, got 600001/],
    ['?url=/m&max_idle_time=1.5', /max_idle_time .*got "1.5"/],
    ['?url=/m&min_worker=-2', /min_worker .*at least -1 .*got -2/],
    ['?url=/m&model_name=a/b', /model_name must be a name of 1 … 128 letters.* got "a\/b"/],
    ['?url=/m&model_version=invoke', /model_version .*not invoke.* got "invoke"/],
    ['?url=/m&synchronous=maybe', /synchronous must be true or false, got "maybe"/],
    ['?url=/m&url=/n', /url must be a string .* got \["\/m","\/n"\]/],
  ])('refuses %s', async (query, message) => {
    const { status, body } = await ask('POST', `/models${query}`);
    expect([status, body.code, body.type]).toEqual([400, 400, 'BadRequestException']);
    expect(body.message).toMatch(message);
    expect(management.registered).toEqual([]);
  });

  it('refuses a body that is not JSON, or no object', async () => {
    const broken = await fetch(`${test.url}/models`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"url": ',
    });
    expect([broken.status, ((await broken.json()) as { message: string }).message]).toEqual([
      400,
      expect.stringContaining('not valid JSON'),
    ]);
    expect((await ask('POST', '/models', ['/m'])).status).toBe(400);
  });

  it('the configurable codes of the inference API do not move those of the management API', async () => {
    const other = await startServer({ badRequestHttpCode: 422 }, 'mlp', { management });
    const refused = await fetch(`${other.url}/models`, { method: 'POST' });
    expect(refused.status).toBe(400);
    await other.server.close();
  });
});

describe('PUT /models/{name}', () => {
  beforeEach(() => {
    management.pools = [pool('mlp_2'), pool('two', { version: 'v1' }), pool('two', { version: 'v2' })];
  });

  it.each(['models', 'workflows'])('scales and says so in the exact words, under /%s', async (root) => {
    const { status, text } = await ask('PUT', `/${root}/mlp_2?min_worker=2&max_worker=4`);
    expect([status, text]).toEqual([
      200,
      '{\n  "status": "Workflow \\"mlp_2\\" worker scaled. New Worker configuration min workers:2 max workers:4"\n}\n',
    ]);
    expect(management.scaled).toEqual([{ minGroups: 2, maxGroups: 4 }]);
  });

  it('scales all versions, a line each, or the one that is named', async () => {
    const all = await ask('PUT', '/models/two?min_worker=0&max_worker=0');
    expect((all.body.status as string).split('\n')).toHaveLength(2);
    const one = await ask('PUT', '/models/two/v2?max_worker=2&synchronous=true');
    expect((one.body.status as string).split('\n')).toHaveLength(1);
    expect(management.scaled).toEqual([{ minGroups: 0, maxGroups: 0 }, { maxGroups: 2 }]);
  });

  it('retry=true tries a model that has failed again, and scales nothing', async () => {
    management.pools.push(pool('dead', { state: 'FAILED' }));
    const { status, body } = await ask('PUT', '/models/dead?retry=true');
    expect([status, body]).toEqual([200, { status: 'Model or workflow "dead" serves' }]);
    expect([management.scaled, management.describe('dead', null)[0]!.state]).toEqual([[], 'READY']);
    expect((await ask('PUT', '/models/fake?retry=true')).status).toBe(404);
  });

  it('leaves alone what is −1 or not given', async () => {
    await ask('PUT', '/models/mlp_2?min_worker=-1&device=cpu');
    expect(management.scaled).toEqual([{ device: 'cpu' }]);
  });

  it.each([
    ['/models/fake', 404, failure(404, 'ModelNotFoundException', 'Model or workflow not found: fake')],
    ['/models/two/v9', 404, failure(404, 'ModelNotFoundException', 'Model or workflow not found: two/v9')],
    [
      '/models/busy?min_worker=1',
      503,
      failure(503, 'ServiceUnavailableException', 'Model or workflow is not ready: busy'),
    ],
    [
      '/models/mlp_2?min_worker=a',
      400,
      expect.objectContaining({ message: expect.stringMatching(/^parameter is invalid number\..*"a"$/) }),
    ],
  ])('refuses %s', async (path, status, body) => {
    management.pools.push(pool('busy', { state: 'PENDING' }));
    expect(await ask('PUT', path)).toMatchObject({ status, body });
  });
});

describe('GET /models/{name}', () => {
  it("has DJLServing's shape, one group of workers a kind of device, and our ranks", async () => {
    management.pools = [pool('mlp', { version: 'v1', loadedAtStartup: true, requestsInQueue: 3 })];
    const { status, body } = await ask('GET', '/models/mlp');
    expect(status).toBe(200);
    expect(body).toEqual([
      {
        workflowName: 'mlp',
        version: 'v1',
        models: [
          {
            modelName: 'mlp',
            version: 'v1',
            modelUrl: 'file:///models/mlp',
            batchSize: 1,
            maxBatchDelayMillis: 100,
            maxIdleSeconds: 60,
            queueSize: 100,
            requestInQueue: 3,
            status: 'Healthy',
            loadedAtStartup: true,
            tensorParallelDegree: 2,
            workerGroups: [
              {
                device: { deviceType: 'cpu', deviceId: -1 },
                minWorkers: 1,
                maxWorkers: 1,
                workers: [
                  {
                    id: 1,
                    startTime: '2023-06-08T08:14:16.999Z',
                    status: 'READY',
                    state: 'running',
                    ranks: [
                      { rank: 0, pid: 100, device: 'cpu' },
                      { rank: 1, pid: 101, device: 'cpu' },
                    ],
                  },
                ],
              },
            ],
          },
        ],
      },
    ]);
  });

  it('tells how far a load is, why it failed, and which workers end', async () => {
    const loading = { stage: 'partition' as const, doneBytes: 450, totalBytes: 1000 };
    management.pools = [
      pool('m', { version: 'v1', state: 'PENDING', healthy: false, loading, groups: [] }),
      pool('m', {
        version: 'v2',
        state: 'FAILED',
        healthy: false,
        failure: { code: 'WORKER_FAILED', message: '11 deaths' },
        nextTryAtMs: Date.UTC(2026, 10, 30),
        groups: [],
      }),
      pool('m', {
        version: 'v3',
        healthy: false,
        coresOversubscribed: true,
        groups: [
          group(4, { state: 'stopping', ranks: [{ rank: 0, pid: null, device: 'gpu2' }] }),
          group(5, { state: 'restarting', ranks: [{ rank: 0, pid: 1, device: 'gpu3' }] }),
        ],
      }),
    ];
    const { body } = await ask('GET', '/workflows/m');
    const [pending, failed, third] = (body as unknown as { models: Record<string, unknown>[] }[]).map(
      ({ models }) => models[0]!,
    );
    expect(pending).toMatchObject({
      status: 'PENDING',
      loading: { stage: 'partition', percent: 45, doneBytes: 450, totalBytes: 1000 },
      workerGroups: [{ minWorkers: 1, maxWorkers: 1, workers: [] }],
    });
    expect(failed).toMatchObject({
      status: 'FAILED',
      failure: { code: 'WORKER_FAILED', message: '11 deaths' },
      nextTry: '2026-11-30T00:00:00.000Z',
    });
    expect(failed).not.toHaveProperty('loading');
    expect(third).toMatchObject({
      status: 'Unhealthy',
      coresOversubscribed: true,
      workerGroups: [
        {
          device: { deviceType: 'gpu', deviceId: 2 },
          workers: [
            { id: 4, status: 'UNLOADING', state: 'stopping', ranks: [{ rank: 0, device: 'gpu2' }] },
            { id: 5, status: 'UNLOADING', state: 'restarting' },
          ],
        },
      ],
    });
    const one = await ask('GET', '/models/m/v2');
    expect(one.body).toHaveLength(1);
  });

  it('is 404 in its own words', async () => {
    expect(await ask('GET', '/models/fake')).toMatchObject({
      status: 404,
      body: failure(404, 'ModelNotFoundException', 'Workflow not found: fake'),
    });
  });
});

describe('GET /models', () => {
  beforeEach(() => {
    management.pools = Array.from({ length: 150 }, (_, index) =>
      pool(`m${String(index).padStart(3, '0')}`, { version: index === 0 ? 'v1' : null }),
    );
  });
  const names = (body: Record<string, unknown>) => (body.models as { modelName: string }[]).length;

  it.each([
    ['', 100, '100'],
    ['?limit=2', 2, '2'],
    ['?limit=2&next_page_token=2', 2, '4'],
    ['?limit=101', 100, '100'],
    ['?limit=-5', 100, '100'],
    ['?limit=0', 100, '100'],
    ['?next_page_token=100', 50, undefined],
    ['?next_page_token=149&limit=1', 1, undefined],
    ['?next_page_token=1000', 0, undefined],
    ['?next_page_token=-3&limit=1', 1, '1'],
  ])('page %s', async (query, count, next) => {
    const { status, body } = await ask('GET', `/models${query}`);
    expect([status, names(body), body.nextPageToken]).toEqual([200, count, next]);
  });

  it('the first item, and nothing for what has no value', async () => {
    const { body } = await ask('GET', '/models?limit=2');
    expect(body.models).toEqual([
      { modelName: 'm000', version: 'v1', modelUrl: 'file:///models/m000', status: 'READY' },
      { modelName: 'm001', modelUrl: 'file:///models/m001', status: 'READY' },
    ]);
  });

  it('workflows always have a token', async () => {
    expect((await ask('GET', '/workflows?limit=1')).body).toEqual({
      nextPageToken: '1',
      workflows: [{ workflowName: 'm000', version: 'v1' }],
    });
    expect((await ask('GET', '/workflows?next_page_token=149')).body.nextPageToken).toBe('150');
  });

  it('refuses a page that is no number', async () => {
    expect((await ask('GET', '/models?limit=many')).body.message).toMatch(
      /limit must be an integer, got "many"/,
    );
  });
});

describe('other management paths', () => {
  it.each([
    ['PUT', '/models', 405],
    ['DELETE', '/models', 405],
    ['POST', '/models/noop', 405],
    ['POST', '/models/noop?x=1', 405],
    ['PATCH', '/models/a/v1', 405],
    ['PUT', '/workflows', 405],
    ['POST', '/workflows/x', 405],
    ['PUT', '/server/metrics', 405],
    ['GET', '/server/nothing', 404],
    ['GET', '/models/a/b/c', 404],
    ['POST', '/workflows?url=x', 400],
    ['GET', '/adapters', 400],
    ['POST', '/models/m/adapters?name=a&src=b', 400],
    ['DELETE', '/models/m/adapters/a', 400],
  ])('%s %s is %i', async (method, path, status) => {
    const answer = await ask(method, path);
    expect([answer.status, answer.body.code]).toEqual([status, status]);
    expect(answer.body.message).not.toBe('');
  });

  it('/server/logging sets the level, by any method, and silences neither the access log nor itself', async () => {
    expect(await ask('PUT', '/server/logging?level=fatal')).toMatchObject({
      status: 200,
      body: { status: 'OK' },
    });
    const before = test.logs.length;
    await fetch(`${test.url}/ping`).then((response) => response.text());
    expect((await ask('GET', '/server/logging')).status).toBe(200);
    await test.logged(({ uri }) => uri === '/server/logging');
    expect(test.logs.slice(before).filter(({ uri }) => uri === '/ping')).toHaveLength(1);
    expect(test.logs.filter(({ msg }) => msg === 'the level of the log is set')).toMatchObject([
      { from: 'debug', to: 'fatal' },
      { from: 'fatal', to: 'info' },
    ]);
    expect((await ask('GET', '/server/logging?level=loud')).body.message).toBe(
      'level must be fatal, error, warn, info, debug or trace, got "loud"',
    );
  });
});

describe('two addresses', () => {
  let two: TestServer;
  let managementUrl: string;
  beforeEach(async () => {
    management.pools = [pool('mlp')];
    const address = { kind: 'tcp' as const, host: 'localhost', port: 0, path: '' };
    two = await startServer({ managementAddress: address }, 'mlp', { management });
    managementUrl = two.server.managementUrl!;
  });
  afterEach(() => two.server.close());

  it.each([
    ['GET', '/ping', 200, 404],
    ['POST', '/predictions/mlp', 200, 404],
    ['POST', '/invocations', 200, 404],
    ['POST', '/models/mlp/invoke', 200, 405],
    ['GET', '/v1/models', 200, 404],
    ['GET', '/models', 404, 200],
    ['POST', '/models', 404, 400],
    ['PUT', '/models', 404, 405],
    ['GET', '/models/mlp', 404, 200],
    ['DELETE', '/models/fake', 404, 404],
    ['GET', '/workflows', 404, 200],
    ['GET', '/server/logging', 404, 200],
    ['GET', '/health/live', 200, 200],
    ['GET', '/health/ready', 200, 200],
    ['OPTIONS', '/', 200, 200],
  ])('%s %s is %i on the inference address and %i on the other', async (method, path, inference, other) => {
    const init = {
      method,
      ...(method === 'POST' && {
        headers: { 'content-type': 'application/json' },
        body: path === '/models' ? '{}' : '{"inputs": "a"}',
      }),
    };
    const statuses = await Promise.all([two.url, managementUrl].map((url) => fetch(url + path, init)));
    expect(statuses.map(({ status }) => status)).toEqual([inference, other]);
    await Promise.all(statuses.map((response) => response.text()));
  });

  it('drain and close together', async () => {
    two.server.setDraining();
    expect((await fetch(`${managementUrl}/models`)).status).toBe(503);
    expect((await fetch(`${managementUrl}/health/live`)).status).toBe(200);
    await two.server.close();
    await expect(fetch(`${managementUrl}/models`)).rejects.toThrow();
  });

  it('may not share a port when one of them is every host', async () => {
    const tcp = (host: string) => ({ kind: 'tcp' as const, host, port: 8080, path: '' });
    await expect(
      startServer({ inferenceAddress: tcp('0.0.0.0'), managementAddress: tcp('127.0.0.1') }),
    ).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('127.0.0.1:8080 is taken by inference_address 0.0.0.0:8080'),
    });
  });
});
