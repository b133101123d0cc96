/**
 * Every name of a sampling parameter that DJLServing's LMI or vLLM's OpenAI server knows: served, or refused by a sentence that
 * names it. None is dropped with a 200.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../../server/requests/generate-request.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';
import { readText } from '../../tidy/repository.js';

let test: TestServer;
beforeAll(async () => {
  test = await startServer();
});
afterAll(() => test.server.close());

/** What one request became; null where it was refused. */
async function requestOf(path: string, body: object): Promise<Partial<GenerateRequest> | string> {
  const before = test.service.submitted.length;
  const { status, text } = await postJson(test.url + path, body);
  if (status !== 200) return text;
  return test.service.submitted[before]!.request;
}

const lmi = (parameters: object) => requestOf('/invocations', { inputs: 'once upon', parameters });

/** LMI's names in common, then vLLM's, TRT-LLM's, and those of Hugging Face's accelerate. */
const SERVED: readonly (readonly [object, object])[] = [
  [{ do_sample: true }, { sampling: { doSample: true } }],
  [{ seed: 4 }, { sampling: { seed: 4 } }],
  [{ temperature: 0.5 }, { sampling: { temperature: 0.5 } }],
  [{ repetition_penalty: 1.5 }, { sampling: { repetitionPenalty: 1.5 } }],
  [{ top_k: 5 }, { sampling: { topK: 5 } }],
  [{ top_p: 0.5 }, { sampling: { topP: 0.5 } }],
  [{ max_new_tokens: 7 }, { maxNewTokens: 7 }],
  [{ details: true }, { logprob: true }],
  // It shapes the answer alone (djl.test).
  [{ return_full_text: true }, {}],
  [{ cache_salt: 'a' }, { cacheSalt: '[null,"a"]' }],
  [{ guided_json: { type: 'object' } }, { constraint: { spec: { kind: 'json-schema' } } }],
  [{ guided_choice: ['a'] }, { constraint: { spec: { kind: 'choice', texts: ['a'] } } }],
  [{ guided_grammar: 'root ::= "a"' }, { constraint: { spec: { kind: 'grammar' } } }],
  [{ guided_json_object: true }, { constraint: { spec: { kind: 'json-object' } } }],
  [{ stop_sequences: ['a'] }, { stopStrings: ['a'] }],
  [{ min_p: 0.1 }, { sampling: { minP: 0.1 } }],
  [{ presence_penalty: 1 }, { sampling: { presencePenalty: 1 } }],
  [{ frequency_penalty: 1 }, { sampling: { frequencyPenalty: 1 } }],
  [{ stop_token_ids: [5] }, { stopTokenIds: [5] }],
  [{ include_stop_str_in_output: true }, { includeStopString: true }],
  [{ ignore_eos_token: true }, { ignoreEndIds: true }],
  [{ ignore_eos: true }, { ignoreEndIds: true }],
  [{ skip_special_tokens: false }, { skipSpecialTokens: false }],
  [{ logprobs: 1 }, { logprob: true }],
  [{ top_n_tokens: 2 }, { topLogprobs: 2 }],
  [{ stop: 'b' }, { stopStrings: ['b'] }],
  [{ min_tokens: 3 }, { sampling: { minNewTokens: 3 } }],
  [{ max_tokens: 9 }, { maxNewTokens: 9 }],
  [{ logit_bias: { 5: 1 } }, { sampling: { logitBias: { 5: 1 } } }],
  [{ min_length: 2 }, { sampling: { minNewTokens: 2 } }],
  [{ min_new_tokens: 2 }, { sampling: { minNewTokens: 2 } }],
  [{ typical_p: 0.5 }, { sampling: { typicalP: 0.5 } }],
  [{ allowed_token_ids: [1, 2] }, { sampling: { allowedTokenIds: [1, 2] } }],
  [{ bad_words: ['a'], bad_sequences: ['b'] }, { sampling: { badWords: ['a', 'b'] } }],
  [
    { details: true, decoder_input_details: true },
    { logprob: true, promptLogprobs: 0 },
  ],
  [{ truncate: 5 }, { keptPromptTokens: 5 }],
  [{ truncate_prompt_tokens: -1 }, { keptPromptTokens: -1 }],
  [{ guided_regex: 'a+' }, { constraint: { spec: { kind: 'regex', pattern: 'a+' } } }],
  [{ structured_outputs: { choice: ['a'] } }, { constraint: { spec: { kind: 'choice', texts: ['a'] } } }],
  [{ response_format: { type: 'json_object' } }, { constraint: { spec: { kind: 'json-object' } } }],
  [{ manual_seed: 8 }, { sampling: { seed: 8 } }],
  [{ n: 2, do_sample: true }, { logprob: true }],
  [{ best_of: 2, temperature: 0.5 }, { logprob: true }],
  [
    { guided_json: { type: 'null' } },
    { constraint: { spec: { kind: 'json-schema', schema: { type: 'null' } } } },
  ],
  [{ guided_choice: ['a', 'b'] }, { constraint: { spec: { kind: 'choice', texts: ['a', 'b'] } } }],
  // As LMI's users send them.
  [
    { do_sample: true, min_tokens: 200, max_new_tokens: 256 },
    { maxNewTokens: 256, sampling: { doSample: true, minNewTokens: 200 } },
  ],
];

