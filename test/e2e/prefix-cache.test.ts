/** The prefix cache of the real server: the embedded model on two ranks, over HTTP. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parsePrometheus, sampleValue } from '../support/prometheus-text.js';
import { ServerProcess } from '../support/server-process.js';

const MODEL = { model: 'embedded', version: '' };
const NEW_TOKENS = 12;
const STORY =
  'Once upon a time there was a little girl who lived in a small house near the forest. One day she met an old man who ' +
  'had a red bird. The bird could sing, and the girl wanted to hear it every day. ';

interface Answer {
  text: string;
  promptTokens: number;
  cachedTokens: number;
}

function client(server: () => ServerProcess) {
  const complete = async (prompt: string, more: object = {}, headers: Record<string, string> = {}) => {
    const response = await fetch(`${server().url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({
        ...{ model: 'embedded', prompt, max_tokens: NEW_TOKENS, temperature: 0, ignore_eos: true },
        ...more,
      }),
    });
    expect(response.status).toBe(200);
    const body = (await response.json()) as {
      choices: { text: string }[];
      usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
    };
    const { prompt_tokens: promptTokens, prompt_tokens_details: details } = body.usage;
    return { text: body.choices[0]!.text, promptTokens, cachedTokens: details.cached_tokens };
  };
  const metric = async (name: string, more: Record<string, string | number> = {}): Promise<number> => {
    const text = await (await fetch(`${server().url}/metrics`)).text();
    return sampleValue(parsePrometheus(text), `shardserve_${name}`, { ...MODEL, ...more }) ?? Number.NaN;
  };
  return { complete, metric };
}

describe('with room', () => {
  let server: ServerProcess;
  const { complete, metric } = client(() => server);
  beforeAll(async () => {
    server = await ServerProcess.start({
      TENSOR_PARALLEL_DEGREE: '2',
      OPTION_REPORT_CACHED_TOKENS: 'true',
    });
  });
  afterAll(() => server?.stop());

  it('computes a prompt once, gives the same text, and says how much it found', async () => {
    const first = await complete(STORY);
    expect(first.cachedTokens).toBe(0);
    const second = await complete(STORY);
    expect(second).toEqual({ ...first, cachedTokens: first.promptTokens - 1 });
    expect(await metric('prefix_cache_queried_tokens_total')).toBe(2 * first.promptTokens);
    expect(await metric('prefix_cache_hit_tokens_total')).toBe(first.promptTokens - 1);
    // Nothing runs: what the ranks hold is the cache.
    expect(await metric('kv_tokens_used')).toBe(0);
    expect(await metric('prefix_cache_kv_tokens')).toBeGreaterThan(first.promptTokens);
  });

  it('goes on behind its own answer, as a chat does', async () => {
    const { promptTokens, text } = await complete(STORY);
    const next = await complete(`${STORY}${text} Then`);
    expect(next.cachedTokens).toBeGreaterThanOrEqual(promptTokens);
  });

  it('shares nothing between salts, by body or header', async () => {
    const prompt = `My secret. ${STORY}`;
    const { text } = await complete(prompt);
    const bodies: [object, Record<string, string>][] = [
      [{ cache_salt: 'a' }, {}],
      [{ cache_salt: 'b' }, {}],
      [{}, { 'x-cache-salt': 'a' }],
      [{ cache_salt: 'a' }, { 'x-cache-salt': 'a' }],
    ];
    for (const [more, headers] of bodies) {
      expect(await complete(prompt, more, headers)).toMatchObject({ text, cachedTokens: 0 });
      expect((await complete(prompt, more, headers)).cachedTokens).toBeGreaterThan(0);
    }
    const sized = await server.post('/v1/completions', { model: 'embedded', prompt, cache_salt: '' });
    expect(sized.status).toBe(400);
  });

  it('answers many at once that begin alike as it answers each alone', async () => {
    const prompts = Array.from({ length: 12 }, (_, index) => `${STORY}The ${index} birds of the king`);
    const alone: Answer[] = [];
    // A salt of its own each: nothing is shared.
    for (const [index, prompt] of prompts.entries()) {
      alone.push(await complete(prompt, { cache_salt: `alone ${index}` }));
    }
    const together = await Promise.all(prompts.map((prompt) => complete(prompt, { cache_salt: 'together' })));
    expect(together.map(({ text }) => text)).toEqual(alone.map(({ text }) => text));
    expect(together.filter(({ cachedTokens }) => cachedTokens > 20).length).toBeGreaterThanOrEqual(11);
  });

  it('draws the same text from the same seed, with penalties, behind shared rows', async () => {
    const sampling = { temperature: 1, seed: 11, repetition_penalty: 1.2, presence_penalty: 0.5 };
    const first = await complete(`A cat. ${STORY}`, sampling);
    const second = await complete(`A cat. ${STORY}`, sampling);
    expect(first.cachedTokens).toBe(0);
    expect(second.cachedTokens).toBe(first.promptTokens - 1);
    expect(second.text).toBe(first.text);
  });

  it('leaves its rows to others when it is cancelled', async () => {
    const abort = new AbortController();
    const from = server.lines.length;
    const body = { inputs: `A dog. ${STORY}`, parameters: { max_new_tokens: 200 }, stream: true };
    const response = await server.post('/predictions/embedded', body, abort.signal);
    await response.body!.getReader().read();
    abort.abort();
    await server.line((line) => line.msg === 'slot freed' && line.why === 'cancelled', from);
    expect((await complete(`A dog. ${STORY}`)).cachedTokens).toBeGreaterThan(20);
  });

  it('is gone with its workers, and a new group starts one of its own', async () => {
    const from = server.lines.length;
    process.kill(server.workerPids[0]!, 'SIGKILL');
    for (const rank of [0, 1]) {
      await server.line((line) => line.msg === 'shard worker ready' && line.rank === rank, from);
    }
    const first = await complete(STORY);
    expect(first.cachedTokens).toBe(0);
    expect(await complete(STORY)).toEqual({ ...first, cachedTokens: first.promptTokens - 1 });
  });
});

describe('in little memory', () => {
  let server: ServerProcess;
  const { complete, metric } = client(() => server);
  beforeAll(async () => {
    // 320 tokens of keys and values: a long request, or what is left of two short ones.
    server = await ServerProcess.start({ TENSOR_PARALLEL_DEGREE: '2', OPTION_KV_CACHE_MEMORY_MB: '2' });
  });
  afterAll(() => server?.stop());

  it('gives rows up for sequences that run, and all answers are as before', async () => {
    const capacity = await metric('kv_tokens_capacity');
    expect(capacity).toBe(320);
    const prompts = Array.from({ length: 6 }, (_, index) => `Tale ${index}. ${STORY}`);
    const first = await Promise.all(prompts.map((prompt) => complete(prompt, { max_tokens: 100 })));
    expect(await metric('prefix_cache_kv_tokens')).toBeLessThanOrEqual(capacity);
    const again = await Promise.all(prompts.map((prompt) => complete(prompt, { max_tokens: 100 })));
    expect(again.map(({ text }) => text)).toEqual(first.map(({ text }) => text));
    const touched = await metric('rank_kv_touched_bytes', { group: 0, rank: 0 });
    // 6 layers · keys and values · 64 columns a rank · 4 bytes.
    expect(touched).toBeLessThanOrEqual(capacity * 6 * 2 * 64 * 4);
    // All of it for one.
    expect((await complete(prompts[5]!, { max_tokens: 200 })).text.startsWith(again[5]!.text)).toBe(true);
  });
});

describe('without keys', () => {
  let server: ServerProcess;
  const { complete } = client(() => server);
  beforeAll(async () => {
    server = await ServerProcess.start({ TENSOR_PARALLEL_DEGREE: '1' });
  });
  afterAll(() => server?.stop());

  it('tells nobody without a salt what others have sent before; who names the salt shares it', async () => {
    expect(await complete(STORY)).toMatchObject({ cachedTokens: 0 });
    expect(await complete(STORY)).toMatchObject({ cachedTokens: 0 });
    await complete(STORY, { cache_salt: 'mine' });
    expect((await complete(STORY, { cache_salt: 'mine' })).cachedTokens).toBeGreaterThan(20);
  });
});

describe('with keys', () => {
  let server: ServerProcess;
  const { complete } = client(() => server);
  beforeAll(async () => {
    server = await ServerProcess.start({
      TENSOR_PARALLEL_DEGREE: '1',
      SERVING_API_KEY: 'a'.repeat(40),
      SERVING_MANAGEMENT_KEY: 'm'.repeat(40),
    });
  });
  afterAll(() => server?.stop());

  it('tells a key what it has sent itself, and nothing of the others', async () => {
    const by = (letter: string) => complete(STORY, {}, { authorization: `Bearer ${letter.repeat(40)}` });
    expect((await by('a')).cachedTokens).toBe(0);
    expect((await by('m')).cachedTokens).toBe(0);
    expect((await by('a')).cachedTokens).toBeGreaterThan(20);
  });
});

describe('switched off', () => {
  let server: ServerProcess;
  const { complete, metric } = client(() => server);
  beforeAll(async () => {
    server = await ServerProcess.start({
      TENSOR_PARALLEL_DEGREE: '1',
      OPTION_ENABLE_PREFIX_CACHING: 'false',
    });
  });
  afterAll(() => server?.stop());

  it('computes every prompt whole and keeps nothing', async () => {
    expect([await complete(STORY), await complete(STORY)]).toMatchObject([
      { cachedTokens: 0 },
      { cachedTokens: 0 },
    ]);
    expect(await metric('prefix_cache_queried_tokens_total')).toBe(0);
    expect(await metric('prefix_cache_kv_tokens')).toBe(0);
  });
});
