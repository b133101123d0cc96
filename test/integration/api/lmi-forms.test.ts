/** The forms of an answer to LMI's `inputs`: output_formatter's chats, tgi_compat, the best of several. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModelStatus } from '../../../server/requests/service.js';
import { model, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
beforeEach(async () => {
  test = await startServer();
});
afterEach(() => test.server.close());

async function ask(formatter: ModelStatus['outputFormatter'], body: object) {
  test.service.statuses = [model('mlp', { outputFormatter: formatter })];
  const { headers, status, text } = await postJson(`${test.url}/invocations`, body);
  expect(status, text).toBe(200);
  return { type: headers.get('content-type'), text };
}

describe('output_formatter', () => {
  it('json_chat is a chat completion, whatever stream says; a list of them for a list', async () => {
    const { text, type } = await ask('json_chat', { inputs: 'a b', stream: true });
    expect(type).toBe('application/json');
    expect(JSON.parse(text)).toMatchObject({
      object: 'chat.completion',
      model: 'mlp',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: ' w1 w2 w3' },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 },
    });
    const many = JSON.parse((await ask('json_chat', { inputs: ['a', 'b'] })).text) as object[];
    expect(many).toMatchObject([{ object: 'chat.completion' }, { object: 'chat.completion' }]);
    const { text: told } = await ask('json_chat', { inputs: 'a', parameters: { logprobs: true } });
    expect(JSON.parse(told)).toMatchObject({
      choices: [{ logprobs: { content: [{ logprob: -0.25 }, {}, {}] } }],
    });
  });

  it.each([
    ['jsonlines_chat', 'application/jsonlines', (text: string) => text.trim().split('\n')],
    [
      'sse_chat',
      'text/event-stream; charset=utf-8',
      (text: string) => {
        const events = text
          .trim()
          .split('\n\n')
          .map((one) => one.replace(/^data: /, ''));
        expect(events.pop()).toBe('[DONE]');
        return events;
      },
    ],
  ] as const)('%s is a stream of its chunks, whatever stream says', async (formatter, type, read) => {
    const told = await ask(formatter, { inputs: 'a' });
    expect(told.type).toBe(type);
    const chunks = read(told.text).map(
      (one) =>
        JSON.parse(one) as {
          object: string;
          choices: { delta: { content?: string }; finish_reason: string | null }[];
        },
    );
    expect(chunks.every(({ object }) => object === 'chat.completion.chunk')).toBe(true);
    expect(chunks.map(({ choices }) => choices[0]!.delta.content ?? '').join('')).toBe(' w1 w2 w3');
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe('stop');
  });
});

describe('tgi_compat', () => {
  it('is TGI’s list with details, its tokens, and its events', async () => {
    const { text } = await ask('tgi', {
      inputs: 'a',
      parameters: { details: true, decoder_input_details: true },
    });
    const [only] = JSON.parse(text) as [
      { generated_text: string; details: { tokens: object[]; prefill: object[] } },
    ];
    expect(only.generated_text).toBe(' w1 w2 w3');
    expect(only.details).toMatchObject({ finish_reason: 'eos_token', generated_tokens: 3 });
    expect(only.details.tokens[0]).toEqual({ id: 101, text: ' w1', logprob: -0.25, special: false });
    expect(only.details.prefill[0]).toEqual({ id: 10, text: 'once', logprob: null });
    const plain = await ask('tgi', { inputs: 'a', parameters: { details: false } });
    expect(JSON.parse(plain.text)).toEqual([{ generated_text: ' w1 w2 w3' }]);
    const streamed = await ask('tgi', { inputs: 'a', stream: true });
    expect(streamed.type).toBe('text/event-stream');
    const events = streamed.text
      .trim()
      .split('\n\n')
      .map((one) => JSON.parse(one.replace(/^data:/, '')) as object);
    expect(events.at(-1)).toMatchObject({
      generated_text: ' w1 w2 w3',
      details: { finish_reason: 'eos_token' },
    });
  });
});

describe('async_mode', () => {
  it('is the schema of LMI’s newer handler: details in TGI’s words, lines with all four members, an empty one last', async () => {
    const parameters = { details: true, decoder_input_details: true, seed: 3, max_new_tokens: 2 };
    const { text } = await ask('async', { inputs: 'a b', parameters });
    expect(JSON.parse(text)).toEqual({
      generated_text: ' w1 w2',
      details: {
        ...{ finish_reason: null, generated_tokens: 2, seed: 3 },
        prefill: [
          { id: 11, text: ' upon', logprob: -1 },
          { id: 12, text: ' a', logprob: -2 },
        ],
        tokens: [
          { id: 101, text: ' w1', logprob: -0.25 },
          { id: 102, text: ' w2', logprob: -0.5 },
        ],
      },
    });
    expect(
      JSON.parse((await ask('async', { inputs: 'a', parameters: { return_full_text: true } })).text),
    ).toEqual({
      generated_text: 'a w1 w2 w3',
    });
    const streamed = await ask('async', { inputs: 'a b', stream: true, parameters: { details: true } });
    expect(streamed.type).toBe('application/jsonlines');
    expect(streamed.text.endsWith('}\n\n')).toBe(true);
    const lines = streamed.text
      .trim()
      .split('\n')
      .map((one) => JSON.parse(one) as object);
    expect(lines).toEqual([
      { index: 0, token: { id: 101, text: ' w1', logprob: -0.25 }, generated_text: null, details: null },
      { index: 0, token: { id: 102, text: ' w2', logprob: -0.5 }, generated_text: null, details: null },
      {
        ...{ index: 0, token: { id: 103, text: ' w3', logprob: -0.75 }, generated_text: ' w1 w2 w3' },
        details: { finish_reason: 'stop', seed: null, generated_tokens: 3, input_length: 2 },
      },
    ]);
  });
});

it('best_of tells the best, the others in its details, and prefill is told where it is asked for', async () => {
  test.service.words = null;
  const parameters = { best_of: 3, do_sample: true, seed: 7, decoder_input_details: true };
  const asked = postJson(`${test.url}/invocations`, { inputs: 'a', parameters });
  const jobs = await Promise.all([0, 1, 2].map((index) => test.service.request(index)));
  expect(jobs.map(({ request }) => request.sampling.seed)).toEqual([7, 8, 9]);
  for (const [index, tokens] of [2, 1, 3].entries()) {
    jobs[index]!.tellPrompt(['once']);
    for (let token = 0; token < tokens; token += 1) jobs[index]!.token(` ${index}`);
    jobs[index]!.finish('length');
  }
  const { text } = await asked;
  expect(JSON.parse(text)).toMatchObject({
    generated_text: ' 1',
    details: {
      finish_reason: 'length',
      prefill: [{ id: 10, text: 'once', log_prob: null }],
      tokens: [{ log_prob: -0.25 }],
      best_of_sequences: [
        { generated_text: ' 0 0', generated_tokens: 2, prefill: [{ text: 'once' }] },
        { generated_text: ' 2 2 2', generated_tokens: 3 },
      ],
    },
  });
});