/** LMI's reference: in common, vLLM's (any field of its SamplingParams), TensorRT-LLM's, accelerate's. */
const LMI_NAMES = [
  ...[
    'do_sample',
    'seed',
    'temperature',
    'repetition_penalty',
    'top_k',
    'top_p',
    'max_new_tokens',
    'details',
  ],
  ...['return_full_text', 'stop_sequences', 'decoder_input_details', 'min_p', 'presence_penalty'],
  ...['frequency_penalty', 'n', 'best_of', 'num_beams', 'length_penalty', 'early_stopping', 'stop_token_ids'],
  ...['include_stop_str_in_output', 'ignore_eos_token', 'logprobs', 'prompt_logprobs', 'skip_special_tokens'],
  ...['spaces_between_special_tokens', 'top_n_tokens', 'truncate', 'min_length', 'bad_sequences', 'stop'],
  ...['typical_p', 'manual_seed', 'min_tokens', 'ignore_eos', 'max_tokens', 'allowed_token_ids', 'bad_words'],
  ...['logit_bias', 'logits_processors', 'detokenize', 'truncate_prompt_tokens', 'output_kind', 'extra_args'],
  ...['guided_decoding', 'structured_outputs', 'flat_logprobs', 'logprob_token_ids', 'repetition_detection'],
  ...['skip_reading_prefix_cache', 'thinking_token_budget'],
];

const REFUSED: Readonly<Record<string, unknown>> = {
  num_beams: 2,
  length_penalty: 2,
  early_stopping: true,
  prompt_logprobs: 1,
  spaces_between_special_tokens: false,
  logits_processors: ['a'],
  logprob_token_ids: [1],
  flat_logprobs: true,
  detokenize: false,
  add_special_tokens: false,
  output_kind: 1,
  extra_args: { a: 1 },
  guided_decoding: { json: {} },
  use_beam_search: true,
  thinking_token_budget: 5,
  repetition_detection: { a: 1 },
  skip_reading_prefix_cache: true,
  vllm_xargs: { a: 1 },
  watermark: true,
  grammar: { type: 'json' },
  adapter_id: 'a',
};

