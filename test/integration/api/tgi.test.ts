/** Text Generation Inference's own API: shapes, streams, best_of, what it refuses and how. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
beforeEach(async () => {
  test = await startServer();
});
afterEach(() => test.server.close());
const post = async (target: string, body: unknown) => {
  const { headers, status, text } = await postJson(`${test.url}${target}`, body);
  return { status, text, type: headers.get('content-type'), json: () => JSON.parse(text) };
};
const events = (text: string) =>
  text
    .split('\n\n')
    .filter(Boolean)
    .map((event) => {
      expect(event.startsWith('data:{')).toBe(true);
      return JSON.parse(event.slice(5));
    });

describe('/generate', () => {
  it('gives the text alone, and with details the tokens, the prompt and the alternatives', async () => {
    const plain = await post('/generate', { inputs: 'once upon a time', parameters: null });
    expect([plain.status, plain.json()]).toEqual([200, { generated_text: ' w1 w2 w3' }]);
    const { request } = test.service.submitted[0]!;
    expect(request).toMatchObject({
      usualNewTokens: 1024,
      sampling: { doSample: false },
      includeStopString: true,
    });

    const parameters = {
      details: true,
      decoder_input_details: true,
      top_n_tokens: 2,
      max_new_tokens: 2,
      seed: 5,
    };
    const { json } = await post('/generate', { inputs: 'once upon a', parameters });
    expect(json()).toMatchObject({
      generated_text: ' w1 w2',
      details: {
        ...{ finish_reason: 'length', generated_tokens: 2, seed: 5 },
        prefill: [{ text: 'once', logprob: null }, { text: ' upon', logprob: -1 }, { text: ' a' }],
        tokens: [
          { id: 101, text: ' w1', logprob: -0.25, special: false },
          { id: 102, text: ' w2' },
        ],
        top_tokens: [
          [{ text: ' w1' }, { text: 'alt1' }],
          [{ text: ' w2' }, { text: 'alt1' }],
        ],
      },
    });
  });

  it('answers with the best of several, and tells the others', async () => {
    test.service.words = null;
    const parameters = { best_of: 2, do_sample: true, details: true, return_full_text: true };
    const answer = post('/generate', { inputs: 'Once', parameters });
    const [first, second] = [await test.service.request(0), await test.service.request(1)];
    for (const word of [' a', ' b', ' c']) first.token(word);
    second.token(' z');
    first.finish('length');
    second.finish('end-id');
    const { details, generated_text } = (await answer).json();
    expect([generated_text, details.finish_reason]).toEqual(['Once z', 'eos_token']);
    expect(details.best_of_sequences).toMatchObject([
      { generated_text: 'Once a b c', finish_reason: 'length', generated_tokens: 3 },
    ]);
  });

  it('has a form by a grammar', async () => {
    const grammar = { type: 'json', value: { type: 'object' } };
    await post('/generate', { inputs: 'Once', parameters: { grammar } });
    expect(test.service.submitted[0]!.request.constraint).toEqual({
      ...{ spec: { kind: 'json-schema', schema: { type: 'object' } }, behind: null },
    });
  });

  it.each([
    [{ best_of: 2 }, 'you must use sampling when `best_of` is > 1'],
    [{ best_of: 2, do_sample: true, seed: 1 }, '`seed` must not be set when `best_of` > 1'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, '`stop` supports up to 4 stop sequences. Given: 5'],
    [{ adapter_id: 'a' }, 'adapter_id is not supported by this server: leave it out, got "a"'],
    [{ temperature: -1 }, 'temperature'],
  ])('refuses %j', async (parameters, sentence) => {
    const { json, status } = await post('/generate', { inputs: 'Once', parameters });
    expect([status, json().error_type]).toEqual([422, 'validation']);
    expect(json().error).toContain(`Input validation error: `);
    expect(json().error).toContain(sentence);
  });

  it.each([
    ['QUEUE_FULL', 429, 'overloaded'],
    ['MODEL_NOT_READY', 503, 'healthcheck'],
    ['WORKER_FAILED', 424, 'generation'],
  ] as const)('says %s as %i', async (code, status, kind) => {
    test.service.refuseWith = new ServingError(code, 'not now');
    const told = await post('/generate', { inputs: 'Once' });
    expect([told.status, told.json()]).toEqual([status, { error: 'not now', error_type: kind }]);
  });
});

describe('a stream', () => {
  it('has an event a token, the last with the whole text', async () => {
    const body = { inputs: 'Once', parameters: { details: true, max_new_tokens: 2, seed: 9 } };
    const { text, type } = await post('/generate_stream', body);
    expect(type).toBe('text/event-stream');
    expect(events(text)).toEqual([
      {
        ...{ index: 1, generated_text: null, details: null },
        token: { id: 101, text: ' w1', logprob: -0.25, special: false },
      },
      {
        ...{ index: 2, token: { id: 102, text: ' w2', logprob: -0.5, special: false } },
        generated_text: ' w1 w2',
        details: { finish_reason: 'length', generated_tokens: 2, seed: 9, input_length: 1 },
      },
    ]);
    const refused = await post('/generate_stream', {
      inputs: 'x',
      parameters: { decoder_input_details: true },
    });
    expect([refused.status, refused.json().error_type]).toEqual([422, 'validation']);
  });

  it('ends with an error that comes late', async () => {
    test.service.words = null;
    const answer = post('/generate_stream', { inputs: 'Once' });
    const job = await test.service.request(0);
    job.token(' a');
    job.fail(new ServingError('WORKER_FAILED', 'gone'));
    expect(events((await answer).text).at(-1)).toEqual({ error: 'gone', error_type: 'generation' });
  });
});

describe("the hub's way to ask", () => {
  it('is POST /, in a list or as a stream, and /info', async () => {
    expect((await post('/', { inputs: 'Once' })).json()).toEqual([{ generated_text: ' w1 w2 w3' }]);
    expect(events((await post('/', { inputs: 'Once', stream: true })).text)).toHaveLength(3);
    const info = (await (await fetch(`${test.url}/info`)).json()) as object;
    expect(info).toMatchObject({ model_id: 'mlp', max_total_tokens: 512, max_stop_sequences: 4 });
  });
});
