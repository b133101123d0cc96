/**
 * generation_config.json as a user meets it: copies of the embedded model with another one, over HTTP in both schemas. Its values are
 * defaults, a request's fields win, its end ids end a text, and what no sampler can have is one sentence when the model is loaded.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

type JsonRecord = Record<string, unknown>;

const EMBEDDED = path.join(repositoryRoot, 'models', 'embedded');
const PROMPT = 'Once upon a time';
const END = 0;
const vocabulary = (
  JSON.parse(readFileSync(path.join(EMBEDDED, 'tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number> };
  }
).model.vocab;
/** A story soon has one. */
const FULL_STOP = vocabulary['.']!;

let scratch: string;
let server: ServerProcess;
beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'generation-'));
  server = await ServerProcess.start({
    ...{ TENSOR_PARALLEL_DEGREE: '1', SERVING_REGISTRATION_FOLDERS: scratch },
  });
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true });
});

/** Loads a copy of the embedded model. @param files instead of its own; a text is written as it is */
async function load(name: string, files: Record<string, JsonRecord | string>): Promise<Response> {
  const folder = path.join(scratch, name);
  cpSync(EMBEDDED, folder, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    writeFileSync(path.join(folder, file), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return fetch(`${server.url}/models?url=${encodeURIComponent(folder)}&model_name=${name}`, {
    method: 'POST',
  });
}

async function loaded(name: string, generation: JsonRecord, more: Record<string, JsonRecord> = {}) {
  const response = await load(name, { 'generation_config.json': generation, ...more });
  expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
  return client(name);
}

interface Answer {
  text: string;
  tokens: number;
  finish: string;
}

function client(model: string) {
  const post = async (target: string, body: JsonRecord): Promise<JsonRecord> => {
    const response = await server.post(target, body);
    const answer = (await response.json()) as JsonRecord;
    expect([response.status, answer]).toEqual([200, expect.anything()]);
    return answer;
  };
  return {
    /** /predictions: greedy unless somebody says otherwise. */
    async predict(parameters: JsonRecord = {}): Promise<Answer> {
      const answer = await post(`/predictions/${model}`, {
        inputs: PROMPT,
        parameters: { max_new_tokens: 40, details: true, seed: 7, ...parameters },
      });
      const details = answer.details as { generated_tokens: number; finish_reason: string };
      return {
        text: answer.generated_text as string,
        tokens: details.generated_tokens,
        finish: details.finish_reason,
      };
    },
    /** /v1/completions: samples unless somebody says otherwise. */
    async complete(fields: JsonRecord = {}): Promise<Answer> {
      const answer = await post('/v1/completions', {
        model,
        prompt: PROMPT,
        max_tokens: 40,
        seed: 7,
        ...fields,
      });
      const [choice] = answer.choices as { text: string; finish_reason: string }[];
      return {
        text: choice!.text,
        tokens: (answer.usage as { completion_tokens: number }).completion_tokens,
        finish: choice!.finish_reason,
      };
    },
  };
}

describe('defaults', () => {
  const embedded = client('embedded');
  let greedy: Answer;
  beforeAll(async () => {
    greedy = await embedded.complete({ temperature: 0 });
  });

  it('do_sample and temperature: both schemas sample alike, and a request that says greedy is greedy', async () => {
    // The embedded model's own file: do_sample, temperature 0.8, top_k 40, top_p 0.95.
    const said = { temperature: 0.8, top_k: 40, top_p: 0.95 };
    const sampled = await embedded.complete();
    expect(sampled.text).not.toBe(greedy.text);
    expect(await embedded.complete(said)).toEqual(sampled);
    expect((await embedded.predict()).text).toBe(sampled.text);
    expect((await embedded.predict({ do_sample: false })).text).toBe(greedy.text);
  });

  it('without do_sample /predictions is greedy until a request asks, and OpenAI samples', async () => {
    const { complete, predict } = await loaded('quiet', { eos_token_id: END, temperature: 0.8, top_k: 40 });
    expect((await predict()).text).toBe(greedy.text);
    const sampled = await complete();
    expect(sampled.text).not.toBe(greedy.text);
    expect((await predict({ do_sample: true })).text).toBe(sampled.text);
  });

  it('do_sample false, or temperature 0, is greedy for both', async () => {
    const off = await loaded('off', { eos_token_id: END, do_sample: false, temperature: 0.8 });
    const cold = await loaded('cold', { eos_token_id: END, do_sample: true, temperature: 0 });
    for (const { complete, predict } of [off, cold]) {
      expect((await complete()).text).toBe(greedy.text);
      expect((await predict()).text).toBe(greedy.text);
    }
    // A request that names a temperature wants to sample.
    expect((await off.complete({ temperature: 1 })).text).not.toBe(greedy.text);
    expect((await off.predict({ do_sample: true, temperature: 1 })).text).not.toBe(greedy.text);
  });

  it('top_k, top_p and min_p cut to one token, each until a request says otherwise', async () => {
    const keys = ['top_k', 'top_p', 'min_p'];
    const all = { top_k: -1, top_p: 1, min_p: 0 };
    const { complete } = await loaded('cut', {
      ...{ eos_token_id: END, do_sample: true },
      ...{ top_k: 1, top_p: 1e-6, min_p: 1 },
    });
    for (const key of keys) {
      // The two others are taken back: this one still cuts.
      expect((await complete({ ...all, [key]: undefined })).text, key).toBe(greedy.text);
    }
    expect((await complete(all)).text).not.toBe(greedy.text);
  });

  it('penalties hold for greedy texts too', async () => {
    const none = { temperature: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0 };
    const penalties = { repetition_penalty: 2, presence_penalty: 2, frequency_penalty: 2 };
    const { complete } = await loaded('penalties', { eos_token_id: END, do_sample: false, ...penalties });
    for (const [key, value] of Object.entries(penalties)) {
      const penalised = await complete({ ...none, [key]: undefined });
      expect(penalised.text, key).not.toBe(greedy.text);
      expect(await embedded.complete({ ...none, [key]: value }), key).toEqual(penalised);
    }
    expect((await complete(none)).text).toBe(greedy.text);
  });
});

describe('ends', () => {
  const tokens = { temperature: 0, max_tokens: 60 };

  it('each id of the list ends a text; min_new_tokens holds them off; ignore_eos leaves them out', async () => {
    const one = await client('embedded').complete(tokens);
    const { complete, predict } = await loaded('ends', { eos_token_id: [END, FULL_STOP], do_sample: false });
    const ended = await complete(tokens);
    expect(ended.finish).toBe('stop');
    expect(one.text.startsWith(`${ended.text}.`)).toBe(true);
    expect(await predict({ max_new_tokens: 60 })).toMatchObject({ text: ended.text, finish: 'eos_token' });
    expect((await complete({ ...tokens, ignore_eos: true })).text).toBe(one.text);

    const least = ended.tokens + 5;
    const late = await loaded('late', {
      ...{ eos_token_id: [END, FULL_STOP], do_sample: false, min_new_tokens: least },
    });
    expect((await late.complete(tokens)).tokens).toBeGreaterThanOrEqual(least);
    expect(await late.complete({ ...tokens, min_tokens: 0 })).toEqual(ended);
  });

  it("the tokenizer's own end token is one, though generation_config.json does not list it", async () => {
    const { complete } = await loaded(
      'template-end',
      { eos_token_id: END, do_sample: false },
      { 'tokenizer_config.json': { eos_token: { content: '.', special: true } } },
    );
    expect((await complete(tokens)).finish).toBe('stop');
  });
});

describe('new tokens', () => {
  it('max_new_tokens is how long a chat is that names none; completions keep their own default', async () => {
    const template = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
    const { complete } = await loaded(
      'short',
      { eos_token_id: END, do_sample: false, max_new_tokens: 5 },
      { 'tokenizer_config.json': { eos_token: '<|endoftext|>', chat_template: template } },
    );
    const chat = async (fields: JsonRecord) => {
      const response = await server.post('/v1/chat/completions', {
        ...{ model: 'short', messages: [{ role: 'user', content: PROMPT }], ignore_eos: true },
        ...fields,
      });
      return ((await response.json()) as { usage: { completion_tokens: number } }).usage.completion_tokens;
    };
    expect(await chat({})).toBe(5);
    expect(await chat({ max_tokens: 9 })).toBe(9);
    expect((await complete({ max_tokens: undefined, ignore_eos: true })).tokens).toBe(16);
  });
});

describe('what is wrong', () => {
  it.each<[string, JsonRecord | string, string]>([
    ['hot', { temperature: 'hot' }, 'temperature is "hot", expected a finite number'],
    ['below', { temperature: -1 }, 'temperature is -1, expected a number of at least 0'],
    ['p', { top_p: 1.5 }, 'top_p is 1.5, expected a number above 0 and at most 1'],
    ['sampling', { do_sample: 'yes' }, 'do_sample is "yes", expected true or false'],
    ['end', { eos_token_id: [0, -1] }, 'eos_token_id is [0,-1], expected a token id or a list'],
    ['twice', '{"top_k": 1, "top_k": 2}', 'the key top_k occurs twice in one object'],
    ['json', '{', 'not JSON'],
  ])('%s is one sentence when the model is loaded', async (name, generation, sentence) => {
    const response = await load(`wrong-${name}`, { 'generation_config.json': generation });
    const text = await response.text();
    expect(response.status).toBe(400);
    const { message } = JSON.parse(text) as { message: string };
    expect(message).toContain('generation_config.json');
    expect(message).toContain(sentence);
  });

  it('settings that are not served are named in the log', async () => {
    const from = server.lines.length;
    await loaded('beams', { eos_token_id: END, num_beams: 4, no_repeat_ngram_size: 0, bad_words_ids: [[5]] });
    const { keys } = await server.line(({ msg }) => msg.includes('settings that are not served'), from);
    expect(keys).toEqual(['num_beams', 'bad_words_ids']);
  });

  it('a token that the tokenizer has and the model has not is the request’s failure alone', async () => {
    const json = JSON.parse(readFileSync(path.join(EMBEDDED, 'tokenizer.json'), 'utf8')) as {
      added_tokens: JsonRecord[];
    };
    json.added_tokens.push({ id: 5000, content: '<extra>', special: true });
    const { complete } = await loaded('extra', { eos_token_id: END }, { 'tokenizer.json': json as never });
    const response = await server.post('/v1/completions', { model: 'extra', prompt: `${PROMPT} <extra>` });
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringContaining('token id 5000 is not within 0 … 4095'),
    ]);
    expect((await complete()).tokens).toBe(40);
  });
});