describe("LMI's sampling names", () => {
  it.each(SERVED)('%j is served', async (parameters, expected) => {
    expect(await lmi(parameters)).toMatchObject(expected);
  });

  it.each(Object.entries(REFUSED))('%s is refused by a sentence', async (name, value) => {
    expect(await lmi({ [name]: value })).toMatch(new RegExp(`\\b${name} is not supported by this server`));
  });

  it("are all of them in these tables, and the dialect's README tells which is which", () => {
    const served = SERVED.flatMap(([parameters]) => Object.keys(parameters));
    const refused = Object.keys(REFUSED);
    expect(LMI_NAMES.filter((name) => !served.includes(name) && !refused.includes(name))).toEqual([]);
    const readme = readText('server/http/dialects/djl/README.md');
    const told = (begins: string) => {
      const [paragraph = ''] = new RegExp(`^${begins}[^]*?\n\n`, 'm').exec(`${readme}\n`) ?? [];
      return [...new Set([...paragraph.matchAll(/`(\w+)`/g)].map(([, name]) => name))].sort();
    };
    expect(told('Served: ')).toEqual([...new Set(served)].sort());
    expect(told('Refused')).toEqual([...refused].sort());
  });

  it("the prompt's tokens are told in the details, with a request that has some and no stream", async () => {
    expect(await lmi({ decoder_input_details: true })).toMatch(/send details=true too/);
    const body = { inputs: 'once upon', parameters: { details: true, decoder_input_details: true } };
    expect(await requestOf('/invocations', { ...body, stream: true })).toMatch(/not told in a stream/);
    const { text } = await postJson(`${test.url}/invocations`, body);
    const { details } = JSON.parse(text) as {
      details: { prefill: { text: string; log_prob: number | null }[] };
    };
    expect(details.prefill.map(({ log_prob, text: own }) => [own, log_prob])).toEqual([
      ...[
        ['once', null],
        [' upon', -1],
        [' a', -2],
      ],
    ]);
  });

  it('one form of the answer may be asked for, and a bad one is told', async () => {
    expect(await lmi({ guided_regex: 'a', guided_choice: ['b'] })).toMatch(/only one form of the answer/);
    expect(await lmi({ guided_choice: 'b' })).toMatch(/guided_choice must be a list/);
  });

  it.each([
    [{ max_new_tokens: 5, max_tokens: 6 }, /max_new_tokens and max_tokens mean the same, but are 5 and 6/],
    [{ min_length: 1, min_tokens: 2 }, /min_length and min_tokens mean the same, but are 1 and 2/],
    [{ truncate: 5, truncate_prompt_tokens: 6 }, /truncate and truncate_prompt_tokens mean the same/],
    [{ ignore_eos: true, ignore_eos_token: false }, /ignore_eos_token and ignore_eos mean the same/],
  ])('%j contradicts itself', async (parameters, sentence) => {
    expect(await lmi(parameters)).toMatch(sentence);
  });

  it('one value under two names is one value', async () => {
    expect(await lmi({ min_length: 2, min_tokens: 2 })).toMatchObject({ sampling: { minNewTokens: 2 } });
  });
});

