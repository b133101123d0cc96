/** The APIs that coding agents speak, by their own clients: OpenAI's Responses, Anthropic's Messages; and vLLM's tokenizer routes. */
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import type { AnswerFormat } from '../../../server/requests/answer-format.js';
import type { ModelTokens } from '../../../server/requests/model-tokens.js';
import { model, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
let openai: OpenAI;
let anthropic: Anthropic;
beforeEach(async () => {
  test = await startServer();
  test.service.words = null;
  openai = new OpenAI({ baseURL: `${test.url}/v1`, apiKey: 'none', maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: test.url, apiKey: 'none', maxRetries: 0 });
  const answerFormat: AnswerFormat = { calls: 'hermes', reasoning: 'qwen3', startsInside: false };
  test.service.statuses = [model('mlp', { answerFormat })];
});
afterEach(() => test.server.close());

async function write(
  index: number,
  text: string,
  reason: 'end-id' | 'length' | 'stop-string' = 'end-id',
  stop?: string,
) {
  const job = await test.service.request(index);
  for (const piece of text.match(/.{1,4}/gs) ?? []) job.token(piece);
  job.finish(reason, '', stop);
}

const promptOf = (index: number) => test.service.submitted[index]!.request.prompt;
const CALL =
  '<think>\nhm\n</think>\n\nLet me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>';
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };

describe("OpenAI's Responses", () => {
  const tools = [
    { type: 'function' as const, name: 'get_weather', parameters, strict: true, description: 'Of a city' },
  ];

  it('answers a text with items: reasoning, message, call', async () => {
    const [answer] = await Promise.all([
      openai.responses.create({
        model: 'mlp',
        input: 'Weather?',
        instructions: 'Be kind.',
        tools,
        max_output_tokens: 90,
      }),
      write(0, CALL),
    ]);
    expect(answer).toMatchObject({
      object: 'response',
      status: 'completed',
      store: false,
      output_text: 'Let me look.',
    });
    expect(answer.output).toMatchObject([
      { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'hm' }] },
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Let me look.' }] },
      { type: 'function_call', name: 'get_weather', arguments: '{"city": "Paris"}' },
    ]);
    expect(answer.usage).toMatchObject({ input_tokens: 3, total_tokens: 3 + answer.usage!.output_tokens });
    // What stands between the tags, and what of a tag is held back behind it.
    expect(answer.usage!.output_tokens_details.reasoning_tokens).toBeGreaterThan(0);
    expect(answer.usage!.output_tokens_details.reasoning_tokens).toBeLessThan(6);
    expect(test.service.submitted[0]!.request.maxNewTokens).toBe(90);
    expect(promptOf(0)).toEqual({
      kind: 'chat',
      messages: [
        { role: 'system', content: 'Be kind.' },
        { role: 'user', content: 'Weather?' },
      ],
      tools: [
        {
          type: 'function',
          function: { name: 'get_weather', parameters, strict: true, description: 'Of a city' },
        },
      ],
    });
  });

  it('goes on with the items of before, and in a form', async () => {
    const input = [
      { role: 'user' as const, content: [{ type: 'input_text' as const, text: 'Weather?' }] },
      {
        type: 'function_call' as const,
        call_id: 'call_1',
        name: 'get_weather',
        arguments: '{"city": "Paris"}',
      },
      { type: 'function_call_output' as const, call_id: 'call_1', output: '18 °C' },
    ];
    const format = { type: 'json_schema' as const, name: 'a', schema: parameters };
    const [answer] = await Promise.all([
      openai.responses.create({ model: 'mlp', input, text: { format }, tools, tool_choice: 'none' }),
      write(0, '{"city": "Paris"}', 'length'),
    ]);
    expect(answer).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
    });
    expect(promptOf(0)).toMatchObject({
      messages: [
        { role: 'user', content: 'Weather?' },
        {
          role: 'assistant',
          content: '',
          tool_calls: [{ id: 'call_1', function: { arguments: { city: 'Paris' } } }],
        },
        { role: 'tool', tool_call_id: 'call_1', content: '18 °C' },
      ],
    });
    expect(test.service.submitted[0]!.request.constraint?.spec).toEqual({
      kind: 'json-schema',
      schema: parameters,
    });
  });

  it('streams events that the client puts together to the same answer', async () => {
    const written = write(0, CALL);
    const stream = openai.responses.stream({ model: 'mlp', input: 'Weather?', tools });
    const types: string[] = [];
    const numbers: number[] = [];
    for await (const event of stream) {
      types.push(event.type);
      numbers.push(event.sequence_number);
    }
    await written;
    const final = await stream.finalResponse();
    expect(final.output).toMatchObject([
      { type: 'reasoning', content: [{ text: 'hm' }] },
      { type: 'message', content: [{ type: 'output_text', text: 'Let me look.' }] },
      { type: 'function_call', name: 'get_weather', arguments: '{"city": "Paris"}', status: 'completed' },
    ]);
    expect(numbers).toEqual(numbers.map((_, index) => index));
    expect([...new Set(types)]).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.reasoning_text.delta',
      'response.reasoning_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.output_text.delta',
      'response.output_text.done',
      'response.function_call_arguments.delta',
      'response.function_call_arguments.done',
      'response.completed',
    ]);
  });

  it('a stream that fails ends with response.failed, its events numbered to the end', async () => {
    const failing = test.service.request(0).then((job) => {
      job.token('a');
      job.fail(new ServingError('WORKER_FAILED', 'The group is gone'));
    });
    const { text } = await postJson(`${test.url}/v1/responses`, { model: 'mlp', input: 'a', stream: true });
    await failing;
    const events = text
      .trim()
      .split('\n\n')
      .map((event) => JSON.parse(event.slice(event.indexOf('data: ') + 6)));
    expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, index) => index));
    expect(events.slice(-2)).toMatchObject([
      { type: 'error', code: 'worker_failed', message: 'The group is gone' },
      {
        type: 'response.failed',
        response: { status: 'failed', error: { code: 'worker_failed', message: 'The group is gone' } },
      },
    ]);
  });

  it.each([
    [{ input: 'a', previous_response_id: 'resp_1' }, /previous_response_id is not supported/],
    [{ input: 'a', top_logprobs: 3 }, /top_logprobs is not supported/],
    [{ input: [] }, /input must be a text or a list of items/],
    [{ input: [{ type: 'item_reference', id: 'a' }] }, /input\[0\].type must be "message"/],
    [{ input: 'a', tools: [{ type: 'web_search' }] }, /this server has no tools of its own/],
  ])('is refused in words: %j', async (fields, message) => {
    const { status, text } = await postJson(`${test.url}/v1/responses`, { model: 'mlp', ...fields });
    expect(status).toBe(400);
    expect((JSON.parse(text) as { error: { message: string } }).error.message).toMatch(message);
  });
});

