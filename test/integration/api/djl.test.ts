/** DJLServing's inference API over a real port: the compatibility checks of the reference, by their numbers, and the errors. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import {
  aborted,
  model,
  postJson,
  RawExchange,
  startServer,
  type TestServer,
} from '../../support/http-fixtures.js';

let test: TestServer;
beforeEach(async () => {
  test = await startServer();
});
afterEach(() => test.server.close());

const json = (text: string) => JSON.parse(text) as Record<string, unknown>;
const hi = (parameters: object = {}, rest: object = {}) => ({ inputs: 'once upon', parameters, ...rest });

describe('compatibility checks of DJLServing', () => {
  it('check 1: /ping tells the health of every model and a request id', async () => {
    const response = await fetch(`${test.url}/ping`);
    expect(response.status).toBe(200);
    expect(await response.text()).toBe('{\n  "mlp": {\n    "status": "Healthy"\n  }\n}\n');
    expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('check 2: a request id is echoed and nothing may be cached', async () => {
    const { headers } = await fetch(`${test.url}/ping`, { headers: { 'x-request-id': 'abc' } });
    expect(headers.get('x-request-id')).toBe('abc');
    expect(headers.get('pragma')).toBe('no-cache');
    expect(headers.get('cache-control')).toBe('no-cache; no-store, must-revalidate, private');
    expect(headers.get('expires')).toBe('Thu, 01 Jan 1970 00:00:00 UTC');
    expect(headers.get('connection')).toBe('keep-alive');
  });

  it('check 3: a known model answers, an unknown one is a 404 that closes the connection', async () => {
    const good = await postJson(`${test.url}/predictions/mlp`, hi());
    expect(good.status).toBe(200);
    const bad = await postJson(`${test.url}/predictions/none`, hi());
    expect(bad.status).toBe(404);
    expect(json(bad.text)).toEqual({
      code: 404,
      type: 'ModelNotFoundException',
      message: 'Model or workflow not found: none',
    });
    expect(bad.text).toMatch(/^\{\n {2}"code": 404,[\s\S]*\}\n$/);
    expect(bad.headers.get('connection')).toBe('close');
  });

  it.each([
    ['GET', '/ping/', 200],
    ['POST', '/invocations/', 200],
    ['POST', '/predictions/mlp/', 200],
    ['POST', '/predictions/mlp/?a=b', 200],
    ['POST', '/models/mlp/invoke/', 200],
    ['GET', '/models/', 200],
    ['GET', '/models/mlp/ready/', 200],
    ['GET', '/workflows/?limit=1', 200],
    ['POST', '/models/', 400],
    ['PUT', '/models/', 405],
    ['GET', '/predictions/', 404],
  ])(
    'a slash at the end of a path says nothing, as in DJLServing: %s %s is %i',
    async (method, path, status) => {
      const body = method === 'POST' && status === 200 ? JSON.stringify(hi()) : null;
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(test.url + path, { method, ...(body !== null && { body, headers }) });
      expect([response.status, (await response.text()) === '']).toEqual([status, false]);
    },
  );

  it('check 4: /predictions alone is no resource', async () => {
    const response = await fetch(`${test.url}/predictions`);
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({
      code: 404,
      type: 'ResourceNotFoundException',
      message:
        'Requested resource is not found, please refer to API document. It is at / (for programs: /openapi.json).',
    });
  });

  it('check 5: /invocations goes to the single startup model, and /models/{model}/invoke to the named one', async () => {
    expect((await postJson(`${test.url}/invocations`, hi())).status).toBe(200);
    expect((await postJson(`${test.url}/models/mlp/invoke`, hi())).status).toBe(200);
    expect(test.service.submitted.map(({ request }) => request.model)).toEqual(['mlp', 'mlp']);
  });

  it('check 5: with two models a name is required, by query, header or form field', async () => {
    const two = await startServer({}, null);
    two.service.statuses = [model('a', { version: 'v1' }), model('b')];
    const missing = await postJson(`${two.url}/invocations`, hi());
    expect([missing.status, json(missing.text).message]).toEqual([400, 'Parameter model_name is required.']);
    await postJson(`${two.url}/invocations?model_name=a&model_version=v1`, hi());
    await postJson(`${two.url}/invocations`, hi(), { model_name: 'b' });
    const form = new FormData();
    form.set('model_name', 'b');
    form.set('data', JSON.stringify(hi({ max_new_tokens: 2 })));
    expect((await fetch(`${two.url}/invocations`, { method: 'POST', body: form })).status).toBe(200);
    const encoded = new URLSearchParams({ model_name: 'a', inputs: 'plain words' });
    expect((await fetch(`${two.url}/invocations`, { method: 'POST', body: encoded })).status).toBe(200);
    expect(
      two.service.submitted.map(({ request: { model: name, version, prompt } }) => [name, version, prompt]),
    ).toEqual([
      ['a', 'v1', { kind: 'text', text: 'once upon' }],
      ['b', null, { kind: 'text', text: 'once upon' }],
      ['b', null, { kind: 'text', text: 'once upon' }],
      ['a', null, { kind: 'text', text: 'plain words' }],
    ]);
    const wrongVersion = await postJson(`${two.url}/predictions/a/v9`, hi());
    expect([wrongVersion.status, json(wrongVersion.text).message]).toEqual([
      404,
      'Model or workflow not found: a/v9',
    ]);
    await two.server.close();
  });

  it('check 12: methods of management paths, OPTIONS, and the handler that cannot be overridden', async () => {
    const ask = async (method: string, path: string, headers: Record<string, string> = {}) => {
      const response = await fetch(test.url + path, { method, headers });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    for (const [method, path] of [
      ['PUT', '/models'],
      ['POST', '/models/noop'],
      ['PUT', '/server/metrics'],
    ] as const) {
      expect(await ask(method, path), path).toEqual({
        status: 405,
        body: {
          code: 405,
          type: 'MethodNotAllowedException',
          message:
            'Requested method is not allowed, please refer to API document. It is at / (for programs: /openapi.json).',
        },
      });
    }
    expect(await ask('OPTIONS', '/')).toEqual({ status: 200, body: {} });
    expect(await ask('OPTIONS', '/predictions/mlp')).toEqual({ status: 200, body: {} });
    expect((await ask('OPTIONS', '/predictions/none')).status).toBe(404);
    const handler = await ask('POST', '/predictions/mlp', { handler: 'x' });
    expect([handler.status, handler.body.type, handler.body.message]).toEqual([
      400,
      'BadRequestException',
      "The handler can't be overridden in a request",
    ]);
    expect((await ask('POST', '/predictions/mlp?handler=x')).status).toBe(400);
  });

  it('check 16: one answer as JSON; a body without inputs is a 424', async () => {
    const good = await postJson(`${test.url}/predictions/mlp`, {
      inputs: 'hi',
      parameters: { max_new_tokens: 2 },
      stream: false,
    });
    expect(good.headers.get('content-type')).toMatch(/^application\/json/);
    expect(json(good.text)).toEqual({ generated_text: ' w1 w2' });
    const bad = await postJson(`${test.url}/predictions/mlp`, { text: 'hi' });
    expect(bad.status).toBe(424);
    expect(json(bad.text)).toEqual({
      code: 424,
      error:
        'Input Parsing failed. Ensure that the request payload is valid. Invalid request payload. Request payload should be ' +
        `a json object specifying the 'inputs' field. Received payload {"text":"hi"}`,
    });
  });

  it('check 17: a stream is chunked JSON lines, one a token, the last with the whole text and the details', async () => {
    const exchange = await RawExchange.post(
      `${test.url}/predictions/mlp`,
      hi({ details: true }, { stream: true }),
    );
    expect(exchange.response.headers['content-type']).toBe('application/jsonlines');
    expect(exchange.response.headers['transfer-encoding']).toBe('chunked');
    expect(exchange.response.headers['x-request-id']).toMatch(/./);
    const lines = (await exchange.rest()).trimEnd().split('\n').map(json);
    expect(lines).toEqual([
      { token: { id: 101, text: ' w1', log_prob: -0.25 } },
      { token: { id: 102, text: ' w2', log_prob: -0.5 } },
      {
        token: { id: 103, text: ' w3', log_prob: -0.75 },
        generated_text: ' w1 w2 w3',
        details: { finish_reason: 'eos_token', generated_tokens: 3, inputs: 'once upon' },
      },
    ]);
  });

  it('check 18: messages at /invocations are a chat, prompt a completion, streamed as JSON lines', async () => {
    const messages = [{ role: 'user', content: 'hi there' }];
    const chat = json((await postJson(`${test.url}/invocations`, { messages })).text);
    expect(chat).toMatchObject({
      object: 'chat.completion',
      choices: [{ index: 0, message: { role: 'assistant', content: ' w1 w2 w3' }, finish_reason: 'stop' }],
      usage: {
        prompt_tokens: 2,
        completion_tokens: 3,
        total_tokens: 5,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
    const stream = await RawExchange.post(`${test.url}/invocations`, { messages, stream: true });
    expect(stream.response.headers['content-type']).toBe('application/jsonlines');
    const chunks = (await stream.rest()).trimEnd().split('\n').map(json);
    expect(chunks).toHaveLength(5);
    for (const chunk of chunks) expect(chunk.object).toBe('chat.completion.chunk');
    expect(chunks[0]).toMatchObject({ choices: [{ delta: { role: 'assistant' } }] });
    expect(chunks[4]).toMatchObject({ choices: [{ delta: {}, finish_reason: 'stop' }] });
    const completion = json((await postJson(`${test.url}/invocations`, { prompt: 'a b c' })).text);
    expect(completion).toMatchObject({ object: 'text_completion', usage: { prompt_tokens: 3 } });
  });
});

describe('streams', () => {
  it('sends each token as a chunk of its own as soon as it exists', async () => {
    test.service.words = null;
    const pending = RawExchange.post(`${test.url}/predictions/mlp`, hi({}, { stream: true }));
    const job = await test.service.request(0);
    job.token(' one');
    const exchange = await pending;
    expect(await exchange.chunk()).toBe('{"token":{"id":101,"text":" one","log_prob":-0.25}}\n');
    job.token(' two');
    expect(await exchange.chunk()).toBe('{"token":{"id":102,"text":" two","log_prob":-0.5}}\n');
    job.token('', true);
    job.finish('stop-string', '!');
    expect(json((await exchange.chunk())!)).toEqual({
      token: { id: 103, text: '!', log_prob: -0.75, special_token: true },
      generated_text: ' one two!',
    });
    expect(await exchange.chunk()).toBeNull();
  });

  it('ends with a line of its own when the finish comes later than its token', async () => {
    test.service.words = null;
    const pending = RawExchange.post(`${test.url}/predictions/mlp`, hi({}, { stream: true }));
    const job = await test.service.request(0);
    job.token(' one');
    const exchange = await pending;
    await exchange.chunk();
    job.finish('length');
    expect(json((await exchange.chunk())!)).toMatchObject({
      token: { id: -1, text: '' },
      generated_text: ' one',
    });
  });

  it('has a status for an error that comes at once, and an error line after a token', async () => {
    test.service.words = null;
    const early = postJson(`${test.url}/predictions/mlp`, hi({}, { stream: true }));
    (await test.service.request(0)).fail(new ServingError('WORKER_FAILED', 'Rank 1 of mlp died'));
    const { status, text } = await early;
    expect([status, json(text)]).toEqual([
      503,
      { code: 503, type: 'WlmException', message: 'Rank 1 of mlp died' },
    ]);

    const pending = RawExchange.post(`${test.url}/predictions/mlp`, hi({}, { stream: true }));
    const job = await test.service.request(1);
    job.token(' one');
    const exchange = await pending;
    await exchange.chunk();
    job.fail(new ServingError('WORKER_FAILED', 'Rank 1 of mlp died'));
    expect(json(await exchange.rest())).toEqual({
      token: { id: -1, text: '', log_prob: -1, special_token: true, error_msg: 'Rank 1 of mlp died' },
      generated_text: '',
      details: { finish_reason: 'error', generated_tokens: 0, inputs: 'once upon' },
    });
  });

  it('aborts the request when the client goes away in a stream, and leaves its events', async () => {
    test.service.words = null;
    const pending = RawExchange.post(`${test.url}/predictions/mlp`, hi({}, { stream: true }));
    const job = await test.service.request(0);
    job.token(' one');
    const exchange = await pending;
    await exchange.chunk();
    expect(job.signal.aborted).toBe(false);
    exchange.destroy();
    await aborted(job.signal);
    await test.logged(({ msg, complete }) => msg === 'access' && complete === false);
  });

  it('aborts the request when the client goes away before there is a token, streamed or not', async () => {
    test.service.words = null;
    for (const [index, stream] of [true, false].entries()) {
      const controller = new AbortController();
      const answer = fetch(`${test.url}/predictions/mlp`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(hi({}, { stream })),
        signal: controller.signal,
      }).catch((error: unknown) => error);
      const job = await test.service.request(index);
      controller.abort();
      await aborted(job.signal);
      await answer;
    }
  });

  it('does not abort a request that was answered', async () => {
    await postJson(`${test.url}/predictions/mlp`, hi());
    await test.logged(({ msg }) => msg === 'access');
    expect(test.service.submitted[0]!.signal.aborted).toBe(false);
  });

  it('drops a reader that takes nothing for chunked_read_timeout', async () => {
    const strict = await startServer({ chunkedReadTimeoutSeconds: 0.05 });
    strict.service.words = null;
    const pending = RawExchange.post(`${strict.url}/predictions/mlp`, hi({}, { stream: true }));
    const job = await strict.service.request(0);
    job.token(' one');
    const exchange = await pending;
    exchange.response.pause();
    // More than any kernel buffers for one connection on loopback.
    for (let count = 0; count < 48; count += 1) job.token('x'.repeat(1024 * 1024));
    await aborted(job.signal);
    await strict.logged(({ msg }) => msg === 'dropped a reader that takes nothing');
    exchange.destroy();
    await strict.server.close();
  });

  it('is what the output formatter of the model says, whatever the request says', async () => {
    test.service.statuses = [model('mlp', { outputFormatter: 'sse' })];
    const sse = await postJson(`${test.url}/predictions/mlp`, hi());
    expect(sse.headers.get('content-type')).toBe('text/event-stream');
    const frames = sse.text.trimEnd().split('\n\n');
    expect(frames).toHaveLength(3);
    for (const frame of frames) expect(frame).toMatch(/^data: \{"token"/);
    test.service.statuses = [model('mlp', { outputFormatter: 'json' })];
    const plain = await postJson(`${test.url}/predictions/mlp`, hi({}, { stream: true }));
    expect(json(plain.text)).toEqual({ generated_text: ' w1 w2 w3' });
  });

  it('is what the formatter of the version that was asked for says', async () => {
    test.service.statuses = [
      model('mlp', { version: '1', outputFormatter: 'json' }),
      model('mlp', { version: '2', outputFormatter: 'sse' }),
    ];
    const typeOf = async (version: string) =>
      (await postJson(`${test.url}/predictions/mlp/${version}`, hi())).headers.get('content-type');
    expect(await typeOf('2')).toBe('text/event-stream');
    expect(await typeOf('1')).toContain('application/json');
  });
});

describe('bodies', () => {
  it('nested too deep are told so, not that the server failed', async () => {
    const deep = `{"inputs": ${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
    const form = new FormData();
    form.set('data', deep);
    const headers = { 'content-type': 'application/json' };
    for (const init of [{ headers, body: deep }, { body: form }]) {
      const response = await fetch(`${test.url}/predictions/mlp`, { method: 'POST', ...init });
      expect([response.status, json(await response.text())]).toEqual([
        400,
        expect.objectContaining({
          type: 'BadRequestException',
          message: 'The request body is nested 20001 deep, the limit is 128',
        }),
      ]);
    }
  });

  it('takes plain text, and JSON without a content type', async () => {
    const text = await postJson(`${test.url}/predictions/mlp`, 'plain words', {
      'content-type': 'text/plain',
    });
    expect(json(text.text)).toEqual({ generated_text: ' w1 w2 w3' });
    const bytes = new TextEncoder().encode(JSON.stringify(hi()));
    const untyped = await fetch(`${test.url}/predictions/mlp`, { method: 'POST', body: bytes });
    expect(untyped.status).toBe(200);
    expect(test.service.submitted.map(({ request }) => request.prompt)).toEqual([
      { kind: 'text', text: 'plain words' },
      { kind: 'text', text: 'once upon' },
    ]);
  });

  it('answers a list of inputs by a list, and gives each request its own id', async () => {
    const { text } = await postJson(
      `${test.url}/predictions/mlp`,
      { inputs: ['a', 'b'], parameters: { max_new_tokens: 1, return_full_text: true } },
      { 'x-request-id': 'r' },
    );
    expect(JSON.parse(text)).toEqual([{ generated_text: 'a w1' }, { generated_text: 'b w1' }]);
    expect(test.service.submitted.map(({ request }) => request.requestId)).toEqual(['r.0', 'r.1']);
  });

  it('aborts the rest of a list when one of its requests fails', async () => {
    test.service.words = null;
    const answer = postJson(`${test.url}/predictions/mlp`, { inputs: ['a', 'b'] });
    const [first, second] = [await test.service.request(0), await test.service.request(1)];
    second.fail(new ServingError('STEP_TIMEOUT', 'step 7 took longer than 60 s'));
    expect((await answer).status).toBe(503);
    await aborted(first.signal);
  });

  it('details tell tokens, alternatives and why it ended', async () => {
    const { text } = await postJson(
      `${test.url}/predictions/mlp`,
      hi({ details: true, top_n_tokens: 2, max_new_tokens: 1 }),
    );
    expect(json(text)).toEqual({
      generated_text: ' w1',
      details: {
        finish_reason: 'length',
        generated_tokens: 1,
        inputs: 'once upon',
        tokens: [{ id: 101, text: ' w1', log_prob: -0.25 }],
        top_tokens: [
          [
            { id: 101, text: ' w1', log_prob: -0.25 },
            { id: 102, text: 'alt1', log_prob: -1.25 },
          ],
        ],
      },
    });
  });

  it('drops unknown parameters with a warning in the log', async () => {
    expect((await postJson(`${test.url}/predictions/mlp`, hi({ mirostat: 2 }))).status).toBe(200);
    const line = await test.logged(({ msg }) => msg === 'unknown parameters are dropped');
    expect(line.parameters).toEqual(['mirostat']);
  });
});

describe('bad input never reaches the service', () => {
  const LMI = 'Input Parsing failed. Ensure that the request payload is valid. ';
  it.each<[string, unknown, RegExp]>([
    [
      'a list as body',
      [],
      /Request payload should be a json object specifying the 'inputs' field\. Received payload \[\]/,
    ],
    ['null inputs', { inputs: null }, /specifying the 'inputs' field/],
    ['a number as inputs', { inputs: 3 }, /The 'inputs' field must be a string\. Received type number: 3/],
    ['a list of numbers', { inputs: [3] }, /must be a string\. Received type list: \[3\]/],
    ['an empty text', { inputs: '' }, /The 'inputs' field does not contain any content/],
    ['an empty list', { inputs: [] }, /does not contain any content/],
    ['a list with an empty text', { inputs: ['a', ''] }, /does not contain any content/],
    ['too many inputs', { inputs: new Array(129).fill('a') }, /inputs must be .*128/],
    ['a streamed list', { inputs: ['a'], stream: true }, /cannot be streamed/],
    [
      'parameters as list',
      { inputs: 'a', parameters: [] },
      /'parameters' must be provided as an object of key-value pairs/,
    ],
    ['a stream that is a word', { inputs: 'a', stream: 'yes' }, /stream must be true or false, got "yes"/],
    ['adapters', { inputs: 'a', adapters: 'x' }, /adapters is not supported/],
    [
      'a word as temperature',
      hi({ temperature: 'hot' }),
      /parameters\.temperature must be a number of at least 0, got "hot"/,
    ],
    ['a negative temperature', hi({ temperature: -1 }), /temperature must be a number of at least 0, got -1/],
    ['top_p 3', hi({ top_p: 3 }), /top_p must be a number above 0 and of at most 1, got 3/],
    ['top_p 0', hi({ top_p: 0 }), /top_p must be a number above 0 and of at most 1, got 0/],
    ['min_p 2', hi({ min_p: 2 }), /min_p must be .* at most 1, got 2/],
    ['typical_p 0', hi({ typical_p: 0 }), /typical_p must be/],
    ['a fraction as top_k', hi({ top_k: 1.5 }), /top_k must be an integer of at least -1 .*, got 1\.5/],
    [
      'repetition_penalty 0',
      hi({ repetition_penalty: 0 }),
      /repetition_penalty must be a number above 0, got 0/,
    ],
    ['presence_penalty 3', hi({ presence_penalty: 3 }), /presence_penalty must be .* at most 2, got 3/],
    [
      'frequency_penalty -3',
      hi({ frequency_penalty: -3 }),
      /frequency_penalty must be .* at least -2 .*, got -3/,
    ],
    [
      'max_new_tokens 0',
      hi({ max_new_tokens: 0 }),
      /max_new_tokens must be an integer of at least 1 .*, got 0/,
    ],
    [
      'a text as max_new_tokens',
      hi({ max_new_tokens: '5' }),
      /max_new_tokens must be an integer .*, got "5"/,
    ],
    ['min_new_tokens -1', hi({ min_new_tokens: -1 }), /min_new_tokens must be/],
    ['a negative seed', hi({ seed: -1 }), /seed must be an integer of at least 0 .*, got -1/],
    [
      'a seed beyond 2^53',
      hi({ seed: 2 ** 53 }),
      /seed must be .* at most 9007199254740991, got 9007199254740992/,
    ],
    ['a word as do_sample', hi({ do_sample: 'no' }), /do_sample must be true or false, got "no"/],
    [
      'a number as stop',
      hi({ stop_sequences: 5 }),
      /stop_sequences must be a string or a list of at most 64 strings.*, got 5/,
    ],
    ['too many stop strings', hi({ stop: new Array(65).fill('a') }), /stop must be .* at most 64 strings/],
    [
      'a negative stop id',
      hi({ stop_token_ids: [-1] }),
      /stop_token_ids\[0\] must be an integer of at least 0 .*, got -1/,
    ],
    ['too many alternatives', hi({ top_n_tokens: 21 }), /top_n_tokens must be .* at most 20, got 21/],
    ['a bias out of range', hi({ logit_bias: { 5: 101 } }), /logit_bias.* must be .*100, got 101/],
    ['a bias of no token', hi({ logit_bias: { the: 1 } }), /logit_bias.*must be/],
    ['greedy n 2', hi({ n: 2 }), /best_of and n above 1 need do_sample=true/],
    ['best_of 9', hi({ best_of: 9, do_sample: true }), /best_of must be .* at most 8, got 9/],
    ['beams', hi({ num_beams: 4 }), /num_beams is not supported/],
    ['two forms', hi({ guided_regex: 'a', guided_choice: ['b'] }), /only one form of the answer/],
    [
      'prompt details',
      hi({ decoder_input_details: true }),
      /decoder_input_details is told in the details: send details=true too/,
    ],
    [
      'prompt details of a stream',
      { ...hi({ details: true, decoder_input_details: true }), stream: true },
      /decoder_input_details is not told in a stream/,
    ],
    [
      'best_of in a stream',
      { ...hi({ best_of: 2, do_sample: true }), stream: true },
      /best_of is not available in a stream/,
    ],
    ['a chat without messages', { messages: [] }, /messages must be a list of 1 … 4096 items, got \[\]/],
    [
      'an image',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      /messages\[0\]\.content must be a text/,
    ],
    ['an empty completion', { prompt: '' }, /prompt must be a text/],
  ])('%s: 424 with a sentence', async (_name, body, message) => {
    const { status, text } = await postJson(`${test.url}/predictions/mlp`, body);
    expect(status, text).toBe(424);
    const { code, error } = json(text) as { code: number; error: string };
    expect(code).toBe(424);
    expect(error.startsWith(LMI)).toBe(true);
    expect(error).toMatch(message);
    expect(test.service.submitted).toHaveLength(0);
  });

  it.each<[string, RequestInit, number, string, RegExp]>([
    [
      'not JSON',
      { body: '{"inputs": ', headers: { 'content-type': 'application/json' } },
      400,
      'BadRequestException',
      /not JSON|JSON/,
    ],
    [
      'an empty body',
      { body: '', headers: { 'content-type': 'application/json' } },
      400,
      'BadRequestException',
      /empty/,
    ],
    [
      'prototype poisoning',
      { body: '{"__proto__": {"x": 1}}', headers: { 'content-type': 'application/json' } },
      400,
      'BadRequestException',
      /./,
    ],
    [
      'another content type that is no text',
      { body: new Uint8Array([0xff, 0xfe]), headers: { 'content-type': 'image/png' } },
      400,
      'BadRequestException',
      /image\/png must be text in UTF-8/,
    ],
    [
      'a form that is none',
      { body: 'x', headers: { 'content-type': 'multipart/form-data; boundary=b' } },
      400,
      'BadRequestException',
      /not a form/,
    ],
    [
      'a body above the limit',
      {
        body: JSON.stringify({ inputs: 'a'.repeat(70_000) }),
        headers: { 'content-type': 'application/json' },
      },
      413,
      'TooLongFrameException',
      /max_request_size, which is 65536 bytes/,
    ],
    [
      'an adapter',
      { body: '{}', headers: { 'x-amzn-sagemaker-adapter-identifier': 'a' } },
      400,
      'BadRequestException',
      /LoRA/,
    ],
  ])("%s: the dialect's error body", async (_name, init, status, type, message) => {
    const response = await fetch(`${test.url}/predictions/mlp`, { method: 'POST', ...init });
    const body = (await response.json()) as Record<string, unknown>;
    expect([response.status, body.code, body.type], JSON.stringify(body)).toEqual([status, status, type]);
    expect(body.message).toMatch(message);
    expect(response.headers.get('connection')).toBe('close');
    expect(test.service.submitted).toHaveLength(0);
  });

  it('a GET has no inputs', async () => {
    expect((await fetch(`${test.url}/predictions/mlp`)).status).toBe(424);
  });

  it('a path that is no URL, and a model name without end', async () => {
    const bad = await fetch(`${test.url}/predictions/%zz`);
    expect(bad.status).toBe(400);
    expect(await bad.json()).toMatchObject({ code: 400, type: 'BadRequestException' });
    expect((await fetch(`${test.url}/predictions/${'a'.repeat(600)}`)).status).toBe(400);
  });
});

describe('refusals of the service', () => {
  it.each<[ConstructorParameters<typeof ServingError>, number, string]>([
    [['QUEUE_FULL', 'Worker queue capacity exceeded for model: mlp'], 429, 'WlmCapacityException'],
    [['MODEL_NOT_READY', 'Model is not ready: mlp'], 502, 'WlmException'],
    [['SHUTTING_DOWN', 'All model workers has been shutdown: mlp'], 502, 'WlmShutdownException'],
    [['PROMPT_TOO_LONG', 'maximum context length is 512'], 422, 'TranslateException'],
    [['BAD_REQUEST', 'The prompt is empty'], 422, 'BadRequestException'],
    [['NO_CHAT_TEMPLATE', 'mlp has no chat template'], 422, 'TranslateException'],
    [['INTERNAL', 'Internal error'], 599, 'InternalServerException'],
    [['OUT_OF_MEMORY', 'no memory'], 507, 'WlmOutOfMemoryException'],
  ])('%s has its configured code and exception name', async (error, code, type) => {
    const configured = await startServer({
      throttleErrorHttpCode: 429,
      wlmErrorHttpCode: 502,
      badRequestHttpCode: 422,
      serverErrorHttpCode: 599,
    });
    configured.service.refuseWith = new ServingError(...error);
    const { status, text } = await postJson(`${configured.url}/predictions/mlp`, hi());
    expect([status, json(text)]).toEqual([code, { code, type, message: error[1] }]);
    await configured.server.close();
  });

  it('says nothing of a bug but logs it', async () => {
    test.service.models = () => {
      throw new TypeError('secret detail');
    };
    const { status, text } = await postJson(`${test.url}/predictions/mlp`, hi());
    expect(status).toBe(500);
    expect(text).not.toContain('secret');
    await test.logged(({ msg }) => msg === 'a request failed');
  });
});

describe('/ping', () => {
  it.each<[string, Parameters<typeof model>[1][], boolean, number, string[]]>([
    ['all well', [{}, {}], false, 200, ['Healthy', 'Healthy']],
    ['too few groups', [{ healthy: false }], false, 200, ['Unhealthy']],
    ['one loads', [{ state: 'PENDING' }, {}], false, 200, ['PENDING', 'Healthy']],
    ['one loads, multi-status', [{ state: 'PENDING' }, {}], true, 207, ['PENDING', 'Healthy']],
    ['one failed', [{ state: 'FAILED' }, { state: 'PENDING' }], true, 500, ['FAILED', 'PENDING']],
    ['no model', [], false, 200, []],
  ])('%s', async (_name, states, allowMultiStatus, status, expected) => {
    const server = await startServer({ allowMultiStatus });
    server.service.statuses = states.map((fields, index) => model(`m${index}`, fields));
    const response = await fetch(`${server.url}/ping`);
    expect(response.status).toBe(status);
    expect(await response.json()).toEqual(
      Object.fromEntries(expected.map((health, index) => [`m${index}`, { status: health }])),
    );
    await server.server.close();
  });

  it('tells versions of one name apart', async () => {
    test.service.statuses = [model('m', { version: 'v1' }), model('m', { version: 'v2', healthy: false })];
    expect(await (await fetch(`${test.url}/ping`)).json()).toEqual({
      'm:v1': { status: 'Healthy' },
      'm:v2': { status: 'Unhealthy' },
    });
  });
});