describe("OpenAI's and vLLM's names", () => {
  const complete = (fields: object) => requestOf('/v1/completions', { model: 'mlp', prompt: 'a', ...fields });
  const chat = (fields: object) =>
    requestOf('/v1/chat/completions', {
      ...{ model: 'mlp', messages: [{ role: 'user', content: 'a' }], ...fields },
    });
  const refused: Readonly<Record<string, unknown>> = {
    early_stopping: true,
    length_penalty: 2,
    use_beam_search: true,
    spaces_between_special_tokens: false,
    return_tokens_as_token_ids: true,
    return_token_ids: true,
    logits_processors: ['a'],
    thinking_token_budget: 5,
    mm_processor_kwargs: { a: 1 },
    kv_transfer_params: { a: 1 },
    vllm_xargs: { a: 1 },
    suffix: 'a',
    prompt_embeds: 'AAAA',
    priority: 5,
  };

  it.each([
    ['chat_template_kwargs', { a: 1 }, false],
    ['continue_final_message', true, false],
    ['max_completion_tokens', 5, false],
    ['top_logprobs', 2, false],
    ['tools', [{ type: 'function', function: { name: 'f' } }], false],
    ['echo', true, true],
    ['best_of', 2, true],
  ])('%s belongs to the other kind of request, which says so', async (name, value, isChat) => {
    const sentence = new RegExp(`${name} is not supported by this server`);
    expect(await (isChat ? chat : complete)({ [name]: value })).toMatch(sentence);
    const there = name === 'top_logprobs' ? { logprobs: true } : name === 'echo' ? { logprobs: 0 } : {};
    const messages = [{ role: 'assistant', content: 'a' }];
    const other = await (isChat ? complete : chat)({ [name]: value, ...there, ...(!isChat && { messages }) });
    expect(other).toMatchObject({ kind: 'generate' });
  });

  it('what the engine knows is served: allowed ids, words that are not written', async () => {
    const asked = {
      allowed_token_ids: [1, 2],
      bad_words: ['a'],
      ignore_eos: true,
      min_tokens: 1,
      max_tokens: 2,
      truncate_prompt_tokens: 7,
    };
    const served = {
      ...{ ignoreEndIds: true, keptPromptTokens: 7, maxNewTokens: 2 },
      sampling: { allowedTokenIds: [1, 2], badWords: ['a'], minNewTokens: 1 },
    };
    expect(await complete(asked)).toMatchObject(served);
    expect(await chat(asked)).toMatchObject(served);
  });

  it.each(Object.entries(refused))('%s is refused by a sentence', async (name, value) => {
    const sentence = new RegExp(`${name} is not supported by this server`);
    expect(await complete({ [name]: value })).toMatch(sentence);
    expect(await chat({ [name]: value })).toMatch(sentence);
  });

  it("reasoning_effort is the chat template's affair: a completion refuses it", async () => {
    expect(await complete({ reasoning_effort: 'high' })).toMatch(/reasoning_effort is not supported/);
    expect(await chat({ reasoning_effort: 'high' })).toMatchObject({
      prompt: { templateOptions: { reasoning_effort: 'high' } },
    });
  });

  it('special tokens are written by the tokenizer, and for a chat by its template: nothing else is served', async () => {
    expect(await complete({ add_special_tokens: true })).toMatchObject({ kind: 'generate' });
    expect(await complete({ add_special_tokens: false })).toMatch(/only true is accepted/);
    expect(await chat({ add_special_tokens: false })).toMatchObject({ kind: 'generate' });
    expect(await chat({ add_special_tokens: true })).toMatch(/only false is accepted/);
  });

  it('a completion without max_tokens asks for no number: 16 is usual, and gives way at the end of the context', async () => {
    expect(await complete({})).toMatchObject({ maxNewTokens: null, usualNewTokens: 16 });
    expect(await complete({ max_tokens: 3 })).toMatchObject({ maxNewTokens: 3 });
  });

  it('continuous_usage_stats: each chunk tells what its choice has used so far', async () => {
    const body = { model: 'mlp', prompt: 'a b', stream: true, max_tokens: 2 };
    const usagesOf = async (stream_options: object) => {
      const { text } = await postJson(`${test.url}/v1/completions`, { ...body, stream_options });
      return [...text.matchAll(/^data: (\{.*\})$/gm)].map(
        ([, line]) => (JSON.parse(line!) as { usage?: object | null }).usage,
      );
    };
    const usage = (completion_tokens: number) => ({
      ...{ prompt_tokens: 2, completion_tokens, total_tokens: 2 + completion_tokens },
    });
    const last = { ...usage(2), prompt_tokens_details: { cached_tokens: 0 } };
    expect(await usagesOf({ include_usage: true, continuous_usage_stats: true })).toEqual([
      ...[usage(1), usage(2), usage(2), last],
    ]);
    expect(await usagesOf({ include_usage: true })).toEqual([null, null, null, last]);
    expect(await usagesOf({ continuous_usage_stats: true })).toEqual(new Array(3).fill(undefined));
  });
});
