/**
 * Classifiers, cross-encoders and a decoder that embeds behind the running server, split over two worker processes: vLLM's paths and
 * DJLServing's, against transformers' scores.
 */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { activated } from '../../server/requests/text-labels.js';
import { goldenFolder } from '../support/golden.js';
import { type GoldenText, readEncoderGolden } from '../support/golden-encoders.js';
import { ServerProcess } from '../support/server-process.js';

const LIMIT_MS = 120_000;
const MODELS = {
  cross: 'encoder-classifier-bert',
  colours: 'encoder-classifier-roberta',
  tokens: 'encoder-classifier-bert-tokens',
  qwen: 'encoder-qwen3',
} as const;
const texts = (model: keyof typeof MODELS): GoldenText[] => readEncoderGolden(MODELS[model]).texts;
const LABELS = ['black', 'red', 'green', 'blue', 'white'];

let folder: string;
let server: ServerProcess;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'classifiers-'));
  const store = mkdtempSync(path.join(folder, 'models-'));
  for (const [name, golden] of Object.entries(MODELS))
    symlinkSync(goldenFolder(golden), path.join(store, name));
  server = await ServerProcess.start({
    ...{ SERVING_MODEL_STORE: store, SERVING_SHARD_STORE: path.join(folder, 'shards') },
    ...{ TENSOR_PARALLEL_DEGREE: '2', OPTION_THREADS_PER_RANK: '1' },
  });
}, LIMIT_MS);
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true });
});

async function post(url: string, body: object, status = 200) {
  const response = await server.post(url, body);
  const text = await response.text();
  expect([response.status, text]).toEqual([status, text]);
  return JSON.parse(text);
}

const near = (values: readonly number[]) => values.map((value) => expect.closeTo(value, 5));
const sigmoid = (score: number): number => activated([score], 'sigmoid')[0]!;

const pairs = texts('cross').filter(({ pair }) => pair !== undefined) as (GoldenText & { pair: string })[];

it.each(['/score', '/v1/score'])('%s gives a cross-encoder’s scores of pairs', async (url) => {
  const scores = pairs.map(({ vector }) => sigmoid(vector[0]!));
  const many = await post(url, {
    model: 'cross',
    text_1: pairs.map(({ text }) => text),
    text_2: pairs.map(({ pair }) => pair),
  });
  expect(many).toMatchObject({ id: expect.stringMatching(/^score-/), object: 'list', model: 'cross' });
  const data = scores.map((score, index) => ({ index, object: 'score', score: expect.closeTo(score, 5) }));
  expect(many.data).toEqual(data);
  const tokens = pairs.reduce((sum, { ids }) => sum + ids.length, 0);
  expect(many.usage).toEqual({ prompt_tokens: tokens, total_tokens: tokens });
  const [first] = pairs as [(typeof pairs)[0]];
  const one = await post(url, { model: 'cross', queries: first.text, documents: [first.pair] });
  expect(one.data).toEqual([data[0]]);
});

it.each(['/rerank', '/v1/rerank', '/v2/rerank'])('%s puts the best first', async (url) => {
  const [first] = pairs as [(typeof pairs)[0]];
  const documents = [first.pair, 'One day', 'A dog.'];
  const { data } = await post('/score', { model: 'cross', text_1: first.text, text_2: documents });
  const order = [0, 1, 2].sort((a, b) => data[b].score - data[a].score);
  const { results } = await post(url, { model: 'cross', query: first.text, documents, top_n: 2 });
  expect(results).toEqual(
    order.slice(0, 2).map((index) => ({
      ...{ index, document: { text: documents[index] } },
      relevance_score: data[index].score,
    })),
  );
});

it('an embedding model scores pairs by the cosine of both', async () => {
  const [a, b] = texts('qwen') as [GoldenText, GoldenText];
  const expected = a.vector.reduce((sum, value, index) => sum + value * b.vector[index]!, 0);
  const { data } = await post('/score', { model: 'qwen', text_1: a.text, text_2: [b.text, a.text] });
  expect(data.map(({ score }: { score: number }) => score)).toEqual(near([expected, 1]));
});

