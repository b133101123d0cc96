/** The head of a stream: it does not wait for the first token, what it says to proxies, and what an error is before and after it. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { RawExchange, startServer, type TestServer } from '../../support/http-fixtures.js';

const DIED = new ServingError('WORKER_FAILED', 'Rank 1 of mlp died');
const BODIES: Readonly<Record<string, object>> = {
  '/invocations': { inputs: 'once upon', stream: true },
  '/v1/completions': { model: 'mlp', prompt: 'once upon', stream: true },
  '/v1/chat/completions': { model: 'mlp', messages: [{ role: 'user', content: 'hi' }], stream: true },
  '/v1/responses': { model: 'mlp', input: 'hi', stream: true },
  '/v1/messages': { model: 'mlp', max_tokens: 5, messages: [{ role: 'user', content: 'hi' }], stream: true },
  '/generate_stream': { model: 'mlp', inputs: 'once upon' },
  '/v2/models/mlp/generate_stream': { text_input: 'once upon' },
};

let test: TestServer;
beforeEach(async () => {
  test = await startServer();
  test.service.words = null;
});
afterEach(async () => {
  vi.useRealTimers();
  await test.server.close();
});

const post = (path: string) => RawExchange.post(test.url + path, BODIES[path]);

describe('the head of a stream', () => {
  it.each(Object.keys(BODIES))(
    'of %s leaves without a token, and no proxy keeps its pieces',
    async (path) => {
      // The answer is here while the job has said nothing yet.
      const { response } = await post(path);
      expect(response.statusCode).toBe(200);
      expect(response.headers).toMatchObject({ 'x-accel-buffering': 'no', 'transfer-encoding': 'chunked' });
      expect(response.headers['cache-control']).toMatch(/no-cache/);
      const job = await test.service.request(0);
      job.token(' one');
      job.finish('length');
      for await (const piece of response) expect(String(piece)).not.toBe('');
    },
  );

  it.each(Object.keys(BODIES))('of %s: an error that comes at once has a status', async (path) => {
    const exchange = post(path);
    (await test.service.request(0)).fail(DIED);
    expect((await exchange).response.statusCode).toBeGreaterThanOrEqual(400);
  });

  it('of lines: an error after it is the only line', async () => {
    const exchange = await post('/invocations');
    (await test.service.request(0)).fail(DIED);
    expect(JSON.parse(await exchange.rest())).toMatchObject({
      token: { id: -1, error_msg: 'Rank 1 of mlp died' },
      details: { finish_reason: 'error' },
    });
    await test.logged(({ msg }) => msg === 'a stream ended with an error');
  });

  it("of events: an error after it is OpenAI's event, then the end", async () => {
    const exchange = await post('/v1/completions');
    (await test.service.request(0)).fail(DIED);
    expect(await exchange.rest()).toMatch(
      /^data: \{"error":\{"message":"Rank 1 of mlp died".*\}\}\n\ndata: \[DONE\]\n\n$/,
    );
  });

  it('a client that leaves behind the head, before a token, ends its job', async () => {
    const exchange = await post('/v1/completions');
    const job = await test.service.request(0);
    exchange.destroy();
    await new Promise<void>((resolve) => job.signal.addEventListener('abort', () => resolve()));
  });
});

describe('a silent stream', () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }));

  it('of events tells with a comment that it lives, each time it was silent for 15 seconds', async () => {
    const exchange = await post('/v1/completions');
    vi.advanceTimersByTime(14_999);
    vi.advanceTimersByTime(1);
    expect(await exchange.chunk()).toBe(': ping\n\n');
    const job = await test.service.request(0);
    job.token(' one');
    expect(await exchange.chunk()).toMatch(/^data: .* one/);
    vi.advanceTimersByTime(14_999);
    job.finish('length');
    expect(await exchange.rest()).not.toContain('ping');
  });

  it('of lines stays silent: JSON lines have no comment', async () => {
    const exchange = await post('/invocations');
    vi.advanceTimersByTime(60_000);
    const job = await test.service.request(0);
    job.token(' one');
    job.finish('length');
    expect(await exchange.rest()).toMatch(/^\{"token"/);
  });
});
