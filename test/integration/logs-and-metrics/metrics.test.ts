/** Metrics over a real port, before a service without a model. */
import { afterEach, describe, expect, it } from 'vitest';
import { ServerMetrics } from '../../../server/metrics/server-metrics.js';
import { poolReading } from '../../fixtures/pool-reading.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';
import { parsePrometheus, sampleValue } from '../../support/prometheus-text.js';

let running: TestServer | null = null;
afterEach(async () => {
  await running?.server.close();
  running = null;
});

async function start(prometheus: boolean, config: Parameters<typeof startServer>[0] = {}) {
  const metrics = new ServerMetrics({
    prometheus,
    version: '1.2.3',
    processMetrics: false,
    lines: null,
    host: 'here',
  });
  const paths: string[] = [];
  const server = await startServer({ prometheus, ...config }, 'mlp', {
    metrics,
    onResponse: ({ method, status, uri }) => {
      paths.push(`${method} ${uri} ${status}`);
      metrics.responseSent(status);
    },
  });
  running = server;
  return { ...server, metrics, paths };
}

describe('GET /metrics', () => {
  it('answers in the text format, also without SERVING_PROMETHEUS', async () => {
    const { metrics, url } = await start(false);
    metrics.observe({ name: 'mlp', version: null }, () => poolReading());
    const response = await fetch(`${url}/metrics`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    const families = parsePrometheus(await response.text());
    expect(sampleValue(families, 'shardserve_jobs_waiting', { model: 'mlp', version: '' })).toBe(2);
    expect(families.has('StartupLatency')).toBe(false);
  });

  it('counts the responses there were, by class', async () => {
    const { paths, service, url } = await start(false);
    for (let request = 0; request < 3; request++) {
      expect((await postJson(`${url}/predictions/mlp`, { inputs: 'a b' })).status).toBe(200);
    }
    expect(service.submitted).toHaveLength(3);
    expect((await postJson(`${url}/predictions/none`, { inputs: 'a' })).status).toBe(404);
    const families = parsePrometheus(await (await fetch(`${url}/metrics`)).text());
    const responses = (status: string) =>
      sampleValue(families, 'shardserve_http_responses_total', { status });
    expect(responses('2xx')).toBe(3);
    expect(responses('4xx')).toBe(1);
    expect(responses('5xx')).toBe(0);
    expect(paths.slice(0, 4)).toEqual([
      ...Array.from({ length: 3 }, () => 'POST /predictions/mlp 200'),
      'POST /predictions/none 404',
    ]);
  });

  it('shows only what name[] asks for', async () => {
    const { url } = await start(true);
    const names = async (query: string) => [
      ...parsePrometheus(await (await fetch(`${url}/metrics?${query}`)).text()).keys(),
    ];
    expect(await names('name[]=Response_2XX&name[]=shardserve_slots')).toEqual([
      'shardserve_slots',
      'Response_2XX_total',
    ]);
    expect(await names('name%5B%5D=shardserve_slots')).toEqual(['shardserve_slots']);
    expect(await names('name=shardserve_slots')).toEqual(['shardserve_slots']);
  });
});

describe('GET /server/metrics', () => {
  it('check 19: answers 400 with the sentence of DJLServing unless SERVING_PROMETHEUS is true', async () => {
    const { url } = await start(false, { badRequestHttpCode: 422 });
    const response = await fetch(`${url}/server/metrics`);
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({
      code: 400,
      type: 'BadRequestException',
      message:
        'Prometheus is not enabled, set SERVING_PROMETHEUS environment var to true to enable prometheus metrics',
    });
  });

  it('check 19: has StartupLatency by host when it is', async () => {
    const { metrics, url } = await start(true);
    metrics.started(2);
    const text = await (await fetch(`${url}/server/metrics?name[]=StartupLatency`)).text();
    expect(text).toContain('StartupLatency{Host="here"} 2000\n');
    expect([...parsePrometheus(text).keys()]).toEqual(['StartupLatency']);
  });

  it('check 12: refuses other methods with 405, before it looks at a body', async () => {
    const { url } = await start(true);
    for (const path of ['/server/metrics', '/metrics']) {
      const response = await fetch(`${url}${path}`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: '{',
      });
      expect(response.status, path).toBe(405);
    }
  });

  it('is not on an inference address of its own', async () => {
    const { server, url } = await start(true, {
      managementAddress: { kind: 'tcp', host: '127.0.0.2', port: 0, path: '' },
    });
    expect((await fetch(`${url}/metrics`)).status).toBe(404);
    expect((await fetch(`${server.managementUrl}/metrics`)).status).toBe(200);
  });
});
