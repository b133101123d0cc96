/** Where a request's time went: Server-Timing, and what /metrics is told of it. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { ResponseFacts } from '../../../server/http/http-context.js';
import { postJson, RawExchange, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
let told: ResponseFacts[];
beforeEach(async () => {
  told = [];
  test = await startServer({}, 'mlp', { onResponse: (facts) => told.push(facts) });
});
afterEach(() => test.server.close());

const namesOf = (header: string | null | undefined) => header?.split(', ').map((one) => one.split(';')[0]);
const partOf = (header: string, name: string) =>
  Number(new RegExp(`(?:^|, )${name};dur=([\\d.]+)`).exec(header)?.[1]);

it.each(['/predictions/mlp', '/generate', '/v1/completions'])(
  'a whole answer of %s tells all parts',
  async (path) => {
    const now = performance.now();
    // So long ago that the parts are known: 40 ms in the queue, 250 in the model.
    test.service.times = { queuedAtMs: now - 300, startedAtMs: now - 260, endedAtMs: now - 10 };
    const body = path.startsWith('/v1') ? { prompt: 'a' } : { inputs: 'a' };
    const header = (await postJson(test.url + path, body)).headers.get('server-timing')!;
    expect(namesOf(header)).toEqual(['total', 'container', 'queue', 'model', 'overhead']);
    expect([partOf(header, 'queue'), partOf(header, 'model')]).toEqual([40, 250]);
    await expect.poll(() => told.length).toBe(1);
    const { containerMs, model, modelMs, overheadMs, totalMs, version } = told[0]!.times!;
    expect([model, version, Math.round(modelMs)]).toEqual(['mlp', null, 250]);
    expect(totalMs).toBeGreaterThanOrEqual(containerMs);
    expect(overheadMs).toBe(Math.max(0, containerMs - modelMs));
  },
);

it('a stream tells what is known when its head leaves, and the metrics all of it at its end', async () => {
  test.service.words = null;
  const now = performance.now();
  const times = { queuedAtMs: now, startedAtMs: now + 1, endedAtMs: null as number | null };
  test.service.times = times;
  const asked = RawExchange.post(`${test.url}/predictions/mlp`, { inputs: 'a', stream: true });
  const job = await test.service.request(0);
  job.token(' one');
  const exchange = await asked;
  expect(namesOf(exchange.response.headers['server-timing'] as string)).toEqual([
    'total',
    'container',
    'queue',
  ]);
  times.endedAtMs = now + 21;
  job.finish('length');
  await exchange.rest();
  await expect.poll(() => told.length).toBe(1);
  expect(Math.round(told[0]!.times!.modelMs)).toBe(20);
});

it('who asks no model is told nothing of one', async () => {
  const response = await fetch(`${test.url}/ping`);
  expect(response.headers.get('server-timing')).toBeNull();
  expect(
    (await postJson(`${test.url}/predictions/none`, { inputs: 'a' })).headers.get('server-timing'),
  ).toBeNull();
  await expect.poll(() => told.length).toBe(2);
  expect(told.map(({ times }) => times)).toEqual([undefined, undefined]);
});
