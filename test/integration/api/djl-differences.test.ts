/** What differs from DJLServing on purpose: each row of the dialect's README, by its first cell. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultsOf } from '../../../server/config/key-table.js';
import { djlError } from '../../../server/http/dialects/djl/djl-errors.js';
import { scaledStatus } from '../../../server/http/dialects/management/management-response.js';
import { FIXED_CODES } from '../../../server/http/dialects/management/management-routes.js';
import { ModelMetrics } from '../../../server/metrics/model-metrics.js';
import { type FetchPolicy, fetchModel } from '../../../server/model-store/fetch-model.js';
import { parseModelUrl } from '../../../server/model-store/model-source.js';
import { poolReading } from '../../fixtures/pool-reading.js';
import { FakeManagement, pool } from '../../support/http-fake-management.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { readText } from '../../tidy/repository.js';

let test: TestServer;
const management = new FakeManagement();
beforeEach(async () => {
  management.pools = [pool('two', { version: 'v1' }), pool('mlp')];
  test = await startServer({ maxRequestBytes: 1000 }, 'mlp', { management });
});
afterEach(() => test.server.close());

const scratch = realpathSync(mkdtempSync(path.join(tmpdir(), 'shardserve-differences-')));
afterAll(() => rmSync(scratch, { recursive: true }));

async function ask(method: string, target: string, body?: string) {
  const response = await fetch(test.url + target, { method, ...(body !== undefined && { body }) });
  const text = await response.text();
  return { status: response.status, reason: response.statusText, text, body: JSON.parse(text) as unknown };
}

const DIFFERENCES: Readonly<Record<string, () => Promise<void> | void>> = {
  'a number that is none': async () => {
    expect((await ask('PUT', '/models/mlp?min_worker=a')).status).toBe(400);
  },
  'a URL of an unknown scheme': () => {
    let thrown: unknown;
    try {
      parseModelUrl('gopher://host/model');
    } catch (error) {
      thrown = error;
    }
    expect(djlError(thrown as Parameters<typeof djlError>[0], FIXED_CODES).status).toBe(400);
  },
  '`GET /models?limit=0`': async () => {
    expect(((await ask('GET', '/models?limit=0')).body as { models: unknown[] }).models).toHaveLength(2);
  },
  'the default `job_queue_size`': () => {
    expect(defaultsOf('model').jobQueueSize).toBe(100);
  },
  'the status line of an error': async () => {
    expect(await ask('GET', '/models/fake')).toMatchObject({ status: 404, reason: 'Not Found' });
  },
  'a body that is too long': async () => {
    const answer = await ask('POST', '/predictions/mlp', 'x'.repeat(2000));
    expect(answer).toMatchObject({
      status: 413,
      body: { code: 413, message: expect.stringContaining('1000') },
    });
  },
  'a scale that names no number': () => {
    expect(scaledStatus([{ name: 'mlp', version: null, minGroups: 1, maxGroups: 2 }])).toContain(
      'min workers:1 max workers:2',
    );
  },
  'a relative `url`': async () => {
    const modelStore = path.join(scratch, 'store');
    mkdirSync(path.join(modelStore, 'a'), { recursive: true });
    writeFileSync(path.join(modelStore, 'a', 'config.json'), '{}');
    const policy = { modelStore, allowedHosts: [] } as unknown as FetchPolicy;
    const downloadFolder = path.join(scratch, 'd');
    const { folder } = await fetchModel({ url: 'a', downloadFolder, policy, within: null });
    expect(folder).toBe(path.join(modelStore, 'a'));
  },
  describe: async () => {
    expect((await ask('GET', '/models/two')).body).toMatchObject([
      {
        models: [
          {
            ...{ version: 'v1', tensorParallelDegree: 2 },
            workerGroups: [
              { workers: [{ status: 'READY', state: 'running', ranks: [{ rank: 0 }, { rank: 1 }] }] },
            ],
          },
        ],
      },
    ]);
  },
  'a version that is not there': async () => {
    expect((await ask('PUT', '/models/two/v9')).text).toContain('Model or workflow not found: two/v9');
  },
  'buckets of `QueueTime`, `RequestLatency`': () => {
    const metrics = new ModelMetrics({
      ...{ name: 'mlp', version: null, sample: () => poolReading() },
      ...{ requestLog: null, line: null, onError: () => {}, onLoadingFailed: () => {}, onClosed: () => {} },
    });
    expect(metrics.queueUs.bounds[0]).toBe(1000);
    expect(metrics.requestUs.bounds.at(-1)).toBe(480_000_000);
  },
  '`/console`': async () => {
    expect((await ask('GET', '/console')).status).toBe(404);
    expect((await fetch(`${test.url}/`)).status).toBe(200);
  },
};

describe("the README's differences from DJLServing", () => {
  it('are these', () => {
    const rows = [...readText('server/http/dialects/djl/README.md').matchAll(/^\| (.+?) \|/gm)].map(
      ([, cell]) => cell,
    );
    expect(rows.slice(1)).toEqual(Object.keys(DIFFERENCES));
  });

  it.each(Object.keys(DIFFERENCES))('%s', (name) => DIFFERENCES[name]!());
});
