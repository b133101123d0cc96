/**
 * Clients of agents beside the real engine at degree 2: tools over three turns by a model that is forced to call, the same through OpenAI's chat and
 * Responses and Anthropic's Messages, whole and streamed; forms of an answer; log-probabilities as lm-eval asks for them.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Anthropic from '@anthropic-ai/sdk';
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const MODEL = 'teller';
/** Qwen's kind, as far as the story writer goes. */
const TEMPLATE =
  '{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{% for message in messages %}{{ message.content }}' +
  '{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.arguments.city }}</tool_call>{% endfor %}\n{% endfor %}';

const scratch = mkdtempSync(path.join(tmpdir(), 'agents-'));
let server: ServerProcess;
let openai: OpenAI;
let anthropic: Anthropic;
beforeAll(async () => {
  const store = path.join(scratch, 'models');
  const folder = path.join(store, MODEL);
  cpSync(path.join(repositoryRoot, 'models', 'embedded'), folder, { recursive: true });
  const file = path.join(folder, 'tokenizer_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, chat_template: TEMPLATE }));
  server = await ServerProcess.start({ SERVING_MODEL_STORE: store, TENSOR_PARALLEL_DEGREE: '2' });
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const parameters = {
  type: 'object',
  properties: {
    city: { type: 'string', minLength: 1, maxLength: 8 },
    days: { type: 'integer', minimum: 1, maximum: 14 },
    unit: { enum: ['celsius', 'fahrenheit'] },
  },
  required: ['city', 'days', 'unit'],
  additionalProperties: false,
};
const isValid = (text: string): boolean => new Ajv2020().validate(parameters, JSON.parse(text));
const tool = { type: 'function' as const, function: { name: 'get_weather', parameters } };
const ask = { model: MODEL, max_tokens: 300, temperature: 0 };

describe('tools', () => {
  it('a conversation of three turns with a model that must call, whole and streamed the same', async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Weather?' }];
    for (const tool_choice of [
      'required',
      { type: 'function', function: { name: 'get_weather' } },
      'required',
    ] as const) {
      const body = { ...ask, messages, tools: [tool], tool_choice, parallel_tool_calls: false };
      const { choices } = await openai.chat.completions.create(body);
      expect(choices[0]!.finish_reason).toBe('tool_calls');
      const [call] = choices[0]!.message.tool_calls ?? [];
      if (call?.type !== 'function') throw new Error('no call of a function');
      expect(call.function.name).toBe('get_weather');
      expect(isValid(call.function.arguments), call.function.arguments).toBe(true);
      const stream = openai.chat.completions.stream(body);
      const streamed = (await stream.finalChatCompletion()).choices[0]!.message.tool_calls?.[0];
      expect(streamed).toMatchObject({
        function: { name: 'get_weather', arguments: call.function.arguments },
      });
      messages.push(choices[0]!.message, { role: 'tool', tool_call_id: call.id, content: '18' });
      messages.push({ role: 'user', content: 'And then?' });
    }
  });

  it('the same call through Responses and Messages', async () => {
    const content = 'Weather?';
    const body = { ...ask, messages: [{ role: 'user' as const, content }], tools: [tool] };
    const named = { type: 'function' as const, function: { name: 'get_weather' } };
    const chat = await openai.chat.completions.create({ ...body, tool_choice: named });
    const call = chat.choices[0]!.message.tool_calls?.[0];
    if (call?.type !== 'function') throw new Error('no call of a function');
    const response = await openai.responses.create({
      ...{ model: MODEL, input: content, max_output_tokens: 300, temperature: 0 },
      tools: [{ type: 'function', name: 'get_weather', parameters, strict: true }],
      tool_choice: { type: 'function', name: 'get_weather' },
    });
    expect(response.output).toMatchObject([{ type: 'function_call', arguments: call.function.arguments }]);
    const asked = {
      ...{ model: MODEL, max_tokens: 300, temperature: 0, messages: body.messages },
      tools: [{ name: 'get_weather', input_schema: parameters as unknown as Anthropic.Tool.InputSchema }],
      tool_choice: { type: 'tool' as const, name: 'get_weather' },
    };
    const input = JSON.parse(call.function.arguments) as object;
    expect((await anthropic.messages.create(asked)).content).toMatchObject([{ type: 'tool_use', input }]);
    const streamed = await anthropic.messages.stream(asked).finalMessage();
    expect(streamed.content).toMatchObject([{ type: 'tool_use', input }]);
    expect(streamed.stop_reason).toBe('tool_use');
  });

  it('the log tells how its answers are read', () => {
    const line = server.lines.find(({ msg }) => msg === 'answers are read by these parsers');
    expect(line).toMatchObject({ model: MODEL, calls: 'hermes', reasoning: null });
  });
});

describe('forms and probabilities', () => {
  it('n sampled answers in a form are valid and differ; a form that cannot be is a 400 with its place', async () => {
    const response_format = {
      type: 'json_schema' as const,
      json_schema: { name: 'weather', schema: parameters },
    };
    const body = {
      ...ask,
      messages: [{ role: 'user' as const, content: 'Weather?' }],
      temperature: 1,
      seed: 5,
      n: 4,
    };
    const { choices } = await openai.chat.completions.create({ ...body, response_format });
    const texts = choices.map(({ message }) => message.content ?? '');
    for (const text of texts) expect(isValid(text), text).toBe(true);
    expect(new Set(texts).size).toBeGreaterThan(1);
    const schema = { type: 'object', properties: { a: { not: {} } } };
    const bad = { type: 'json_schema' as const, json_schema: { name: 'bad', schema } };
    await expect(openai.chat.completions.create({ ...body, response_format: bad })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('$.properties.a.not: is not supported'),
    });
  });

  it('echo with log-probabilities, of ids, as lm-eval asks: the continuation has those of its own answer', async () => {
    const greedy = { model: MODEL, temperature: 0 };
    const tokens = async (prompt: string): Promise<number[]> => {
      const response = await server.post('/tokenize', { model: MODEL, prompt });
      return ((await response.json()) as { tokens: number[] }).tokens;
    };
    const prompt = await tokens('Once upon a time');
    const answer = await openai.completions.create({ ...greedy, prompt, max_tokens: 5, logprobs: 1 });
    const expected = answer.choices[0]!.logprobs!.token_logprobs as number[];
    const written = await tokens(`Once upon a time${answer.choices[0]!.text}`);
    const scored = await openai.completions.create({
      ...{ ...greedy, prompt: written, max_tokens: 0, logprobs: 1, echo: true, seed: 1 },
    });
    const { token_logprobs, tokens: told, top_logprobs } = scored.choices[0]!.logprobs!;
    expect(told).toHaveLength(written.length);
    expect(token_logprobs![0]).toBeNull();
    token_logprobs!.slice(-5).forEach((logprob, at) => {
      expect(Math.abs((logprob as number) - expected[at]!)).toBeLessThan(1e-3);
    });
    expect(top_logprobs!.slice(1).every((one) => one !== null)).toBe(true);
    const back = await server.post('/detokenize', { model: MODEL, tokens: written });
    expect(await back.json()).toEqual({ prompt: scored.choices[0]!.text });
  });
});

describe('a form that nothing fits', () => {
  const messages = [{ role: 'user', content: 'Once' }];
  type Told = Record<string, unknown>;
  const messageOf = (error: unknown): unknown => (error as Told).message;
  /** By dialect: path, body, status, and where its words stand. */
  const asks = (schema: object): [string, object, number, (body: Told) => unknown][] => [
    [
      '/v1/chat/completions',
      { messages, response_format: { type: 'json_schema', json_schema: { name: 'a', schema } } },
      400,
      ({ error }) => messageOf(error),
    ],
    [
      '/v1/completions',
      { prompt: 'Once', guided_json: schema, stream: true },
      400,
      ({ error }) => messageOf(error),
    ],
    [
      '/v1/responses',
      { input: 'Once', text: { format: { type: 'json_schema', name: 'a', schema } } },
      400,
      ({ error }) => messageOf(error),
    ],
    [
      '/v1/messages',
      { messages, max_tokens: 9, output_config: { format: { type: 'json_schema', schema } } },
      400,
      ({ error }) => messageOf(error),
    ],
    [
      '/predictions/teller',
      { inputs: 'Once', parameters: { guided_json: schema } },
      400,
      ({ message }) => message,
    ],
    [
      '/generate',
      { inputs: 'Once', parameters: { grammar: { type: 'json', value: schema } } },
      422,
      ({ error }) => error,
    ],
    ['/v2/models/teller/generate', { text_input: 'Once', guided_json: schema }, 400, ({ error }) => error],
  ];
  let deep: object = { type: 'null' };
  for (let depth = 0; depth < 70; depth++) deep = { type: 'array', items: deep };

  it.each<[string, object, string]>([
    [
      'contradictory',
      { type: 'object', properties: { a: { type: 'integer', minimum: 5, maximum: 4 } }, required: ['a'] },
      '$.properties.a: no value satisfies it',
    ],
    [
      'without an end',
      { type: 'object', properties: { self: { $ref: '#' } }, required: ['self'] },
      '$: no value satisfies it',
    ],
    ['too deep', deep, `$${'.items'.repeat(64)}: it lies more than 64 schemas deep`],
  ])('is refused at once by every dialect, with the place: %s', async (_what, schema, sentence) => {
    for (const [path, body, status, wordsOf] of asks(schema)) {
      const response = await server.post(path, { model: MODEL, ...body });
      const told = await response.json();
      expect([path, response.status, wordsOf(told as Told)], JSON.stringify(told)).toEqual([
        path,
        status,
        expect.stringContaining(`The JSON schema for the answer is not supported: ${sentence}`),
      ]);
    }
  });
});
