/** OpenAI's own client beside the real engine: completions, chat (by a checkpoint with a template), streams, log-probabilities. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}";
const PROMPT = 'Once upon a time';
const MODEL = 'teller';
const TOKENS = 6;

let scratch: string;
let server: ServerProcess;
let client: OpenAI;
beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'openai-client-'));
  const folder = path.join(scratch, MODEL);
  cpSync(path.join(repositoryRoot, 'models', 'embedded'), folder, { recursive: true });
  const file = path.join(folder, 'tokenizer_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, chat_template: TEMPLATE }));
  server = await ServerProcess.start({ SERVING_MODEL_STORE: scratch, TENSOR_PARALLEL_DEGREE: '2' });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true });
});

const completion = { model: MODEL, prompt: PROMPT, max_tokens: TOKENS, temperature: 0 };
const chat = {
  ...{ model: MODEL, max_tokens: TOKENS, temperature: 0 },
  messages: [{ role: 'user' as const, content: PROMPT }],
};

describe("OpenAI's client", () => {
  it('lists the model that it then asks', async () => {
    const ids: string[] = [];
    for await (const { id } of client.models.list()) ids.push(id);
    expect(ids).toEqual([MODEL]);
  });

  it('reads a completion, whole and streamed, the same text', async () => {
    const whole = await client.completions.create(completion);
    expect(whole.choices[0]).toMatchObject({ finish_reason: 'length', logprobs: null });
    expect(whole.usage).toMatchObject({ completion_tokens: TOKENS });
    const pieces: string[] = [];
    const stream = await client.completions.create({ ...completion, stream: true });
    for await (const { choices } of stream) pieces.push(choices[0]?.text ?? '');
    expect(pieces.length).toBeGreaterThan(TOKENS);
    expect(pieces.join('')).toBe(whole.choices[0]!.text);
    expect(whole.choices[0]!.text).toMatch(/\w/);
  });

  it('reads a chat, whole and streamed, with its usage: what its template makes is completed', async () => {
    const text = (await client.completions.create(completion)).choices[0]!.text;
    const whole = await client.chat.completions.create(chat);
    expect(whole.choices[0]!.message).toMatchObject({ role: 'assistant', content: text });
    const pieces: string[] = [];
    let used = 0;
    const stream = await client.chat.completions.create({
      ...{ ...chat, stream: true, stream_options: { include_usage: true } },
    });
    for await (const { choices, usage } of stream) {
      pieces.push(choices[0]?.delta.content ?? '');
      used = usage?.completion_tokens ?? used;
    }
    expect([pieces.join(''), used]).toEqual([text, TOKENS]);
  });

  it('reads log-probabilities: the greedy token is the likeliest, and alternatives are in order', async () => {
    const { choices } = await client.completions.create({ ...completion, logprobs: 3 });
    const logprobs = choices[0]!.logprobs!;
    expect(logprobs.tokens).toHaveLength(TOKENS);
    for (const [at, logprob] of logprobs.token_logprobs!.entries()) {
      expect(logprob).toBeLessThanOrEqual(0);
      expect(Math.max(...Object.values(logprobs.top_logprobs![at]!))).toBeCloseTo(logprob, 5);
    }
    const answer = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 3 });
    const content = answer.choices[0]!.logprobs!.content!;
    expect(content.map(({ logprob }) => logprob)).toHaveLength(TOKENS);
    for (const [at, { logprob, top_logprobs: top }] of content.entries()) {
      expect(logprob).toBeCloseTo(logprobs.token_logprobs![at]!, 5);
      expect(top.map(({ logprob: one }) => one)).toEqual(
        top.map(({ logprob: one }) => one).toSorted((a, b) => b - a),
      );
    }
  });

  it('throws its own kinds of errors', async () => {
    await expect(client.completions.create({ ...completion, model: 'none' })).rejects.toThrow(
      OpenAI.NotFoundError,
    );
    await expect(client.chat.completions.create({ ...chat, temperature: 9 })).rejects.toThrow(
      OpenAI.BadRequestError,
    );
  });
});