describe("Anthropic's Messages", () => {
  const tools = [
    { name: 'get_weather', description: 'Of a city', input_schema: parameters as { type: 'object' } },
  ];
  const ask = {
    model: 'mlp',
    max_tokens: 64,
    messages: [{ role: 'user' as const, content: 'Weather?' }],
    tools,
  };

  it('answers with blocks: thinking, text, tool_use', async () => {
    const [message] = await Promise.all([
      anthropic.messages.create({ ...ask, system: 'Be kind.' }),
      write(0, CALL),
    ]);
    expect(message).toMatchObject({
      type: 'message',
      role: 'assistant',
      model: 'mlp',
      stop_reason: 'tool_use',
      content: [
        { type: 'thinking', thinking: 'hm' },
        { type: 'text', text: 'Let me look.' },
        { type: 'tool_use', name: 'get_weather', input: { city: 'Paris' } },
      ],
      usage: { input_tokens: 3, cache_read_input_tokens: 0 },
    });
    expect(promptOf(0)).toMatchObject({
      messages: [{ role: 'system', content: 'Be kind.' }, { role: 'user' }],
    });
  });

  it('goes on with the result of a tool', async () => {
    const messages = [
      ...ask.messages,
      {
        role: 'assistant' as const,
        content: [
          { type: 'tool_use' as const, id: 'toolu_1', name: 'get_weather', input: { city: 'Paris' } },
        ],
      },
      {
        role: 'user' as const,
        content: [{ type: 'tool_result' as const, tool_use_id: 'toolu_1', content: '18 °C' }],
      },
    ];
    const [message] = await Promise.all([
      anthropic.messages.create({
        ...ask,
        messages,
        stop_sequences: ['FIN', 'END'],
        thinking: { type: 'disabled' },
      }),
      write(0, '18 °C in Paris.', 'stop-string', 'END'),
    ]);
    expect(message).toMatchObject({
      stop_reason: 'stop_sequence',
      stop_sequence: 'END',
      content: [{ text: '18 °C in Paris.' }],
    });
    expect(promptOf(0)).toMatchObject({
      messages: [
        { role: 'user', content: 'Weather?' },
        {
          role: 'assistant',
          tool_calls: [{ id: 'toolu_1', function: { name: 'get_weather', arguments: { city: 'Paris' } } }],
        },
        { role: 'tool', tool_call_id: 'toolu_1', content: '18 °C' },
      ],
      templateOptions: { enable_thinking: false, thinking: false },
    });
  });

  it('streams events that the client puts together to the same message', async () => {
    const written = write(0, CALL);
    const message = await anthropic.messages.stream(ask).finalMessage();
    await written;
    expect(message).toMatchObject({
      stop_reason: 'tool_use',
      content: [
        { type: 'thinking', thinking: 'hm' },
        { type: 'text', text: 'Let me look.' },
        { type: 'tool_use', name: 'get_weather', input: { city: 'Paris' } },
      ],
    });
    expect(message.usage.output_tokens).toBeGreaterThan(10);
  });

  it('ends a thought with its signature, as its own streams do', async () => {
    const written = write(0, CALL);
    const types: string[] = [];
    for await (const event of await anthropic.messages.create({ ...ask, stream: true }))
      types.push(event.type === 'content_block_delta' ? event.delta.type : event.type);
    await written;
    const at = types.indexOf('signature_delta');
    expect(types.slice(0, 3)).toEqual(['message_start', 'content_block_start', 'thinking_delta']);
    expect(types.slice(at, at + 3)).toEqual(['signature_delta', 'content_block_stop', 'content_block_start']);
    expect(types.slice(-3)).toEqual(['content_block_stop', 'message_delta', 'message_stop']);
  });

  it('lists the models to its own client', async () => {
    const { data, has_more: hasMore } = await anthropic.models.list();
    const mlp = { type: 'model', id: 'mlp', display_name: 'mlp', created_at: '2023-11-14T22:13:20.500Z' };
    expect([data, hasMore]).toEqual([[mlp], false]);
    expect(await anthropic.models.retrieve('mlp')).toMatchObject(mlp);
    await expect(anthropic.models.retrieve('none')).rejects.toMatchObject({ status: 404 });
  });

  it('takes a tool whose type is null', async () => {
    test.service.words = 1;
    const { status } = await postJson(`${test.url}/v1/messages`, {
      ...ask,
      tools: [{ ...tools[0], type: null }],
    });
    expect(status).toBe(200);
  });

  it('must call where it is told to', async () => {
    const tool_choice = { type: 'tool' as const, name: 'get_weather' };
    const [message] = await Promise.all([
      anthropic.messages.create({ ...ask, tool_choice, thinking: { type: 'disabled' } }),
      write(0, '{"city": "Rome"}'),
    ]);
    expect(message.content).toMatchObject([
      { type: 'tool_use', name: 'get_weather', input: { city: 'Rome' } },
    ]);
    expect(test.service.submitted[0]!.request.constraint?.spec).toEqual({
      kind: 'json-schema',
      schema: parameters,
    });
  });

  it('takes a form of the answer, by both of its names, and refuses what would change it', async () => {
    test.service.words = 3;
    const format = { type: 'json_schema', schema: parameters };
    for (const body of [{ output_format: format }, { output_config: { format, effort: 'low' } }]) {
      await postJson(`${test.url}/v1/messages`, { ...ask, ...body });
      const { constraint } = test.service.submitted.at(-1)!.request;
      expect(constraint?.spec).toEqual({ kind: 'json-schema', schema: parameters });
    }
    for (const [body, sentence] of [
      [{ output_config: { format: { type: 'xml' } } }, /output_config.format.type: must be "json_schema"/],
      [{ mcp_servers: [{ type: 'url', url: 'x' }] }, /mcp_servers is not supported by this server/],
    ] as const) {
      const { status, text } = await postJson(`${test.url}/v1/messages`, { ...ask, ...body });
      expect([status, JSON.parse(text).error.message]).toEqual([400, expect.stringMatching(sentence)]);
    }
  });

  it("says errors in its client's words", async () => {
    await expect(anthropic.messages.create({ ...ask, model: 'none' })).rejects.toMatchObject({
      status: 404,
      error: { type: 'error', error: { type: 'not_found_error' } },
    });
    await expect(anthropic.messages.create({ ...ask, max_tokens: 0 })).rejects.toMatchObject({
      status: 400,
      error: { error: { type: 'invalid_request_error', message: expect.stringContaining('max_tokens') } },
    });
    const image = { type: 'image', source: {} };
    const { status, text } = await postJson(`${test.url}/v1/messages`, {
      ...ask,
      messages: [{ role: 'user', content: [image] }],
    });
    expect([status, JSON.parse(text).error.message]).toEqual([
      400,
      'messages.0.content.0.type: "image" is not supported by this server: it takes text alone',
    ]);
    test.service.refuseWith = new ServingError('QUEUE_FULL', 'Full');
    await expect(anthropic.messages.create(ask)).rejects.toMatchObject({
      status: 429,
      error: { error: { type: 'rate_limit_error' } },
    });
  });
});

