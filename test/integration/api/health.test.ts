/** /ping under all its rules, the error limits, and the probes of orchestrators, over a real port. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import type { ServerConfig } from '../../../server/config/config.js';
import { FakeManagement, group, pool } from '../../support/http-fake-management.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let management: FakeManagement;
let test: TestServer;
const servers: TestServer[] = [];
const start = async (config: Partial<ServerConfig> = {}) => {
  test = await startServer(config, 'mlp', { management });
  servers.push(test);
  return test;
};
beforeEach(() => {
  management = new FakeManagement();
});
afterEach(async () => {
  for (const { server } of servers.splice(0)) await server.close();
});

async function get(path: string) {
  const response = await fetch(test.url + path);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const workersDied = { code: 'WORKER_FAILED' as const, message: '11 deaths in 10 minutes' };

describe('/ping', () => {
  it.each([
    ['nothing', [], {}, 200, {}],
    ['a healthy model', [pool('a')], {}, 200, { a: { status: 'Healthy' } }],
    ['too few workers', [pool('a', { healthy: false })], {}, 200, { a: { status: 'Unhealthy' } }],
    [
      '… on SageMaker',
      [pool('a', { healthy: false })],
      { unhealthyFailsPing: true },
      500,
      { a: { status: 'Unhealthy' } },
    ],
    ['a model that loads', [pool('a', { state: 'PENDING' })], {}, 200, { a: { status: 'PENDING' } }],
    [
      '… allow_multi_status',
      [pool('a', { state: 'PENDING' })],
      { allowMultiStatus: true },
      207,
      { a: { status: 'PENDING' } },
    ],
    [
      'a failed one beside it',
      [pool('a', { state: 'PENDING' }), pool('b', { state: 'FAILED', failure: workersDied })],
      { allowMultiStatus: true },
      500,
      { a: { status: 'PENDING' }, b: { status: 'FAILED', reason: '11 deaths in 10 minutes' } },
    ],
    [
      'workers that died, overridden',
      [pool('b', { state: 'FAILED', failure: workersDied })],
      { deadWorkersPassPing: true },
      200,
      { b: { status: 'Unhealthy' } },
    ],
    [
      'a load that failed, overridden',
      [pool('b', { state: 'FAILED', failure: { code: 'CHECKPOINT_INVALID', message: 'bad' } })],
      { deadWorkersPassPing: true },
      500,
      { b: { status: 'FAILED', reason: 'bad' } },
    ],
    [
      'two versions',
      [pool('m', { version: 'v1' }), pool('m', { version: 'v2', healthy: false })],
      {},
      200,
      { 'm:v1': { status: 'Healthy' }, 'm:v2': { status: 'Unhealthy' } },
    ],
  ])('%s', async (_name, pools, config, status, body) => {
    management.pools = pools;
    await start(config);
    expect(await get('/ping')).toEqual({ status, body });
  });
});

describe('error_rate_*', () => {
  const bad = () => postJson(`${test.url}/predictions/mlp`, { parameters: {} });
  const full = () => {
    test.service.refuseWith = new ServingError('QUEUE_FULL', 'full');
    return postJson(`${test.url}/predictions/mlp`, { inputs: 'a' });
  };
  const broken = () => {
    test.service.refuseWith = new ServingError('WORKER_FAILED', 'died');
    return postJson(`${test.url}/predictions/mlp`, { inputs: 'a' });
  };
  const bug = () => {
    test.service.refuseWith = new ServingError('INTERNAL', 'a bug');
    return postJson(`${test.url}/predictions/mlp`, { inputs: 'a' });
  };
  const notFound = () => postJson(`${test.url}/predictions/none`, { inputs: 'a' });
  const rate = { count: 1, windowMs: 300_000 };

  it('check 15: error_rate_any=1/PT5M and two server errors: /ping is 503 from then on', async () => {
    await start({ errorRateAny: rate });
    // A client's mistakes, however many, are no errors of the server.
    for (let index = 0; index < 6; index++) expect((await bad()).status).toBe(424);
    await bug();
    expect((await get('/ping')).status).toBe(200);
    await bug();
    expect((await get('/ping')).status).toBe(503);
    test.service.refuseWith = null;
    await postJson(`${test.url}/predictions/mlp`, { inputs: 'a' });
    expect((await get('/ping')).status).toBe(503);
  });

  it.each([
    ['wlm', 'errorRateWlm', full, bad],
    ['server', 'errorRateServer', bug, full],
    ['model', 'errorRateModel', broken, full],
  ] as const)('%s counts its own kind only, and a 404 never', async (_kind, key, own, other) => {
    await start({ [key]: rate });
    for (const cause of [other, other, other, notFound, notFound, notFound]) await cause();
    test.service.refuseWith = null;
    await own();
    test.service.refuseWith = null;
    expect((await get('/ping')).status).toBe(200);
    await own();
    expect((await get('/ping')).status).toBe(503);
  });

  it('counts an error that ends a stream', async () => {
    await start({ errorRateModel: rate });
    test.service.words = null;
    for (const index of [0, 1]) {
      const pending = postJson(`${test.url}/predictions/mlp`, { inputs: 'a', stream: true });
      const job = await test.service.request(index);
      job.token(' one');
      job.token(' two');
      job.fail(new ServingError('WORKER_FAILED', 'died'));
      expect((await pending).status).toBe(200);
    }
    expect((await get('/ping')).status).toBe(503);
  });
});

describe('probes', () => {
  it('alive as long as it answers; ready when the startup models are', async () => {
    management.pools = [pool('a', { loadedAtStartup: true }), pool('late', { state: 'PENDING' })];
    const { server } = await start();
    expect(await get('/health/live')).toEqual({ status: 200, body: { status: 'live' } });
    expect(await get('/health/ready')).toEqual({ status: 200, body: { status: 'ready' } });
    management.pools = [pool('a', { loadedAtStartup: true, state: 'PENDING', groups: [] })];
    expect(await get('/health/ready')).toEqual({
      status: 503,
      body: { status: 'not ready', reason: 'a is loading' },
    });
    server.setDraining();
    expect((await get('/health/live')).status).toBe(200);
    expect((await get('/health/ready')).status).toBe(503);
  });

  it.each([
    ['runs', {}, 200, undefined],
    ['loads', { state: 'PENDING' as const }, 503, 'm:v2 is loading'],
    [
      'failed',
      { state: 'FAILED' as const, failure: workersDied },
      503,
      'm:v2 has failed: 11 deaths in 10 minutes',
    ],
    ['restarts', { groups: [group(1, { state: 'restarting' })] }, 503, 'no worker group of m:v2 runs'],
    ['has no workers', { groups: [], minGroups: 0, maxGroups: 0 }, 503, 'm:v2 is scaled to no workers'],
  ])('of a model that %s', async (_name, fields, status, reason) => {
    management.pools = [pool('m', { version: 'v2', ...fields })];
    await start();
    expect(await get('/models/m/ready')).toMatchObject({
      status,
      body: reason ? { reason } : { status: 'ready' },
    });
    expect((await get('/models/m/v2/ready')).status).toBe(status);
  });

  it('of a model: one version is enough, unless one is named; unknown is 404', async () => {
    management.pools = [pool('m', { version: 'v1' }), pool('m', { version: 'v2', state: 'PENDING' })];
    await start();
    expect((await get('/models/m/ready')).status).toBe(200);
    expect((await get('/models/m/v1/ready')).status).toBe(200);
    expect((await get('/models/m/v2/ready')).status).toBe(503);
    expect((await get('/models/x/ready')).body.message).toBe('Model or workflow not found: x');
    expect((await get('/models/m/v9/ready')).status).toBe(404);
  });
});
