/** Many large bodies at a time: their bytes are counted over all requests. */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bodyBytesOf } from '../../../server/http/dialect.js';
import { ALL_DIALECTS } from '../../../server/http/dialects/all-dialects.js';
import { torchServeDialects } from '../../../server/http/dialects/torchserve/torchserve-dialects.js';
import type { TorchServeModels } from '../../../server/http/dialects/torchserve/torchserve-models.js';
import type { WorkflowService } from '../../../server/requests/workflows.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

const LIMIT = 1_048_576;
let test: TestServer;
beforeEach(async () => {
  test = await startServer({ maxRequestBytes: LIMIT });
});
afterEach(() => test.server.close());

/** Sends a head and a part of the body, and the rest when asked. */
function begin(path: string, headers: Record<string, string | number>, part: string) {
  const client = httpRequest(`${test.url}${path}`, {
    method: 'POST',
    agent: false,
    headers: { 'content-type': 'application/json', ...headers },
  });
  client.on('error', () => undefined);
  client.write(part);
  const answer = once(client, 'response').then(async (args) => {
    const response = args[0] as IncomingMessage;
    let text = '';
    for await (const piece of response) text += String(piece);
    return { client, status: response.statusCode, retryAfter: response.headers['retry-after'], text };
  });
  return { client, answer };
}

const bodyOf = (bytes: number) =>
  JSON.stringify({ model: 'mlp', prompt: 'once upon', user: 'x'.repeat(bytes) });
const post = (path: string, body: string) =>
  fetch(`${test.url}${path}`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });

describe.each([
  ['/predictions/mlp', 503],
  ['/v1/completions', 429],
])('%s', (path, status) => {
  it.each(['content-length', 'transfer-encoding'])(
    'of two unfinished uploads one is refused early, small requests go on, and all is given back: %s',
    async (header) => {
      const body = bodyOf(700_000);
      const headers = { [header]: header === 'content-length' ? Buffer.byteLength(body) : 'chunked' };
      const uploads = [begin(path, headers, body.slice(0, -1)), begin(path, headers, body.slice(0, -1))];
      const refused = await Promise.race(uploads.map(({ answer }) => answer));
      expect(refused.status).toBe(status);
      expect(refused.retryAfter).toBe('1');
      expect(refused.text).toMatch(/at most 1048576, as many as max_request_size/);
      expect((await post(path, bodyOf(10))).status).toBe(200);
      const kept = uploads.find(({ client }) => client !== refused.client)!;
      kept.client.end('}');
      expect((await kept.answer).status).toBe(200);
      expect((await post(path, body)).status).toBe(200);
    },
  );

  it('an upload that is broken off gives its bytes back', async () => {
    const body = bodyOf(900_000);
    const headers = { 'content-length': Buffer.byteLength(body), expect: '100-continue' };
    const { client, answer } = begin(path, headers, body.slice(0, -1));
    answer.catch(() => undefined);
    await once(client, 'continue');
    client.destroy();
    await test.logged((line) => line.msg === 'access');
    expect((await post(path, body)).status).toBe(200);
  });
});

it('a body that is longer than max_request_size is still a 413', async () => {
  expect((await post('/v1/completions', bodyOf(LIMIT))).status).toBe(413);
});

describe('a dialect reads so long a body and no longer', () => {
  const WIDE = 32 * 1_048_576;
  const models = { parts: { config: { enableMetricsApi: true, enableModelApi: true } } } as TorchServeModels;
  // What a head announces is enough to be refused.
  it.each([
    ['its own command', ALL_DIALECTS],
    ["TorchServe's", torchServeDialects(models)],
  ])('started by %s', async (_command, dialects) => {
    const workflows = { list: () => [], find: () => null } as unknown as WorkflowService;
    const wide = await startServer({ maxRequestBytes: WIDE }, 'mlp', { workflows }, dialects);
    const statusOf = async (method: string, path: string, bytes: number) => {
      const headers = { 'content-type': 'application/json', 'content-length': bytes };
      const client = httpRequest(wide.url + path, { method, agent: false, headers });
      client.on('error', () => undefined);
      client.flushHeaders();
      const [response] = (await once(client, 'response')) as [IncomingMessage];
      client.destroy();
      return response.statusCode;
    };
    for (const dialect of dialects) {
      for (const { method, path } of (dialect.reference ?? []).filter((route) => route.method !== 'GET')) {
        const most = bodyBytesOf(dialect) ?? WIDE;
        const url = path.replaceAll(/:\w+/g, 'mlp');
        expect([dialect.name, url, await statusOf(method, url, most + 1)]).toEqual([dialect.name, url, 413]);
      }
    }
    await wide.server.close();
  });
});
