/**
 * What vLLM serves of models that generate nothing: POST /classify, /score, /v1/score, /rerank, /v1/rerank, /v2/rerank, /pooling.
 *
 * In      {"input": text | texts | ids}; {"text_1", "text_2"} (also queries and documents): one against one, one against many, or
 *         as many against as many; {"query", "documents", "top_n"}; "truncate_prompt_tokens" with each
 * Out     {"data": [{"index", "label", "probs", "num_classes"}]}; {"data": [{"index", "object": "score", "score"}]};
 *         {"results": [{"index", "document": {"text"}, "relevance_score"}]}, the best first; {"data": [{"index", "object": "pooling",
 *         "data"}]}: a vector, a classifier's scores as they are, of a classifier of tokens a list a token
 * Limits  MAX_INPUTS texts or pairs a request
 * Errors  as OpenAI's API says them; a text that is longer than the model takes is refused unless truncate_prompt_tokens says otherwise
 * Source  vLLM's server: pooling, classification and scoring APIs
 */

import { type Static, type TObject, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { promptsOf } from '../../../requests/completion-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { shortDecimal } from '../../../requests/tensor-elements.js';
import { activated, byToken } from '../../../requests/text-labels.js';
import type { Answer } from '../../answers/answer.js';
import { answerNowOrLater } from '../../answers/async-replies.js';
import { embedAll, shortDecimals } from '../../answers/embed-all.js';
import { labelsOf, type ScoreRun, scorePairs, scoreTexts } from '../../answers/text-scores.js';
import type { DocumentedRoute } from '../../dialect.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { embeddingRequests, InputField, MAX_INPUTS } from './openai-embeddings.js';
import { withOwnIds } from './openai-handlers.js';

const optional = Type.Optional;
const text = Type.String({ minLength: 1 });
const texts = Type.Array(text, { minItems: 1, maxItems: MAX_INPUTS });
const oneOrMore = Type.Union([text, texts], { expects: `a text or a list of at most ${MAX_INPUTS} texts` });
const common = {
  model: optional(Type.String({ minLength: 1, maxLength: 512 })),
  truncate_prompt_tokens: optional(Type.Integer({ minimum: -1, maximum: 16_777_216 })),
};

const InputBody = Type.Object({ ...common, input: InputField });
const ScoreBody = Type.Object({
  ...common,
  text_1: optional(oneOrMore),
  text_2: optional(oneOrMore),
  queries: optional(oneOrMore),
  documents: optional(oneOrMore),
});
const RerankBody = Type.Object({
  ...common,
  query: text,
  documents: texts,
  top_n: optional(Type.Integer({ minimum: 0, maximum: MAX_INPUTS })),
});

type Common = { model?: string; truncate_prompt_tokens?: number };
type Answers = (
  run: ScoreRun,
  body: never,
  status: ModelStatus | undefined,
  target: Target,
) => Promise<() => Promise<object>>;

const SCORE_PATHS = ['/score', '/v1/score'] as const;
const RERANK_PATHS = ['/rerank', '/v1/rerank', '/v2/rerank'] as const;

/** Cross-encoders, and vectors by their cosine. */
const PAIRS = ['text-classification', 'text-embedding'] as const;

export const POOLING_REFERENCE: readonly DocumentedRoute[] = [
  {
    ...{ method: 'POST', path: '/classify', summary: 'Chances of a classifier’s labels.', body: InputBody },
    example: (model) => ({ model, input: ['a text', 'another'] }),
    tasks: ['text-classification'],
  },
  ...SCORE_PATHS.map((path) => ({
    ...{ method: 'POST', path, summary: 'How well two texts go together.', body: ScoreBody },
    example: (model: string) => ({ model, text_1: 'a question', text_2: ['an answer', 'another'] }),
    tasks: PAIRS,
  })),
  ...RERANK_PATHS.map((path) => ({
    ...{ method: 'POST', path, summary: 'Documents by how well they answer.', body: RerankBody },
    example: (model: string) => ({ model, query: 'a question', documents: ['an answer', 'another'] }),
    tasks: PAIRS,
  })),
  {
    ...{ method: 'POST', path: '/pooling', summary: 'Vectors or scores as they are.', body: InputBody },
    example: (model) => ({ model, input: 'a text' }),
    tasks: PAIRS,
  },
];

export function poolingRoutes(
  app: FastifyInstance,
  context: HttpContext,
  target: (request: FastifyRequest, model: string | undefined) => Target,
): void {
  const route = (path: string, schema: TObject, answers: Answers): void => {
    app.post(path, { schema: { body: schema } }, (request, reply) => {
      const body = request.body as Common;
      const to = target(request, body.model);
      return answerNowOrLater(context, request, reply, async (client): Promise<Answer> => {
        const { service } = context;
        const run = { service, target: to, client, withOwnIds, ...cutOf(body) };
        const make = await answers(run, body as never, modelStatus(context, to), to);
        return { kind: 'value', make };
      });
    });
  };
  route('/classify', InputBody, classify);
  for (const path of SCORE_PATHS) route(path, ScoreBody, score);
  for (const path of RERANK_PATHS) route(path, RerankBody, rerank);
  route('/pooling', InputBody, pooling);
}

function cutOf({ truncate_prompt_tokens: cutAt }: Common) {
  if (cutAt === 0) {
    const sentence = 'truncate_prompt_tokens must be at least 1, or -1 for what the model takes, got 0';
    throw new InvalidInput(sentence, 'truncate_prompt_tokens');
  }
  return {
    truncate: cutAt === undefined ? null : true,
    truncateDefault: false,
    maxTokens: cutAt === undefined || cutAt === -1 ? null : cutAt,
  };
}

const headOf = (prefix: string, { model, requestId }: Target) => ({
  id: `${prefix}-${requestId}`,
  object: 'list',
  created: Math.floor(Date.now() / 1000),
  model,
});
const usageOf = (tokens: number) => ({ prompt_tokens: tokens, total_tokens: tokens });

async function classify(
  run: ScoreRun,
  body: Static<typeof InputBody>,
  status: ModelStatus | undefined,
  target: Target,
) {
  const labels = labelsOf(status, target.model);
  if (labels.perToken) {
    throw new InvalidInput('This model scores tokens, not texts: /pooling gives a list a token', 'model');
  }
  const collect = await scoreTexts(run, promptsOf(body.input));
  return async () => {
    const { promptTokens, vectors } = await collect();
    const data = vectors.map((scores, index) => {
      const probs = activated(scores, labels.activation);
      const best = probs.indexOf(Math.max(...probs));
      return { index, label: labels.names[best], probs: shortDecimals(probs), num_classes: probs.length };
    });
    return { ...headOf('classify', target), data, usage: usageOf(promptTokens) };
  };
}

async function score(
  run: ScoreRun,
  body: Static<typeof ScoreBody>,
  status: ModelStatus | undefined,
  target: Target,
) {
  const collect = await scorePairs(run, status, pairsOf(body));
  return async () => {
    const { promptTokens, vectors } = await collect();
    const data = vectors.map((value, index) => ({ index, object: 'score', score: shortDecimal(value) }));
    return { ...headOf('score', target), data, usage: usageOf(promptTokens) };
  };
}

function pairsOf({ documents, queries, text_1, text_2 }: Static<typeof ScoreBody>): [string, string][] {
  const [first, second] = [text_1 ?? queries, text_2 ?? documents];
  if (first === undefined) throw new InvalidInput('text_1 (or queries) is required', 'text_1');
  if (second === undefined) throw new InvalidInput('text_2 (or documents) is required', 'text_2');
  const [firsts, seconds] = [[first].flat(), [second].flat()];
  if (firsts.length === 1) return seconds.map((one) => [firsts[0]!, one]);
  if (firsts.length === seconds.length) return firsts.map((one, index) => [one, seconds[index]!]);
  const sizes = `${firsts.length} and ${seconds.length}`;
  throw new InvalidInput(`text_1 must be one text, or as many as text_2 has, got ${sizes}`, 'text_1');
}

async function rerank(
  run: ScoreRun,
  body: Static<typeof RerankBody>,
  status: ModelStatus | undefined,
  target: Target,
) {
  const { documents, query, top_n: most = 0 } = body;
  const collect = await scorePairs(
    run,
    status,
    documents.map((document) => [query, document]),
  );
  return async () => {
    const { promptTokens, vectors } = await collect();
    const results = vectors
      .map((value, index) => ({
        index,
        document: { text: documents[index] },
        relevance_score: shortDecimal(value),
      }))
      .sort((a, b) => b.relevance_score - a.relevance_score || a.index - b.index)
      .slice(0, most === 0 ? documents.length : most);
    const { id, model } = headOf('rerank', target);
    return { id, model, usage: { total_tokens: promptTokens }, results };
  };
}

async function pooling(
  run: ScoreRun,
  body: Static<typeof InputBody>,
  status: ModelStatus | undefined,
  target: Target,
) {
  const labels = status?.labels ?? null;
  const collect =
    labels === null
      ? await embedAll(
          run.service,
          withOwnIds(embeddingRequests(body, target)),
          run.client,
          (vector) => vector,
        )
      : await scoreTexts(run, promptsOf(body.input));
  return async () => {
    const { promptTokens, vectors } = await collect();
    const data = vectors.map((vector, index) => ({
      index,
      object: 'pooling',
      data: labels?.perToken ? byToken(vector, labels).map(shortDecimals) : shortDecimals(vector),
    }));
    return { ...headOf('pool', target), data, usage: usageOf(promptTokens) };
  };
}