describe("vLLM's routes", () => {
  const tokens: ModelTokens = {
    contextLength: 512,
    encode: async (prompt, addSpecialTokens) => [
      ...(addSpecialTokens && prompt.kind === 'text' ? [1] : []),
      ...(prompt.kind === 'text' ? [...Buffer.from(prompt.text)] : [7, 8]),
    ],
    decode: (ids) => Buffer.from(ids).toString(),
    text: (id) => String.fromCharCode(id),
    pieces: (ids) => ids.map((id) => String.fromCharCode(id)),
  };
  const post = async (path: string, body: object) => {
    const { status, text } = await postJson(test.url + path, body);
    return { status, body: JSON.parse(text) as unknown };
  };

  it('tokenize and give back', async () => {
    test.service.knownTokens = tokens;
    expect(await post('/tokenize', { model: 'mlp', prompt: 'ab', return_token_strs: true })).toEqual({
      status: 200,
      body: { count: 3, max_model_len: 512, tokens: [1, 97, 98], token_strs: ['\u0001', 'a', 'b'] },
    });
    const messages = [{ role: 'user' as const, content: 'a' }];
    expect(await post('/tokenize', { model: 'mlp', messages })).toMatchObject({
      body: { tokens: [7, 8], token_strs: null },
    });
    expect(await post('/detokenize', { model: 'mlp', tokens: [97, 98] })).toEqual({
      status: 200,
      body: { prompt: 'ab' },
    });
    expect(await post('/tokenize', { model: 'mlp' })).toMatchObject({ status: 400 });
    expect(await post('/tokenize', { inputs: 'ab', prompt: 'ab' })).toMatchObject({ status: 400 });
    expect(await anthropic.messages.countTokens({ model: 'mlp', messages })).toEqual({ input_tokens: 2 });
    // As Text Generation Inference has them.
    const a = { id: 97, text: 'a', start: 0, stop: 1 };
    const b = { id: 98, text: 'b', start: 1, stop: 2 };
    const told = [{ id: 1, text: '', start: 0, stop: 0 }, a, b];
    expect(await post('/tokenize', { inputs: 'ab' })).toEqual({ status: 200, body: told });
    const parameters = { truncate: 2 };
    expect(await post('/tokenize', { inputs: 'ab', parameters })).toEqual({ status: 200, body: [a, b] });
    expect(await post('/chat_tokenize', { messages })).toEqual({
      status: 200,
      body: {
        tokenize_response: [
          { id: 7, text: '\u0007', start: 0, stop: 1 },
          { id: 8, text: '\b', start: 1, stop: 2 },
        ],
        templated_text: '\u0007\b',
      },
    });
    expect(await post('/chat_tokenize', {})).toMatchObject({
      status: 422,
      body: { error_type: 'validation' },
    });
  });

  it('tell version, health and how long a context is', async () => {
    expect((await fetch(`${test.url}/version`)).status).toBe(200);
    expect((await fetch(`${test.url}/health`)).status).toBe(200);
    test.service.statuses = [model('mlp', { state: 'FAILED', healthy: false })];
    expect((await fetch(`${test.url}/health`)).status).toBe(503);
    const { data } = await openai.models.list();
    expect(data[0]).toMatchObject({ id: 'mlp', root: 'mlp', max_model_len: 512 });
  });
});
