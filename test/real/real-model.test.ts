/**
 * SmolLM2-135M-Instruct, real weights, against transformers' answers in float32 (make_real_model.py).
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrated } from '../../partitioner/importance/calibrated.js';
import { partition, planPartition } from '../../partitioner/partition.js';
import { possibleDegrees } from '../../partitioner/plan/degrees.js';
import type { FormatOptions } from '../../partitioner/quantise/weight-format.js';
import { ChatTemplate, readChatTemplate } from '../../server/text/chat-template.js';
import { Tokenizer } from '../../server/text/tokenizer.js';
import { greedyRuns } from '../support/greedy-runs.js';
import { createInProcessGroup } from '../support/in-process-group.js';
import { ServerProcess } from '../support/server-process.js';
import { type Expected, REAL_GGUF, REAL_MODEL, readExpected, WHY_NO_REAL_MODEL } from './real-model.js';

/** For a log-probability, seen 2.2e-5. */
const TOLERANCE = 1e-4;
/** So many tokens of an answer are compared. */
const FIRST_TOKENS = 20;
/** It has 9 heads and 3 KV heads. */
const DEGREES = [1, 2, 3, 4];

it.skipIf(WHY_NO_REAL_MODEL !== null)(WHY_NO_REAL_MODEL ?? 'finds the real model', () => {});

describe.skipIf(WHY_NO_REAL_MODEL !== null)('a real model', () => {
  let store: string;
  let expected: Expected;

  beforeAll(() => {
    store = mkdtempSync(path.join(tmpdir(), 'shardserve-real-'));
    expected = readExpected();
  });
  afterAll(() => rmSync(store, { recursive: true, force: true }));

  const run = async (tp: number, format: FormatOptions, folder = REAL_MODEL) => {
    const options = { folder, outStore: store, tp, ...format };
    const { shardFolder } = await partition({ ...options, importance: await calibrated(options) });
    return greedyRuns(await createInProcessGroup(shardFolder, { slotTokens: 512 }));
  };

  it('makes the ids of transformers of every prompt, and its texts of the ids', async () => {
    const tokenizer = await Tokenizer.load(REAL_MODEL);
    for (const { ids, prompt, promptIds, text } of expected.texts) {
      expect(tokenizer.encode(prompt)).toEqual(promptIds);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(text);
    }
  });

  it('renders its chat template as transformers does', () => {
    const source = readChatTemplate(REAL_MODEL, null);
    expect(source).not.toBeNull();
    const template = new ChatTemplate(source!);
    for (const { messages, text } of expected.chats) {
      expect(template.render(messages, { addGenerationPrompt: true })).toBe(text);
    }
  });

  it('renders chats with tools as transformers does, whose template for this model tells it nothing of them', () => {
    const template = new ChatTemplate(readChatTemplate(REAL_MODEL, null)!);
    const weather = {
      name: 'weather',
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
    };
    const messages = [{ role: 'user', content: 'What is the weather in Paris?' }];
    const tools = [{ type: 'function', function: weather }];
    // By apply_chat_template of transformers 5.23 with these tools.
    expect(template.render(messages, { addGenerationPrompt: true, tools })).toBe(
      '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' +
        '<|im_start|>user\nWhat is the weather in Paris?<|im_end|>\n<|im_start|>assistant\n',
    );
  });

  it('writes the texts of transformers in float32, at every degree that there is up to 4', async () => {
    const { plan } = await planPartition({ folder: REAL_MODEL, tp: 1, dtype: 'fp32' });
    const degrees = possibleDegrees(plan.shape, plan.format).filter((degree) => degree <= 4);
    for (const tp of degrees) {
      const generate = await run(tp, { dtype: 'fp32' });
      for (const { ids, logprobs, promptIds } of expected.texts) {
        const seen = await generate(promptIds, ids.length);
        expect(seen.ids, `tp ${tp}`).toEqual(ids);
        const logprob = logProbability(seen.promptLogits, ids[0]!);
        expect(Math.abs(logprob - logprobs[0]!), `tp ${tp}`).toBeLessThan(TOLERANCE);
      }
    }
  });

  it('serves the GGUF file itself: its tokenizer, chat template and greedy texts are those of transformers, in float32', async () => {
    const tokenizer = await Tokenizer.load(REAL_GGUF);
    const source = readChatTemplate(REAL_GGUF, null);
    const template = new ChatTemplate(source!);
    for (const { messages, text } of expected.chats) {
      expect(template.render(messages, { addGenerationPrompt: true })).toBe(text);
    }
    const generate = await run(1, { dtype: 'fp32' }, REAL_GGUF);
    for (const { ids, logprobs, prompt, promptIds, text } of expected.texts) {
      expect(tokenizer.encode(prompt)).toEqual(promptIds);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(text);
      const seen = await generate(promptIds, ids.length);
      expect(seen.ids).toEqual(ids);
      expect(Math.abs(logProbability(seen.promptLogits, ids[0]!) - logprobs[0]!)).toBeLessThan(TOLERANCE);
    }
  });

  const beginnings = async (tp: number, format: FormatOptions, folder = REAL_MODEL): Promise<number> => {
    const generate = await run(tp, format, folder);
    let same = 0;
    for (const { ids, promptIds } of expected.texts.filter(({ isChat }) => isChat)) {
      const seen = await generate(promptIds, FIRST_TOKENS);
      if (seen.ids.join() === ids.slice(0, FIRST_TOKENS).join()) same++;
    }
    return same;
  };

  it('begins answers at int8 as in float32, at every degree', async () => {
    for (const tp of DEGREES)
      expect(await beginnings(tp, { dtype: 'int8' }), `tp ${tp}`).toBeGreaterThanOrEqual(8);
  });

  it('begins answers in the codes of its GGUF file as in float32, at every degree', async () => {
    for (const tp of DEGREES) {
      const same = await beginnings(tp, { dtype: 'int4' }, REAL_GGUF);
      expect(same, `tp ${tp}`).toBeGreaterThanOrEqual(6);
    }
  });

  it.each(DEGREES)(
    'answers at tp %i over HTTP, at int8, int4 and of the GGUF file, with tools and without',
    async (tp) => {
      const models = mkdtempSync(path.join(tmpdir(), 'shardserve-real-models-'));
      const formats = { int8: REAL_MODEL, int4: REAL_MODEL, gguf: REAL_GGUF };
      for (const [name, folder] of Object.entries(formats)) {
        const dtype = name === 'gguf' ? 'auto' : name;
        mkdirSync(path.join(models, name));
        writeFileSync(
          path.join(models, name, 'serving.properties'),
          `option.model_id=${folder}\noption.dtype=${dtype}\noption.tensor_parallel_degree=${tp}\noption.max_model_len=512\n`,
        );
      }
      const server = await ServerProcess.start({ SERVING_MODEL_STORE: models, SERVING_SHARD_STORE: store });
      try {
        for (const model of Object.keys(formats)) {
          for (const tools of [undefined, [{ type: 'function', function: { name: 'weather' } }]]) {
            const response = await server.post('/v1/chat/completions', {
              ...{ model, max_tokens: 24, temperature: 0, ...(tools && { tools }) },
              messages: [{ role: 'user', content: 'What is the capital of France?' }],
            });
            const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
            expect(choices[0]?.message.content, model).toBe('The capital of France is Paris.');
          }
        }
      } finally {
        await server.stop();
        rmSync(models, { recursive: true, force: true });
      }
    },
  );
});

function logProbability(logits: Float32Array, id: number): number {
  const largest = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return logits[id]! - largest - Math.log(sum);
}
