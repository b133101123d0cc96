/**
 * DJLServing's compatibility checks 1 to 15, in the numbering of the reference, against the running server.
 *
 * One startup model stands for the reference's `mlp`; our queue holds 100 jobs by default. Servers: as it is; a queue of one job with
 * either status of a refusal, one of them with an error limit; two startup models with an error limit.
 */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const MODEL = path.join(repositoryRoot, 'models', 'embedded');
const URL_OF_MODEL = encodeURIComponent(MODEL);
const LIMIT_MS = 120_000;
const SHORT = { inputs: 'Once upon a time', parameters: { max_new_tokens: 4, do_sample: false } };
const SLOW = { ...SHORT, parameters: { max_new_tokens: 400, do_sample: false, ignore_eos_token: true } };

let server: ServerProcess;
const started: ServerProcess[] = [];
afterAll(async () => {
  await Promise.all(started.map((one) => one.stop()));
});

async function start(environment: Record<string, string>): Promise<ServerProcess> {
  const one = await ServerProcess.start({ TENSOR_PARALLEL_DEGREE: '1', ...environment });
  started.push(one);
  return one;
}

interface Answer {
  status: number;
  headers: Headers;
  text: string;
  /** Parsed when it is JSON. */
  body: unknown;
}

async function ask(
  method: string,
  target: string,
  {
    body,
    headers,
    to = server,
  }: { body?: object; headers?: Record<string, string>; to?: ServerProcess } = {},
): Promise<Answer> {
  const response = await fetch(to.url + target, {
    method,
    headers: { ...(body && { 'content-type': 'application/json' }), ...headers },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get('content-type') ?? '') && text !== '';
  return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : null };
}

const predict = (target: string, headers: Record<string, string> = {}) =>
  ask('POST', target, { body: SHORT, headers });
const failure = (code: number, type: string, message: string) => ({
  status: code,
  body: { code, type, message },
});
const register = (query: string) => ask('POST', `/models?url=${URL_OF_MODEL}&${query}`);

