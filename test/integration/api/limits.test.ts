/** What a key may ask: refused with 429 and Retry-After in each dialect's words, before the body is read; fair turns; tokens counted. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AccessControl } from '../../../server/access/access-control.js';
import { digestOf } from '../../../server/access/access-key.js';
import { meteredService } from '../../../server/requests/metered-service.js';
import {
  FakeService,
  postJson,
  RawExchange,
  startServer,
  type TestServer,
} from '../../support/http-fixtures.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-limits-'));
const keyFile = path.join(folder, 'keys.json');
const servers: TestServer[] = [];
const bearer = (name: string) => ({ authorization: `Bearer ${name}` });

beforeAll(() => {
  const entry = (name: string, more: object = {}) => ({
    ...{ name, sha256: digestOf(name).toString('hex'), scopes: ['infer'] },
    ...more,
  });
  const keys = [
    entry('usual'),
    entry('small', { limits: { requests_per_minute: 1 } }),
    entry('heavy', { weight: 3 }),
  ];
  writeFileSync(keyFile, JSON.stringify({ keys }), { mode: 0o600 });
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map(({ server }) => server.close()));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function start(...args: Parameters<typeof startServer>): Promise<TestServer> {
  const server = await startServer(...args);
  servers.push(server);
  return server;
}

const asks: [string, object, (body: never) => unknown][] = [
  [
    '/v1/completions',
    { prompt: 'a b' },
    ({ error }: { error: { type: string; code: string; message: string } }) => [
      error.type,
      error.code,
      error.message,
    ],
  ],
  [
    '/v1/messages',
    { model: 'mlp', max_tokens: 4, messages: [{ role: 'user', content: 'a' }] },
    ({ error, type }: { error: { type: string; message: string }; type: string }) => [
      type,
      error.type,
      error.message,
    ],
  ],
  [
    '/predictions/mlp',
    { inputs: 'a b' },
    ({ code, type, message }: { code: number; type: string; message: string }) => [code, type, message],
  ],
];
const SENTENCE = expect.stringMatching(/^The key small may send 1 requests a minute; try again in \d+ s$/);
const words: Record<string, unknown> = {
  '/v1/completions': ['rate_limit_error', 'rate_limit_exceeded', SENTENCE],
  '/v1/messages': ['error', 'rate_limit_error', SENTENCE],
  '/predictions/mlp': [429, 'WlmCapacityException', SENTENCE],
};

describe('more requests than a key may send', () => {
  it.each(asks)('are refused in the words of %s, with Retry-After', async (at, body, told) => {
    const { service, url } = await start({ keyFile });
    expect((await postJson(`${url}${at}`, body, bearer('small'))).status).toBe(200);
    const refused = await postJson(`${url}${at}`, body, bearer('small'));
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0');
    expect(told(JSON.parse(refused.text) as never)).toEqual(words[at]);
    expect(service.submitted).toHaveLength(1);
    expect((await postJson(`${url}${at}`, body, bearer('usual'))).status).toBe(200);
    expect((await fetch(`${url}/ping`)).status).toBe(200);
  });

  it('are refused before a byte of their body is read', async () => {
    const { url } = await start({ keyFile });
    await postJson(`${url}/v1/completions`, { prompt: 'a' }, bearer('small'));
    const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1024)) });
    const init = { method: 'POST', body: endless, duplex: 'half', headers: bearer('small') };
    expect((await fetch(`${url}/v1/completions`, init as RequestInit)).status).toBe(429);
  });
});

it('as many requests run at once as may, and the place of one that was left is given back', async () => {
  const { logged, service, url } = await start({ keyConcurrentRequests: 1 });
  service.words = null;
  const open = await RawExchange.post(`${url}/v1/completions`, { prompt: 'a', stream: true });
  const second = await postJson(`${url}/v1/completions`, { prompt: 'a' });
  expect(second.status).toBe(429);
  expect(second.headers.get('retry-after')).toBe('1');
  expect(second.text).toContain('Requests without a key may run 1 at once');
  open.destroy();
  await logged(({ complete, msg }) => msg === 'access' && complete === false);
  service.words = 1;
  expect((await postJson(`${url}/v1/completions`, { prompt: 'a' })).status).toBe(200);
});

it.each([false, true])('tokens of prompt and answer are counted, streamed: %s', async (stream) => {
  const access = new AccessControl(
    { apiKey: null, managementKey: null, keyFile, anonymousScopes: null, keyTokensPerMinute: 20 },
    () => {},
  );
  const inner = new FakeService();
  const { url } = await start({ keyFile }, 'mlp', { access, service: meteredService(inner, access.limits) });
  const ask = () => postJson(`${url}/v1/completions`, { prompt: 'a b', stream }, bearer('usual'));
  // Two tokens of the prompt, three of the answer.
  const first = await ask();
  expect(first.headers.get('x-ratelimit-limit-tokens')).toBe('20');
  expect((await ask()).headers.get('x-ratelimit-remaining-tokens')).toBe('15');
  inner.words = 30;
  expect((await ask()).status).toBe(200);
  const refused = await ask();
  expect(refused.status).toBe(429);
  expect(refused.text).toMatch(/may use 20 tokens a minute; try again in 2\d s/);
});

it('a key brings its place among others to the queue', async () => {
  const { service, url } = await start({ keyFile });
  await postJson(`${url}/v1/completions`, { prompt: 'a' }, bearer('usual'));
  await postJson(`${url}/predictions/mlp`, { inputs: 'a' }, bearer('heavy'));
  const tenants = service.submitted.map(({ request }) => request.tenant);
  expect(tenants.map((tenant) => tenant?.weight)).toEqual([1, 3]);
  expect(new Set(tenants.map((tenant) => tenant?.id)).size).toBe(2);
});
