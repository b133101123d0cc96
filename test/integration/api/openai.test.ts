/** OpenAI's API over a real port, asked by OpenAI's own client. */
import OpenAI from 'openai';
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
import { listenerWarnings } from '../../support/listener-warnings.js';

let test: TestServer;
let client: OpenAI;
beforeEach(async () => {
  test = await startServer();
  client = new OpenAI({ baseURL: `${test.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterEach(() => test.server.close());

const messages = [
  { role: 'system' as const, content: 'Be kind.' },
  {
    role: 'user' as const,
    content: [
      { type: 'text' as const, text: 'Tell ' },
      { type: 'text' as const, text: 'me' },
    ],
  },
];
const json = (text: string) => JSON.parse(text) as Record<string, unknown>;

describe('completions by the openai client', () => {
  it('takes as many choices as it may have without a word on standard error, now or later', async () => {
    const body = { model: 'mlp', prompt: 'a', n: 128 };
    const warnings = await listenerWarnings(async () => {
      expect((await client.completions.create(body)).choices).toHaveLength(128);
      const later = await postJson(`${test.url}/v1/completions`, body, { 'x-synchronous': 'false' });
      expect([later.status, test.service.submitted.length]).toEqual([200, 256]);
    });
    expect(warnings).toEqual([]);
  });

  it('answers a prompt with text, reason and usage', async () => {
    const answer = await client.completions.create({ model: 'mlp', prompt: 'once upon a' });
    expect(answer).toMatchObject({
      object: 'text_completion',
      model: 'mlp',
      choices: [{ index: 0, text: ' w1 w2 w3', logprobs: null, finish_reason: 'stop' }],
      usage: {
        prompt_tokens: 3,
        completion_tokens: 3,
        total_tokens: 6,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
    expect(answer.id).toMatch(/^cmpl-/);
    expect(answer.created).toBeGreaterThan(1_700_000_000);
    expect(test.service.submitted[0]!.request).toMatchObject({
      model: 'mlp',
      prompt: { kind: 'text', text: 'once upon a' },
      maxNewTokens: null,
      usualNewTokens: 16,
      sampling: {},
      samplingDefaults: { doSample: true, temperature: 1 },
      logprob: false,
    });
  });

  it("passes every field on, OpenAI's and vLLM's", async () => {
    const extra = {
      top_k: -1,
      min_p: 0.1,
      typical_p: 0.9,
      repetition_penalty: 1.1,
      min_tokens: 2,
      stop_token_ids: [5],
      ignore_eos: true,
      include_stop_str_in_output: true,
      skip_special_tokens: false,
    };
    await client.completions.create({
      model: 'mlp',
      prompt: 'a',
      max_tokens: 9,
      temperature: 0.5,
      top_p: 0.8,
      presence_penalty: 1,
      frequency_penalty: -1,
      seed: 4,
      stop: ['x', 'y'],
      logit_bias: { '7': -100 },
      user: 'somebody',
      ...extra,
    });
    expect(test.service.submitted[0]!.request).toMatchObject({
      maxNewTokens: 9,
      sampling: {
        temperature: 0.5,
        topP: 0.8,
        topK: 0,
        minP: 0.1,
        typicalP: 0.9,
        repetitionPenalty: 1.1,
        presencePenalty: 1,
        frequencyPenalty: -1,
        minNewTokens: 2,
        seed: 4,
        logitBias: { 7: -100 },
      },
      stopStrings: ['x', 'y'],
      includeStopString: true,
      stopTokenIds: [5],
      ignoreEndIds: true,
      skipSpecialTokens: false,
    });
  });

  it('takes null for absent', async () => {
    await client.completions.create({
      model: 'mlp',
      prompt: 'a',
      stop: null,
      temperature: null,
      stream_options: null,
    });
    expect(test.service.submitted[0]!.request.sampling).toEqual({});
  });

  it('answers lists of texts and of token ids, each n times with seeds of its own', async () => {
    const answer = await client.completions.create({
      model: 'mlp',
      prompt: ['a b', 'c'],
      n: 2,
      seed: 10,
      max_tokens: 1,
    });
    expect(answer.choices.map(({ index, finish_reason }) => [index, finish_reason])).toEqual([
      [0, 'length'],
      [1, 'length'],
      [2, 'length'],
      [3, 'length'],
    ]);
    // Each prompt counts once, each choice's tokens count.
    expect(answer.usage).toEqual({
      prompt_tokens: 3,
      completion_tokens: 4,
      total_tokens: 7,
      prompt_tokens_details: { cached_tokens: 0 },
    });
    expect(test.service.submitted.map(({ request }) => request.sampling.seed)).toEqual([10, 11, 10, 11]);
    await client.completions.create({ model: 'mlp', prompt: [1, 2, 3] });
    await client.completions.create({ model: 'mlp', prompt: [[1, 2], [3]] });
    expect(test.service.submitted.slice(4).map(({ request }) => request.prompt)).toEqual([
      { kind: 'ids', ids: [1, 2, 3] },
      { kind: 'ids', ids: [1, 2] },
      { kind: 'ids', ids: [3] },
    ]);
  });

  it("echoes the prompt's tokens with their log-probabilities, as lm-eval asks for them", async () => {
    const body = {
      model: 'mlp',
      prompt: [[1, 2, 3]],
      echo: true,
      logprobs: 1,
      max_tokens: 1,
      temperature: 0,
      seed: 1,
    };
    const { choices, usage } = await client.completions.create(body);
    expect(test.service.submitted[0]!.request).toMatchObject({
      promptLogprobs: 1,
      maxNewTokens: 1,
      logprob: true,
    });
    expect(choices[0]!.text).toBe('once upon a w1');
    expect(choices[0]!.logprobs).toEqual({
      tokens: ['once', ' upon', ' a', ' w1'],
      token_logprobs: [null, -1, -2, -0.25],
      top_logprobs: [null, { ' upon': -1 }, { ' a': -2 }, { ' w1': -0.25 }],
      text_offset: [0, 4, 9, 11],
    });
    expect(usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 1 });
    const stream = await client.completions.create({ ...body, stream: true });
    let text = '';
    const logprobs: (number | null)[] = [];
    for await (const chunk of stream) {
      text += chunk.choices[0]!.text;
      logprobs.push(...((chunk.choices[0]!.logprobs?.token_logprobs ?? []) as (number | null)[]));
    }
    expect(text).toBe('once upon a w1');
    expect(logprobs).toEqual([null, -1, -2, -0.25]);
  });

  it('best_of: the n best of so many of each prompt, all of which are in the usage', async () => {
    test.service.words = null;
    const asked = postJson(`${test.url}/v1/completions`, {
      ...{ prompt: ['a', 'b'], n: 2, best_of: 3, seed: 5, max_tokens: 9 },
    });
    const jobs = await Promise.all([0, 1, 2, 3, 4, 5].map((index) => test.service.request(index)));
    expect(jobs.map(({ request }) => [request.sampling.seed, request.logprob])).toEqual(
      [5, 6, 7, 5, 6, 7].map((seed) => [seed, true]),
    );
    // A token more is a lower log-probability a token here: −0.25, −0.5 …
    for (const [index, tokens] of [3, 1, 2, 1, 2, 3].entries()) {
      for (let token = 0; token < tokens; token += 1) jobs[index]!.token(` ${index}`);
      jobs[index]!.finish('end-id');
    }
    const { text } = await asked;
    const { choices, usage } = JSON.parse(text) as {
      choices: { index: number; text: string; logprobs: unknown }[];
      usage: object;
    };
    expect(choices.map(({ index, logprobs, text: told }) => [index, told, logprobs])).toEqual([
      [0, ' 1', null],
      [1, ' 2 2', null],
      [2, ' 3', null],
      [3, ' 4 4', null],
    ]);
    expect(usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 12, total_tokens: 14 });
  });

  it('prompt_logprobs: of a completion in its choice, of a chat beside them', async () => {
    const expected = [
      null,
      {
        11: { logprob: -1, rank: 1, decoded_token: ' upon' },
        12: { logprob: -2, rank: 2, decoded_token: 'alt1' },
      },
      {
        12: { logprob: -2, rank: 1, decoded_token: ' a' },
        13: { logprob: -3, rank: 2, decoded_token: 'alt1' },
      },
    ];
    const fields = { prompt_logprobs: 2, max_tokens: 0 };
    const completion = await postJson(`${test.url}/v1/completions`, { model: 'mlp', prompt: 'a', ...fields });
    expect(JSON.parse(completion.text).choices[0]).toMatchObject({ text: '', prompt_logprobs: expected });
    const chat = { model: 'mlp', messages: [{ role: 'user', content: 'a' }], prompt_logprobs: 2 };
    const answer = await postJson(`${test.url}/v1/chat/completions`, chat);
    expect(JSON.parse(answer.text)).toMatchObject({ prompt_logprobs: expected });
  });

  it('echoes the prompt', async () => {
    const answer = await client.completions.create({ model: 'mlp', prompt: ['a', 'b'], echo: true, n: 2 });
    expect(answer.choices.map(({ text }) => text)).toEqual([
      'a w1 w2 w3',
      'a w1 w2 w3',
      'b w1 w2 w3',
      'b w1 w2 w3',
    ]);
    let text = '';
    const stream = await client.completions.create({ model: 'mlp', prompt: 'a', echo: true, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]!.text;
    expect(text).toBe('a w1 w2 w3');
  });

  it('tells log-probabilities in the completions form', async () => {
    const answer = await client.completions.create({ model: 'mlp', prompt: 'a', logprobs: 2, max_tokens: 2 });
    expect(answer.choices[0]!.logprobs).toEqual({
      tokens: [' w1', ' w2'],
      token_logprobs: [-0.25, -0.5],
      top_logprobs: [
        { ' w1': -0.25, alt1: -1.25 },
        { ' w2': -0.5, alt1: -1.5 },
      ],
      text_offset: [0, 3],
    });
    expect(test.service.submitted[0]!.request).toMatchObject({ logprob: true, topLogprobs: 2 });
    const offsets: number[] = [];
    for await (const chunk of await client.completions.create({
      model: 'mlp',
      prompt: 'a',
      logprobs: 0,
      stream: true,
    })) {
      offsets.push(...(chunk.choices[0]!.logprobs?.text_offset ?? []));
    }
    expect(offsets).toEqual([0, 3, 6]);
  });

  it('streams each choice to its end, with usage in a last chunk when asked', async () => {
    const stream = await client.completions.create({
      model: 'mlp',
      prompt: 'a b',
      n: 2,
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts = ['', ''];
    const reasons: unknown[] = [];
    const usages: unknown[] = [];
    for await (const chunk of stream) {
      for (const choice of chunk.choices) {
        texts[choice.index] += choice.text;
        if (choice.finish_reason !== null) reasons.push(choice.finish_reason);
      }
      usages.push(chunk.usage);
    }
    expect(texts).toEqual([' w1 w2 w3', ' w1 w2 w3']);
    expect(reasons).toEqual(['stop', 'stop']);
    expect(usages.slice(0, -1).every((usage) => usage === null)).toBe(true);
    expect(usages.at(-1)).toEqual({
      prompt_tokens: 2,
      completion_tokens: 6,
      total_tokens: 8,
      prompt_tokens_details: { cached_tokens: 0 },
    });
  });
});

describe('chat completions by the openai client', () => {
  it('answers messages, text parts joined', async () => {
    const answer = await client.chat.completions.create({ model: 'mlp', messages, max_completion_tokens: 2 });
    expect(answer).toMatchObject({
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: ' w1 w2' },
          logprobs: null,
          finish_reason: 'length',
        },
      ],
      usage: {
        prompt_tokens: 4,
        completion_tokens: 2,
        total_tokens: 6,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
    expect(answer.id).toMatch(/^chatcmpl-/);
    const { prompt, maxNewTokens } = test.service.submitted[0]!.request;
    expect(prompt).toEqual({
      kind: 'chat',
      messages: [
        { role: 'system', content: 'Be kind.' },
        { role: 'user', content: 'Tell me' },
      ],
    });
    expect(maxNewTokens).toBe(2);
    await client.chat.completions.create({ model: 'mlp', messages });
    expect(test.service.submitted[1]!.request.maxNewTokens).toBeNull();
  });

  it('streams a role, one delta a token, a reason', async () => {
    const deltas: unknown[] = [];
    for await (const chunk of await client.chat.completions.create({
      model: 'mlp',
      messages,
      stream: true,
    })) {
      expect(chunk.object).toBe('chat.completion.chunk');
      expect('usage' in chunk).toBe(false);
      const { delta, finish_reason } = chunk.choices[0]!;
      deltas.push([delta, finish_reason]);
    }
    expect(deltas).toEqual([
      [{ role: 'assistant', content: '' }, null],
      [{ content: ' w1' }, null],
      [{ content: ' w2' }, null],
      [{ content: ' w3' }, null],
      [{}, 'stop'],
    ]);
  });

  it('gives text that was held back before the reason', async () => {
    test.service.words = null;
    const pending = client.chat.completions.create({ model: 'mlp', messages });
    const job = await test.service.request(0);
    job.token(' one');
    job.finish('end-id', ' held');
    expect((await pending).choices[0]!.message.content).toBe(' one held');
    const streaming = client.chat.completions.create({ model: 'mlp', messages, stream: true });
    const streamed = await test.service.request(1);
    streamed.token(' one');
    streamed.finish('stop-string', ' held');
    let text = '';
    for await (const chunk of await streaming) text += chunk.choices[0]!.delta.content ?? '';
    expect(text).toBe(' one held');
  });

  it('tells log-probabilities in the chat form', async () => {
    const answer = await client.chat.completions.create({
      model: 'mlp',
      messages,
      logprobs: true,
      top_logprobs: 1,
      max_tokens: 1,
    });
    const entry = { token: ' w1', logprob: -0.25, bytes: [32, 119, 49] };
    expect(answer.choices[0]!.logprobs).toEqual({
      content: [{ ...entry, top_logprobs: [entry] }],
      refusal: null,
    });
  });
});

describe('server-sent events', () => {
  it('come one a token as soon as it exists and end with [DONE]', async () => {
    test.service.words = null;
    const pending = RawExchange.post(`${test.url}/v1/completions`, { prompt: 'a', stream: true });
    const job = await test.service.request(0);
    job.token(' one');
    const exchange = await pending;
    expect(exchange.response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    expect(exchange.response.headers['x-request-id']).toMatch(/./);
    const event = async () => {
      const text = (await exchange.chunk())!;
      expect(text).toMatch(/^data: .*\n\n$/);
      return json(text.slice('data: '.length)).choices;
    };
    expect(await event()).toEqual([{ index: 0, text: ' one', logprobs: null, finish_reason: null }]);
    job.token(' two');
    expect(await event()).toEqual([{ index: 0, text: ' two', logprobs: null, finish_reason: null }]);
    job.finish('end-id');
    expect(await exchange.rest()).toMatch(
      /"finish_reason":"stop","stop_reason":null\}\]\}\n\ndata: \[DONE\]\n\n$/,
    );
  });

  it('say an error that comes after the first token as an event, which the client throws', async () => {
    test.service.words = null;
    const pending = client.completions.create({ model: 'mlp', prompt: 'a', n: 2, stream: true });
    const [first, second] = [await test.service.request(0), await test.service.request(1)];
    first.token(' one');
    const stream = await pending;
    second.fail(new ServingError('WORKER_FAILED', 'Rank 1 of mlp died'));
    const read = async () => {
      for await (const chunk of stream) expect(chunk.object).toBe('text_completion');
    };
    await expect(read()).rejects.toMatchObject({
      code: 'worker_failed',
      message: expect.stringContaining('died') as string,
    });
    await aborted(first.signal);
  });

  it('end the request when the client leaves its loop', async () => {
    test.service.words = null;
    const pending = client.chat.completions.create({ model: 'mlp', messages, stream: true });
    const job = await test.service.request(0);
    job.token(' one');
    for await (const _chunk of await pending) break;
    await aborted(job.signal);
  });
});

describe('models', () => {
  it('are listed and found', async () => {
    test.service.statuses = [model('a', { version: '1' }), model('a', { version: '2' }), model('b')];
    const object = { id: 'b', object: 'model', created: 1_700_000_000, owned_by: 'shardserve' };
    const listed = (await client.models.list()).data;
    expect(listed).toMatchObject([
      { ...object, id: 'a' },
      { ...object, max_model_len: 512 },
      { ...object, id: 'a:1' },
      { ...object, id: 'a:2' },
    ]);
    expect(await client.models.retrieve('b')).toMatchObject(object);
    await expect(client.models.retrieve('none')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });

  it('may be left unnamed while there is one startup model', async () => {
    expect((await postJson(`${test.url}/v1/completions`, { prompt: 'a' })).status).toBe(200);
    const none = await startServer({}, null);
    const { status, text } = await postJson(`${none.url}/v1/completions`, { prompt: 'a' });
    expect([status, json(text).error]).toMatchObject([400, { param: 'model' }]);
    await none.server.close();
  });
});

describe("errors in OpenAI's body", () => {
  const completion = (fields: object) => ({ model: 'mlp', prompt: 'a', ...fields });
  const chat = (fields: object) => ({ model: 'mlp', messages: [{ role: 'user', content: 'a' }], ...fields });

  it.each<[string, object, string | null, RegExp]>([
    ['/v1/completions', {}, 'prompt', /prompt is required and must be a text, a list of token ids/],
    ['/v1/completions', [], null, /The request body must be an object, got \[\]/],
    [
      '/v1/completions',
      completion({ prompt: '' }),
      'prompt',
      /prompt must be a text.*none of them empty, got ""/,
    ],
    ['/v1/completions', completion({ prompt: [] }), 'prompt', /got \[\]/],
    ['/v1/completions', completion({ prompt: [['a']] }), 'prompt', /got \[\["a"\]\]/],
    [
      '/v1/completions',
      completion({ temperature: 'hot' }),
      'temperature',
      /temperature must be a number of at least 0 and of at most 2, got "hot"/,
    ],
    ['/v1/completions', completion({ temperature: 2.5 }), 'temperature', /at most 2, got 2\.5/],
    ['/v1/completions', completion({ top_p: 3 }), 'top_p', /above 0 and of at most 1, got 3/],
    ['/v1/completions', completion({ max_tokens: 0 }), 'max_tokens', /at least 1 .*, got 0/],
    [
      '/v1/completions',
      completion({ n: 0 }),
      'n',
      /n must be an integer of at least 1 and of at most 128, got 0/,
    ],
    [
      '/v1/completions',
      completion({ prompt: new Array(20).fill('a'), n: 10 }),
      'n',
      /prompts × n must be at most 128, got 20 × 10/,
    ],
    ['/v1/completions', completion({ logprobs: 21 }), 'logprobs', /at most 20, got 21/],
    ['/v1/completions', completion({ stop: 5 }), 'stop', /a string or a list of at most 64 strings/],
    ['/v1/completions', completion({ seed: 1.5 }), 'seed', /an integer .*, got 1\.5/],
    ['/v1/completions', completion({ logit_bias: { '5': 200 } }), 'logit_bias', /100, got 200/],
    ['/v1/completions', completion({ suffix: 'end' }), 'suffix', /suffix is not supported by this server/],
    [
      '/v1/chat/completions',
      chat({ best_of: 3 }),
      'best_of',
      /best_of is not supported.*only 1 is accepted, got 3/,
    ],
    [
      '/v1/completions',
      completion({ n: 3, best_of: 2 }),
      'best_of',
      /best_of must be at least n, got 2 and n 3/,
    ],
    [
      '/v1/completions',
      completion({ best_of: 2, stream: true }),
      'best_of',
      /not available when stream is true/,
    ],
    ['/v1/completions', completion({ best_of: 129 }), 'best_of', /at most 128/],
    ['/v1/completions', completion({ max_tokens: 0 }), 'max_tokens', /at least 1 \(0 with echo and logprobs/],
    [
      '/v1/completions',
      completion({ prompt_logprobs: 1, stream: true }),
      'prompt_logprobs',
      /not available when stream is true/,
    ],
    [
      '/v1/completions',
      completion({ stream_options: { include_usage: 1 } }),
      'stream_options',
      /include_usage must be true or false, got 1/,
    ],
    ['/v1/chat/completions', chat({ messages: [] }), 'messages', /messages must be a list of 1 … 4096 items/],
    ['/v1/chat/completions', chat({ messages: 'hi' }), 'messages', /messages must be a list .*, got "hi"/],
    [
      '/v1/chat/completions',
      chat({ messages: [{ content: 'a' }] }),
      'messages',
      /messages\[0\]\.role is required/,
    ],
    [
      '/v1/chat/completions',
      chat({ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }),
      'messages',
      /this server takes text alone/,
    ],
    [
      '/v1/chat/completions',
      chat({ top_logprobs: 3 }),
      'top_logprobs',
      /top_logprobs needs logprobs to be true/,
    ],
    [
      '/v1/chat/completions',
      chat({ tools: [{ type: 'function' }] }),
      'tools',
      /tools\[0\].function is required/,
    ],
    [
      '/v1/chat/completions',
      chat({ response_format: { type: 'xml' } }),
      'response_format',
      /response_format.type must be/,
    ],
  ])('%s %j', async (path, body, param, message) => {
    const { status, text } = await postJson(test.url + path, body);
    expect(status, text).toBe(400);
    const { error } = json(text) as { error: Record<string, unknown> };
    expect(error).toEqual({ message: error.message, type: 'invalid_request_error', param, code: null });
    expect(error.message).toMatch(message);
    expect(test.service.submitted).toHaveLength(0);
  });

  it('lets pass what changes nothing', async () => {
    const body = chat({
      tools: [],
      tool_choice: 'none',
      response_format: { type: 'text' },
      best_of: 1,
      store: false,
    });
    expect((await postJson(`${test.url}/v1/chat/completions`, body)).status).toBe(200);
  });

  it.each<[string, RequestInit, number, string | null, RegExp]>([
    [
      '/v1/completions',
      { method: 'POST', body: '{"prompt"', headers: { 'content-type': 'application/json' } },
      400,
      null,
      /JSON/,
    ],
    [
      '/v1/completions',
      { method: 'POST', body: '', headers: { 'content-type': 'application/json' } },
      400,
      null,
      /empty/,
    ],
    [
      '/v1/completions',
      { method: 'POST', body: 'a', headers: { 'content-type': 'text/csv' } },
      400,
      null,
      /Content-Type must be application\/json, got text\/csv/,
    ],
    [
      '/v1/completions',
      {
        method: 'POST',
        body: JSON.stringify({ prompt: 'a'.repeat(70_000) }),
        headers: { 'content-type': 'application/json' },
      },
      413,
      'request_too_large',
      /65536 bytes/,
    ],
    ['/v1/completions', { method: 'GET' }, 405, 'method_not_supported', /not allowed/],
    ['/v1/nothing', { method: 'GET' }, 404, 'unknown_url', /not found/],
  ])('%s %j', async (path, init, status, code, message) => {
    const response = await fetch(test.url + path, init);
    const { error } = (await response.json()) as { error: Record<string, unknown> };
    expect([response.status, error.code], JSON.stringify(error)).toEqual([status, code]);
    expect(error.message).toMatch(message);
  });

  it('a body that is nested too deep is told so, not that the server failed', async () => {
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
    const chat = `{"messages": [{"role": "user", "content": "a", "name": ${deep}}]}`;
    for (const [path, body] of [
      ['/v1/completions', `{"prompt": ${deep}}`],
      ['/v1/chat/completions', chat],
      ['/v1/embeddings', `{"input": ${deep}}`],
    ] as const) {
      const headers = { 'content-type': 'application/json; charset=utf-8' };
      const response = await fetch(test.url + path, { method: 'POST', headers, body });
      const { error } = (await response.json()) as { error: Record<string, unknown> };
      expect([path, response.status, error.message]).toEqual([
        path,
        400,
        expect.stringMatching(/^The request body is nested 2000\d deep, the limit is 128$/),
      ]);
    }
  });

  it('takes JSON without a content type, and OPTIONS', async () => {
    const body = new TextEncoder().encode('{"prompt": "a"}');
    expect((await fetch(`${test.url}/v1/completions`, { method: 'POST', body })).status).toBe(200);
    expect((await fetch(`${test.url}/v1/completions`, { method: 'OPTIONS' })).status).toBe(200);
  });

  it.each<[ConstructorParameters<typeof ServingError>, number, string | null]>([
    [['QUEUE_FULL', 'full'], 429, 'queue_full'],
    [
      ['PROMPT_TOO_LONG', "This model's maximum context length is 512 tokens"],
      400,
      'context_length_exceeded',
    ],
    [['NO_CHAT_TEMPLATE', 'mlp has no chat template'], 400, 'no_chat_template'],
    [['MODEL_NOT_READY', 'loading'], 503, 'model_not_ready'],
    [['WORKER_FAILED', 'Rank 1 of mlp died'], 500, 'worker_failed'],
  ])('%s is thrown by the client with its status and code', async (error, status, code) => {
    test.service.refuseWith = new ServingError(...error);
    const thrown = await client.chat.completions
      .create({ model: 'mlp', messages })
      .catch((caught: unknown) => caught);
    expect(thrown).toBeInstanceOf(OpenAI.APIError);
    expect(thrown).toMatchObject({ status, code, message: expect.stringContaining(error[1]) as string });
  });

  it('the only model of the start answers to what clients call it that know no name', async () => {
    for (const model of ['tgi', 'dummy']) {
      const { model: told } = await client.completions.create({ model, prompt: 'a' });
      expect(told).toBe('mlp');
    }
  });

  it('an unknown model is 404 model_not_found', async () => {
    await expect(client.completions.create({ model: 'gpt', prompt: 'a' })).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
      message: expect.stringContaining("The model 'gpt' does not exist") as string,
    });
  });
});