describe('a server with one startup model', () => {
  beforeAll(async () => {
    server = await start({});
  }, LIMIT_MS);

  it('check 1: /ping is healthy, with a request id', async () => {
    const { status, headers, body } = await ask('GET', '/ping');
    expect([status, body]).toEqual([200, { embedded: { status: 'Healthy' } }]);
    expect(headers.get('content-type')).toBe('application/json');
    expect(headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('check 2: a request id is echoed, nothing may be cached', async () => {
    const { headers } = await ask('GET', '/ping', { headers: { 'x-request-id': 'abc' } });
    expect(headers.get('x-request-id')).toBe('abc');
    expect(headers.get('pragma')).toBe('no-cache');
    expect(headers.get('cache-control')).toBe('no-cache; no-store, must-revalidate, private');
    expect(headers.get('expires')).toBe('Thu, 01 Jan 1970 00:00:00 UTC');
  });

  it('check 3: a prediction, and a model that is not there', async () => {
    expect((await predict('/predictions/embedded')).status).toBe(200);
    const none = await predict('/predictions/none');
    expect(none).toMatchObject(failure(404, 'ModelNotFoundException', 'Model or workflow not found: none'));
    expect(none.headers.get('connection')).toBe('close');
  });

  it('check 4: /predictions is no resource', async () => {
    expect(await ask('GET', '/predictions')).toMatchObject({
      status: 404,
      body: {
        message:
          'Requested resource is not found, please refer to API document. It is at / (for programs: /openapi.json).',
      },
    });
  });

  it('check 5: /invocations and /models/{m}/invoke go to the startup model', async () => {
    const first = await predict('/predictions/embedded');
    expect((await predict('/invocations')).text).toBe(first.text);
    expect((await predict('/models/embedded/invoke')).text).toBe(first.text);
  });

  it(
    'check 6: registration, synchronous and not',
    async () => {
      expect(await ask('POST', '/models')).toMatchObject(
        failure(400, 'BadRequestException', 'Parameter url is required.'),
      );
      expect(await register('model_name=mlp_2')).toMatchObject({
        status: 200,
        body: { status: 'Model "mlp_2" registered.' },
      });
      expect((await predict('/predictions/mlp_2')).status).toBe(200);
      expect(await register('model_name=mlp_1&synchronous=false')).toMatchObject({
        status: 202,
        body: { status: 'Model "mlp_1" registration scheduled.' },
      });
      while ((await ask('GET', '/models/mlp_1/ready')).status !== 200);
    },
    LIMIT_MS,
  );

  it('check 7: a name twice, a url that is nothing', async () => {
    expect(await register('model_name=mlp_2')).toMatchObject(
      failure(409, 'BadRequestException', 'Workflow mlp_2 is already registered.'),
    );
    expect(await ask('POST', '/models?url=InvalidUrl')).toMatchObject({
      status: 404,
      body: { type: 'ModelNotFoundException' },
    });
    expect((await ask('GET', '/models/InvalidUrl')).status).toBe(404);
  });

  it(
    'check 8: scaling up, of nothing, and to nothing',
    async () => {
      expect(await ask('PUT', '/models/mlp_2?min_worker=2&max_worker=4')).toMatchObject({
        status: 200,
        body: {
          status: 'Workflow "mlp_2" worker scaled. New Worker configuration min workers:2 max workers:4',
        },
      });
      expect(await ask('PUT', '/models/fake?min_worker=1')).toMatchObject(
        failure(404, 'ModelNotFoundException', 'Model or workflow not found: fake'),
      );
      expect((await ask('PUT', '/models/mlp_2?min_worker=0&max_worker=0')).status).toBe(200);
      expect(await predict('/predictions/mlp_2')).toMatchObject(
        failure(503, 'WlmShutdownException', 'All model workers has been shutdown: mlp_2'),
      );
    },
    LIMIT_MS,
  );

  it('check 9: describe', async () => {
    const { body } = await ask('GET', '/models/embedded');
    expect(body).toEqual([
      {
        workflowName: 'embedded',
        models: [
          expect.objectContaining({
            modelName: 'embedded',
            modelUrl: expect.stringContaining('models/embedded'),
            batchSize: 1,
            maxBatchDelayMillis: 100,
            maxIdleSeconds: 60,
            queueSize: 100,
            requestInQueue: 0,
            status: 'Healthy',
            loadedAtStartup: true,
            tensorParallelDegree: 1,
            workerGroups: [
              {
                device: { deviceType: 'cpu', deviceId: -1 },
                minWorkers: 1,
                maxWorkers: 1,
                workers: [
                  {
                    id: 1,
                    startTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
                    status: 'READY',
                    state: 'running',
                    ranks: [{ rank: 0, pid: expect.any(Number), device: 'cpu' }],
                  },
                ],
              },
            ],
          }),
        ],
      },
    ]);
  });

  it(
    'check 10: pages, and removal',
    async () => {
      const page = (await ask('GET', '/models?limit=2')).body as { nextPageToken?: string; models: object[] };
      expect([page.nextPageToken, page.models.length]).toEqual(['2', 2]);
      const rest = (await ask('GET', '/models?limit=2&next_page_token=2')).body as object;
      expect(rest).not.toHaveProperty('nextPageToken');
      expect(await ask('DELETE', '/models/fake')).toMatchObject(
        failure(404, 'ModelNotFoundException', 'Model or workflow not found: fake'),
      );
      for (const name of ['mlp_1', 'mlp_2']) {
        expect(await ask('DELETE', `/models/${name}`)).toMatchObject({
          status: 200,
          body: { status: `Model or workflow "${name}" unregistered` },
        });
        expect((await predict(`/predictions/${name}`)).status).toBe(404);
      }
    },
    LIMIT_MS,
  );

  it('check 12: methods, OPTIONS, and a handler that cannot be overridden', async () => {
    const refused = failure(
      405,
      'MethodNotAllowedException',
      'Requested method is not allowed, please refer to API document. It is at / (for programs: /openapi.json).',
    );
    expect(await ask('PUT', '/models')).toMatchObject(refused);
    expect(await ask('POST', '/models/noop')).toMatchObject(refused);
    expect(await ask('PUT', '/server/metrics')).toMatchObject(refused);
    expect(await ask('OPTIONS', '/')).toMatchObject({ status: 200, body: {} });
    expect((await predict('/predictions/embedded', { handler: 'x' })).status).toBe(400);
  });

  it(
    'check 13: versions take turns, unless one is named',
    async () => {
      expect((await register('model_name=m&model_version=v1')).status).toBe(200);
      expect((await register('model_name=m&model_version=v2&job_queue_size=7')).status).toBe(200);
      // What each version has answered, as the metrics count it.
      const answered = async () => {
        const { text } = await ask('GET', '/metrics');
        return ['v1', 'v2'].map((version) =>
          text
            .split('\n')
            .filter((line) => line.startsWith('shardserve_requests_total{') && line.includes('model="m"'))
            .filter((line) => line.includes(`version="${version}"`))
            .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0),
        );
      };
      for (let turn = 0; turn < 4; turn += 1) {
        expect((await predict('/predictions/m')).status).toBe(200);
        const [v1 = 0, v2 = 0] = await answered();
        expect([v1 + v2, Math.abs(v1 - v2)]).toEqual([turn + 1, (turn + 1) % 2]);
      }
      expect((await predict('/predictions/m/v1')).status).toBe(200);
      expect(await answered()).toEqual([3, 2]);
      expect((await predict('/predictions/m/v9')).status).toBe(404);
      expect((await ask('GET', '/models/m')).body).toHaveLength(2);
      expect((await ask('GET', '/models/m/v2')).body).toMatchObject([
        { version: 'v2', models: [{ queueSize: 7 }] },
      ]);
      expect(await register('model_name=m')).toMatchObject({ status: 409 });
      expect((await ask('DELETE', '/models/m')).status).toBe(200);
      expect((await predict('/predictions/m')).status).toBe(404);
    },
    LIMIT_MS,
  );

  it(
    'check 14: an answer that is fetched later',
    async () => {
      const begun = await ask('POST', '/predictions/embedded', {
        body: SLOW,
        headers: { 'x-synchronous': 'false' },
      });
      expect([begun.status, begun.text]).toEqual([200, '']);
      const token = begun.headers.get('x-next-token')!;
      expect(token).toMatch(/^[0-9a-f-]{36}$/);
      const poll = (starting: string) =>
        ask('POST', '/predictions/embedded', { headers: { 'x-starting-token': starting } });
      let polled = await poll(token);
      expect(polled.status).toBe(202);
      while (polled.status === 202) polled = await poll(token);
      expect(polled).toMatchObject({ status: 200, body: { generated_text: expect.any(String) } });
      expect(polled.headers.get('x-next-token')).toBeNull();
      expect(await poll('bad')).toMatchObject(
        failure(400, 'BadRequestException', 'Invalid x-starting-token: bad'),
      );
    },
    LIMIT_MS,
  );
});

describe('a queue of one job', () => {
  const environment = {
    SERVING_JOB_QUEUE_SIZE: '1',
    SERVING_MAX_WORKERS: '1',
    OPTION_MAX_ROLLING_BATCH_SIZE: '1',
  };
  const message = 'Worker queue capacity exceeded for model: embedded';

  /** One server error is not too many for it. */
  let strict: ServerProcess;
  beforeAll(async () => {
    strict = await start({ ...environment, SERVING_ERROR_RATE_ANY: '1/PT5M' });
  }, LIMIT_MS);

  it.each([503, 429])(
    'check 11: of two slow requests one is served, one is refused with %i',
    async (code) => {
      const small =
        code === 503 ? strict : await start({ ...environment, SERVING_THROTTLE_ERROR_HTTP_CODE: '429' });
      const answers = await Promise.all(
        [1, 2].map(() => ask('POST', '/predictions/embedded', { body: SLOW, to: small })),
      );
      const refused = answers.find(({ status }) => status !== 200);
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(refused).toMatchObject(failure(code, 'WlmCapacityException', message));
      expect(Number(refused?.headers.get('retry-after') ?? 1)).toBeGreaterThanOrEqual(1);
    },
    LIMIT_MS,
  );

  it(
    'check 15: two server errors are one too many for /ping',
    async () => {
      // The one of check 11.
      expect((await ask('GET', '/ping', { to: strict })).status).toBe(200);
      const answers = await Promise.all(
        [1, 2].map(() => ask('POST', '/predictions/embedded', { body: SLOW, to: strict })),
      );
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 503]);
      expect((await ask('GET', '/ping', { to: strict })).status).toBe(503);
    },
    LIMIT_MS,
  );
});

describe('two startup models and a limit of errors', () => {
  let two: ServerProcess;
  beforeAll(async () => {
    two = await start({
      SERVING_LOAD_MODELS: `a=${MODEL} b=${MODEL}`,
      SERVING_ERROR_RATE_ANY: '1/PT5M',
    });
  }, LIMIT_MS);

  it('check 5: without a name a request is refused; a form field names it too', async () => {
    expect(await ask('POST', '/invocations', { body: SHORT, to: two })).toMatchObject(
      failure(400, 'BadRequestException', 'Parameter model_name is required.'),
    );
    const form = new FormData();
    form.set('model_name', 'b');
    form.set('data', JSON.stringify(SHORT));
    const response = await fetch(`${two.url}/invocations`, { method: 'POST', body: form });
    expect(response.status).toBe(200);
    expect(await response.json()).toHaveProperty('generated_text');
  });

  it("check 15: a client's mistakes are none of the server's errors", async () => {
    const fail = () => ask('POST', '/predictions/a', { body: { parameters: {} }, to: two });
    expect((await fail()).status).toBe(424);
    expect((await fail()).status).toBe(424);
    expect((await ask('GET', '/ping', { to: two })).status).toBe(200);
  });
});
