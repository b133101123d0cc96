/**
 * Answers a text-classification or token-classification request of DJLServing's LMI.
 *
 * In      a checked body ({"inputs": text | texts, "parameters": {"top_k", "function_to_apply"}}), the classifier it goes to
 * Out     of texts {"label", "score"}: of one text, and of each of a list, the best label in a list, or with top_k so many of them, the
 *         best first; of tokens a list of {"entity", "score", "index", "word"} a text, those of "O" left out
 * Limits  a text that is longer than the model takes is cut, as DJL does; "truncate": false, or option.truncate_texts, refuses it. Where in
 *         the text a token stands is not told
 * Errors  ServingError; InvalidInput
 * Source  transformers' pipelines text-classification and token-classification, which LMI's handler runs
 */

import type { FastifyBaseLogger } from 'fastify';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { shortDecimal } from '../../../requests/tensor-elements.js';
import { activated, byToken, type TextLabels } from '../../../requests/text-labels.js';
import type { Answer } from '../../answers/answer.js';
import { labelsOf, scoreTexts } from '../../answers/text-scores.js';
import type { HttpContext } from '../../http-context.js';
import { withOwnIds } from '../openai/openai-handlers.js';
import type { LmiBody } from './lmi-request.js';

const ACTIVATIONS = ['softmax', 'sigmoid', 'none'] as const;
const OUTSIDE = 'O';

/** @throws ServingError */
export async function answerLmiLabels(
  { service }: HttpContext,
  log: FastifyBaseLogger,
  body: LmiBody,
  status: ModelStatus,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  const labels = labelsOf(status, target.model);
  if (body.stream === true) throw new InvalidInput('Labels cannot be streamed: leave stream out', 'stream');
  const { truncate = null } = body as { truncate?: unknown };
  if (truncate !== null && typeof truncate !== 'boolean') {
    throw new InvalidInput('truncate must be true or false', 'truncate');
  }
  const {
    function_to_apply: asked = null,
    top_k: most,
    ...others
  } = (body.parameters ?? {}) as Record<string, unknown>;
  const unknown = Object.keys(others);
  if (unknown.length > 0) {
    log.warn({ parameters: unknown.slice(0, 20) }, 'parameters are dropped: a classifier has none of these');
  }
  const activation = asked === null ? labels.activation : ACTIVATIONS.find((name) => name === asked);
  if (activation === undefined) {
    throw new InvalidInput(`function_to_apply must be one of ${ACTIVATIONS.join(', ')}`, 'function_to_apply');
  }
  const isList = Array.isArray(body.inputs);
  const prompts = [body.inputs].flat().map((text) => ({ kind: 'text' as const, text }));
  const run = { service, target, client, withOwnIds, truncate, truncateDefault: true, maxTokens: null };
  const tokens = labels.perToken ? service.tokens?.(target.model, target.version) : undefined;
  const encode = async (prompt: (typeof prompts)[number]): Promise<TextTokens> => {
    const [ids = [], own = []] = [
      await tokens?.encode(prompt, true, client.signal),
      await tokens?.encode(prompt, false, client.signal),
    ];
    const first = ids.findIndex((_, at) => own.every((id, index) => ids[at + index] === id));
    return { ids, first: Math.max(0, first), behind: ids.length - Math.max(0, first) - own.length };
  };
  const texts = await Promise.all(prompts.map(encode));
  const collect = await scoreTexts(run, prompts);
  const make = async (): Promise<unknown> => {
    const { vectors } = await collect();
    if (labels.perToken) {
      const found = vectors.map((vector, index) =>
        entities(byToken(vector, labels), labels, activation, texts[index]!, (id) => tokens?.text(id) ?? ''),
      );
      return isList ? found : found[0];
    }
    const ranked = vectors.map((scores) => bestLabels(scores, labels, activation));
    const count = typeof most === 'number' && most > 0 ? most : 1;
    if (most !== undefined && isList) return ranked.map((row) => row.slice(0, count));
    return isList ? ranked.map((row) => row[0]) : ranked[0]?.slice(0, count);
  };
  return { kind: 'value', make: make as () => Promise<object> };
}

/** Tokens of a text, the tokenizer's own around it too; how many of these stand before and behind it. */
interface TextTokens {
  ids: readonly number[];
  first: number;
  behind: number;
}

function bestLabels(scores: readonly number[], { names }: TextLabels, activation: TextLabels['activation']) {
  return activated(scores, activation)
    .map((score, index) => ({ label: names[index], score: shortDecimal(score) }))
    .sort((a, b) => b.score - a.score);
}

/** `index` counts tokens, those around the text too, which are left out. */
function entities(
  rows: readonly (readonly number[])[],
  { names }: TextLabels,
  activation: TextLabels['activation'],
  { behind, first, ids }: TextTokens,
  wordOf: (id: number) => string,
) {
  return rows.flatMap((scores, index) => {
    if (index < first || index >= rows.length - behind) return [];
    const chances = activated(scores, activation);
    const best = chances.indexOf(Math.max(...chances));
    const entity = names[best] ?? '';
    if (entity === OUTSIDE) return [];
    return [
      { entity, score: shortDecimal(chances[best] ?? Number.NaN), index, word: wordOf(ids[index] ?? 0) },
    ];
  });
}
