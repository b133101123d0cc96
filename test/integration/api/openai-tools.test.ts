/** Tools, reasoning and forms of an answer over a real port, asked by OpenAI's own client; a model's text is pushed by hand. */
import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AnswerFormat } from '../../../server/requests/answer-format.js';
import { model, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
let client: OpenAI;
beforeEach(async () => {
  test = await startServer();
  test.service.words = null;
  client = new OpenAI({ baseURL: `${test.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterEach(() => test.server.close());

const answersAs = (format: Partial<AnswerFormat>): void => {
  const answerFormat = { calls: null, reasoning: null, startsInside: false, ...format };
  test.service.statuses = [model('mlp', { answerFormat })];
};

const weather = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'Of a city',
    parameters: {
      type: 'object',
      properties: { city: { $ref: '#/$defs/city' } },
      required: ['city'],
      $defs: { city: { type: 'string' } },
    },
  },
};
const now = { type: 'function' as const, function: { name: 'now' } };
const user = { role: 'user' as const, content: 'Weather in Paris?' };
const ask = { model: 'mlp', messages: [user], tools: [weather, now] };

/** The text of the n-th request, in pieces of three characters. */
async function write(index: number, text: string, reason: 'end-id' | 'length' = 'end-id'): Promise<void> {
  const job = await test.service.request(index);
  for (const piece of text.match(/.{1,3}/gs) ?? []) job.token(piece);
  job.finish(reason);
}

const TWO_CALLS =
  '<think>\nWhich city?\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n' +
  '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>';

describe('tools by the openai client', () => {
  it('are in the prompt, and calls in the answer', async () => {
    answersAs({ calls: 'hermes', reasoning: 'qwen3' });
    const [answer] = await Promise.all([client.chat.completions.create(ask), write(0, TWO_CALLS)]);
    const [choice] = answer.choices;
    expect(choice).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        role: 'assistant',
        content: null,
        reasoning: 'Which city?',
        reasoning_content: 'Which city?',
        tool_calls: [
          { type: 'function', function: { name: 'get_weather', arguments: '{"city": "Paris"}' } },
          { type: 'function', function: { name: 'now', arguments: '{}' } },
        ],
      },
    });
    const { prompt } = test.service.submitted[0]!.request;
    expect(prompt).toEqual({ kind: 'chat', messages: [user], tools: [weather, now] });
  });

  it('go back and forth over three turns, arguments as objects for the template', async () => {
    answersAs({ calls: 'hermes' });
    const call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>';
    const [first] = await Promise.all([client.chat.completions.create(ask), write(0, call)]);
    const { message } = first.choices[0]!;
    const [asked] = message.tool_calls!;
    const messages = [
      user,
      message,
      { role: 'tool' as const, tool_call_id: asked!.id, content: '18 °C' },
      { role: 'user' as const, content: 'And now?' },
    ];
    const [second] = await Promise.all([
      client.chat.completions.create({ ...ask, messages }),
      write(1, 'It is 18 °C.'),
    ]);
    expect(second.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: 'It is 18 °C.' } });
    expect(second.choices[0]!.message.tool_calls).toBeUndefined();
    const { prompt } = test.service.submitted[1]!.request;
    expect(prompt.kind === 'chat' && prompt.messages.slice(1, 3)).toEqual([
      {
        role: 'assistant',
        content: '',
        refusal: null,
        tool_calls: [
          {
            id: asked!.id,
            type: 'function',
            function: { name: 'get_weather', arguments: { city: 'Paris' } },
          },
        ],
      },
      { role: 'tool', tool_call_id: asked!.id, content: '18 °C' },
    ]);
  });

  it('are streamed: reasoning, then each call with its arguments piece by piece', async () => {
    answersAs({ calls: 'hermes', reasoning: 'qwen3' });
    const written = write(0, TWO_CALLS);
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    const deltas: Record<string, unknown>[] = [];
    let reason: string | null = null;
    for await (const { choices } of stream) {
      deltas.push(choices[0]!.delta as Record<string, unknown>);
      reason = choices[0]!.finish_reason ?? reason;
    }
    await written;
    expect(reason).toBe('tool_calls');
    expect(deltas.map((delta) => delta.reasoning_content ?? '').join('')).toBe('Which city?');
    expect(deltas.map((delta) => delta.content ?? '').join('')).toBe('');
    const calls = deltas.flatMap(
      ({ tool_calls }) => (tool_calls ?? []) as OpenAI.ChatCompletionChunk.Choice.Delta.ToolCall[],
    );
    const read = [0, 1].map((index) => {
      const own = calls.filter((call) => call.index === index);
      return {
        name: own[0]!.function!.name,
        ids: own.filter(({ id }) => id !== undefined).length,
        arguments: own.map((call) => call.function?.arguments ?? '').join(''),
      };
    });
    expect(read).toEqual([
      { name: 'get_weather', ids: 1, arguments: '{"city": "Paris"}' },
      { name: 'now', ids: 1, arguments: '{}' },
    ]);
    expect(calls.filter((call) => call.index === 0).length).toBeGreaterThan(3);
  });

  it('those that are allowed are all that there are', async () => {
    const functions = [{ type: 'function' as const, function: { name: 'now' } }];
    const tool_choice = {
      type: 'allowed_tools' as const,
      allowed_tools: { mode: 'required' as const, tools: functions },
    };
    const call = '[{"name": "now", "parameters": {}}]';
    const [answer] = await Promise.all([
      client.chat.completions.create({ ...ask, tool_choice }),
      write(0, call),
    ]);
    expect(answer.choices[0]!.message.tool_calls).toMatchObject([{ function: { name: 'now' } }]);
    expect(test.service.submitted[0]!.request).toMatchObject({
      prompt: { tools: [now] },
      constraint: { spec: { schema: { items: { anyOf: [{ properties: { name: { const: 'now' } } }] } } } },
    });
    // As the Responses say it.
    const flat = {
      type: 'allowed_tools' as const,
      mode: 'auto' as const,
      tools: [{ type: 'function', name: 'now' }],
    };
    const tools = [weather, now].map(({ function: of, type }) => ({
      ...{ type, strict: false, parameters: {}, ...of },
    }));
    await Promise.all([
      client.responses.create({ model: 'mlp', input: 'a', tools, tool_choice: flat }),
      write(1, 'b'),
    ]);
    expect(test.service.submitted[1]!.request.prompt).toMatchObject({
      tools: [{ function: { name: 'now' } }],
    });
    await expect(
      client.chat.completions.create({
        ...ask,
        tool_choice: { ...tool_choice, allowed_tools: { mode: 'auto', tools: [{ name: 'none' }] } },
      }),
    ).rejects.toMatchObject({ status: 400, param: 'tool_choice' });
  });

  it('parallel_tool_calls false: the first alone', async () => {
    answersAs({ calls: 'hermes', reasoning: 'qwen3' });
    const [answer] = await Promise.all([
      client.chat.completions.create({ ...ask, parallel_tool_calls: false }),
      write(0, TWO_CALLS),
    ]);
    expect(answer.choices[0]!.message.tool_calls).toHaveLength(1);
  });

  it('tool_choice none: calls stay text', async () => {
    answersAs({ calls: 'hermes' });
    const text = '<tool_call>{"name": "now"}</tool_call>';
    const [answer] = await Promise.all([
      client.chat.completions.create({ ...ask, tool_choice: 'none' }),
      write(0, text),
    ]);
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: text } });
  });

  it('tool_choice with a name: the answer is its arguments, and constrained to be', async () => {
    answersAs({ calls: 'hermes' });
    const [answer] = await Promise.all([
      client.chat.completions.create({
        ...ask,
        tool_choice: { type: 'function', function: { name: 'get_weather' } },
      }),
      write(0, '{"city": "Rome"}'),
    ]);
    expect(answer.choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { tool_calls: [{ function: { name: 'get_weather', arguments: '{"city": "Rome"}' } }] },
    });
    expect(test.service.submitted[0]!.request.constraint).toEqual({
      spec: { kind: 'json-schema', schema: { ...weather.function.parameters } },
      behind: null,
    });
  });

  it('tool_choice required: a list of calls, behind what a model thinks', async () => {
    answersAs({ reasoning: 'deepseek_r1', startsInside: true });
    const [answer] = await Promise.all([
      client.chat.completions.create({ ...ask, tool_choice: 'required' }),
      write(0, 'hm\n</think>\n\n[{"name": "now", "parameters": {}}]'),
    ]);
    expect(answer.choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { reasoning_content: 'hm', tool_calls: [{ function: { name: 'now', arguments: '{}' } }] },
    });
    const { constraint } = test.service.submitted[0]!.request;
    expect(constraint!.behind).toEqual({ open: '<think>', close: '</think>', startsInside: true });
    expect(JSON.stringify(constraint!.spec)).toContain(
      '"$ref":"#/items/anyOf/0/properties/parameters/$defs/city"',
    );
  });

  it('special tokens stay where a marker is one', async () => {
    answersAs({ calls: 'mistral' });
    const [answer] = await Promise.all([
      client.chat.completions.create(ask),
      write(0, '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}'),
    ]);
    expect(answer.choices[0]!.message.tool_calls![0]!.id).toMatch(/^[0-9a-f]{9}$/);
    expect(test.service.submitted[0]!.request.skipSpecialTokens).toBe(false);
  });
});

describe('what a chat template is told', () => {
  it('chat_template_kwargs, reasoning_effort, and an answer that goes on', async () => {
    answersAs({ reasoning: 'qwen3' });
    const messages = [user, { role: 'assistant', content: 'In Paris' }];
    const body = {
      model: 'mlp',
      messages,
      continue_final_message: true,
      reasoning_effort: 'low',
      chat_template_kwargs: { enable_thinking: false, persona: 'a cat' },
    };
    const [answer] = await Promise.all([
      postJson(`${test.url}/v1/chat/completions`, body),
      write(0, ' it rains'),
    ]);
    expect(answer.status).toBe(200);
    expect(test.service.submitted[0]!.request.prompt).toEqual({
      kind: 'chat',
      messages,
      addGenerationPrompt: false,
      continueFinalMessage: true,
      templateOptions: { reasoning_effort: 'low', enable_thinking: false, persona: 'a cat' },
    });
  });
});

describe('a form of the answer', () => {
  const schema = { type: 'object', properties: { a: { type: 'integer' } } };
  const forms: [string, object, unknown][] = [
    ['json_object', { response_format: { type: 'json_object' } }, { kind: 'json-object' }],
    [
      'json_schema',
      { response_format: { type: 'json_schema', json_schema: { name: 'a', strict: true, schema } } },
      { kind: 'json-schema', schema },
    ],
    // As huggingface_hub and Text Generation Inference say it, and llama.cpp's server.
    ...[
      { type: 'json_object', value: schema },
      { type: 'json', value: schema },
      { type: 'json_object', schema },
    ].map((format): [string, object, unknown] => [
      JSON.stringify(Object.keys(format)),
      { response_format: format },
      { kind: 'json-schema', schema },
    ]),
    [
      'json_schema as value',
      { response_format: { type: 'json_schema', value: { name: 'a', schema } } },
      { kind: 'json-schema', schema },
    ],
    ['regex', { response_format: { type: 'regex', value: 'a+' } }, { kind: 'regex', pattern: 'a+' }],
    ['structured_outputs', { structured_outputs: { regex: 'a+' } }, { kind: 'regex', pattern: 'a+' }],
    ['guided_json as text', { guided_json: JSON.stringify(schema) }, { kind: 'json-schema', schema }],
    ['guided_choice', { guided_choice: ['yes', 'no'] }, { kind: 'choice', texts: ['yes', 'no'] }],
    ['guided_grammar', { guided_grammar: 'root ::= "a"' }, { kind: 'grammar', source: 'root ::= "a"' }],
    ['text', { response_format: { type: 'text' } }, undefined],
  ];

  it.each(forms)('%s reaches the model, of a chat and of a completion', async (_, fields, spec) => {
    test.service.words = 2;
    const chat = { model: 'mlp', messages: [user], ...fields };
    expect((await postJson(`${test.url}/v1/chat/completions`, chat)).status).toBe(200);
    expect(
      (await postJson(`${test.url}/v1/completions`, { model: 'mlp', prompt: 'a', ...fields })).status,
    ).toBe(200);
    expect(test.service.submitted.map(({ request }) => request.constraint?.spec)).toEqual([spec, spec]);
  });

  it.each([
    [
      { response_format: { type: 'xml' } },
      'response_format',
      /must be "text", "json_object", "json_schema" or "regex"/,
    ],
    [{ response_format: { type: 'json_schema' } }, 'response_format', /json_schema.schema is required/],
    [{ guided_json: '{' }, 'guided_json', /is not the JSON text of a schema/],
    [{ guided_choice: [] }, 'guided_choice', /must be a list of at least one text/],
    [{ guided_regex: 'a', guided_choice: ['a'] }, 'structured_outputs', /only one form/],
    [
      { structured_outputs: { structural_tag: '{}' } },
      'structured_outputs',
      /structural_tag is not supported/,
    ],
    [{ tool_choice: 'required' }, 'tool_choice', /needs tools/],
    [
      { tools: [now], tool_choice: { type: 'function', function: { name: 'then' } } },
      'tool_choice',
      /names the function then, which is not in tools/,
    ],
    [{ tools: [now], tool_choice: 'required', guided_regex: 'a' }, 'tool_choice', /cannot both be asked for/],
    [
      { continue_final_message: true, add_generation_prompt: true },
      'continue_final_message',
      /cannot both be true/,
    ],
  ])('is refused in words: %j', async (fields, param, message) => {
    const body = { model: 'mlp', messages: [user], ...fields };
    const { status, text } = await postJson(`${test.url}/v1/chat/completions`, body);
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({
      error: { type: 'invalid_request_error', param, message: expect.stringMatching(message) },
    });
  });
});

describe("today's fields of OpenAI's and vLLM's chats", () => {
  it('an effort of none: templates are told by their switches, and the answer is read without a thought', async () => {
    answersAs({ reasoning: 'deepseek_r1', startsInside: true });
    const [answer] = await Promise.all([
      client.chat.completions.create({ model: 'mlp', messages: [user], reasoning_effort: 'none' }),
      write(0, 'No thought.'),
    ]);
    expect(answer.choices[0]!.message.content).toBe('No thought.');
    expect(test.service.submitted[0]!.request.prompt).toMatchObject({
      templateOptions: { reasoning_effort: 'none', enable_thinking: false, thinking: false },
    });
  });

  it('a thought goes back by either name', async () => {
    const thought = { role: 'assistant' as const, content: 'b', reasoning: 'hm' };
    await Promise.all([
      client.chat.completions.create({ model: 'mlp', messages: [user, thought, user] }),
      write(0, 'a'),
    ]);
    const { prompt } = test.service.submitted[0]!.request;
    expect(prompt.kind === 'chat' && prompt.messages[1]).toMatchObject({ reasoning_content: 'hm' });
  });

  it('what changes no text is taken: modalities of text, a prediction; and what ended it is told', async () => {
    const body = {
      ...{ model: 'mlp', messages: [user], modalities: ['text' as const], stop: ['x', 'END'] },
      prediction: { type: 'content' as const, content: 'a' },
    };
    const finish = async (index: number) => {
      const job = await test.service.request(index);
      job.token('a');
      job.finish('stop-string', '', 'END');
    };
    const ended = { finish_reason: 'stop', stop_reason: 'END' };
    const [answer] = await Promise.all([client.chat.completions.create(body), finish(0)]);
    expect(answer.choices[0]).toMatchObject(ended);
    const written = finish(1);
    const chunks: unknown[] = [];
    for await (const { choices } of await client.chat.completions.create({ ...body, stream: true }))
      chunks.push(choices[0]);
    await written;
    expect(chunks.at(-1)).toMatchObject(ended);
    const { modalities: _, messages: __, ...rest } = body;
    const [text] = await Promise.all([client.completions.create({ ...rest, prompt: 'a' }), finish(2)]);
    expect(text.choices[0]).toMatchObject(ended);
    await expect(
      client.chat.completions.create({ ...body, modalities: ['text', 'audio'] }),
    ).rejects.toMatchObject({ status: 400, param: 'modalities' });
  });
});