it('a decoder’s vectors are its last token’s, by OpenAI’s path', async () => {
  const { data } = await post('/v1/embeddings', {
    model: 'qwen',
    input: texts('qwen').map(({ text }) => text),
    truncate_prompt_tokens: -1,
  });
  expect(data.map(({ embedding }: { embedding: number[] }) => embedding)).toEqual(
    texts('qwen').map(({ vector }) => near(vector)),
  );
});

it('/classify gives chances and the best label', async () => {
  const { data } = await post('/classify', {
    model: 'colours',
    input: texts('colours').map(({ text }) => text),
    truncate_prompt_tokens: -1,
  });
  expect(data).toEqual(
    texts('colours').map(({ vector }, index) => {
      const probs = activated(vector, 'softmax');
      const label = LABELS[probs.indexOf(Math.max(...probs))];
      return { index, label, probs: near(probs), num_classes: 5 };
    }),
  );
});

it('/pooling gives scores as they are, of tokens a list each', async () => {
  const [text] = texts('tokens') as [GoldenText];
  const { data } = await post('/pooling', { model: 'tokens', input: text.text });
  const rows = text.ids.map((_, at) => near(text.vector.slice(5 * at, 5 * at + 5)));
  expect(data).toEqual([{ index: 0, object: 'pooling', data: rows }]);
  const [colour] = texts('colours') as [GoldenText];
  const scores = await post('/pooling', { model: 'colours', input: colour.text });
  expect(scores.data[0].data).toEqual(near(colour.vector));
});

it('DJLServing’s paths give labels, the best or the first few', async () => {
  const [text] = texts('colours') as [GoldenText];
  const ranked = activated(text.vector, 'softmax')
    .map((score, index) => ({ label: LABELS[index], score: expect.closeTo(score, 5), own: score }))
    .sort((a, b) => b.own - a.own)
    .map(({ label, score }) => ({ label, score }));
  expect(await post('/predictions/colours', { inputs: text.text })).toEqual(ranked.slice(0, 1));
  expect(await post('/predictions/colours', { inputs: [text.text] })).toEqual([ranked[0]]);
  expect(await post('/predictions/colours', { inputs: [text.text], parameters: { top_k: 3 } })).toEqual([
    ranked.slice(0, 3),
  ]);
});

it('DJLServing’s paths give a classifier of tokens entities', async () => {
  const [text] = texts('tokens') as [GoldenText];
  const entities = await post('/predictions/tokens', { inputs: text.text });
  // [CLS] and [SEP] are none of the text's.
  expect(entities.map(({ index }: { index: number }) => index)).toEqual(
    text.ids.slice(1, -1).map((_, at) => at + 1),
  );
  const scores = text.vector.slice(5, 10);
  const best = scores.indexOf(Math.max(...scores));
  expect(entities[0]).toEqual({
    ...{ entity: LABELS[best], index: 1, word: expect.any(String) },
    score: expect.closeTo(activated(scores, 'softmax')[best]!, 5),
  });
});

it('what a model is not for is refused in words', async () => {
  const refusals = [
    ['/v1/embeddings', { model: 'cross', input: 'a' }, 'Model cross is a classifier'],
    ['/v1/completions', { model: 'colours', prompt: 'a' }, 'Model colours is a classifier'],
    ['/classify', { model: 'qwen', input: 'a' }, 'Model qwen is an embedding model: it has no labels'],
    ['/classify', { model: 'tokens', input: 'a' }, 'scores tokens'],
    ['/score', { model: 'colours', text_1: 'a', text_2: 'b' }, 'has 5 labels'],
    [
      '/score',
      { model: 'cross', text_1: ['a', 'b', 'c'], text_2: ['b', 'c'] },
      'as many as text_2 has, got 3 and 2',
    ],
    ['/score', { model: 'cross', text_1: 'a' }, 'text_2 (or documents) is required'],
  ] as const;
  for (const [url, body, message] of refusals) {
    expect(await post(url, body, 400)).toMatchObject({
      error: { message: expect.stringContaining(message) },
    });
  }
});
