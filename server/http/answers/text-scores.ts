/**
 * Scores of texts and of pairs of texts, whatever the dialect: labels' of a classifier, how well two texts go together.
 *
 * In      the model's status, texts or pairs, the client's AbortController
 * Out     a function that waits for all of them, once the first is accepted
 * Pairs   by a cross-encoder of one label its score; by an embedding model the cosine of both vectors, each text embedded once
 * Limits  embed-all.ts
 * Errors  ServingError; BAD_REQUEST: a classifier of tokens, or of several labels, cannot tell how two texts go together
 */
import { ServingError } from '../../../proto/errors.js';
import type { AddressedRequest } from '../../requests/addressed-request.js';
import type { EmbedRequest } from '../../requests/embed-request.js';
import type { Prompt } from '../../requests/generate-request.js';
import type { InferenceService, ModelStatus } from '../../requests/service.js';
import { activated, type TextLabels } from '../../requests/text-labels.js';
import type { Embedded } from './embed-all.js';
import { embedAll } from './embed-all.js';

export interface TextOptions {
  truncate: boolean | null;
  truncateDefault: boolean;
  /** null: no other limit than the model's. */
  maxTokens: number | null;
}

export interface ScoreRun extends TextOptions {
  service: InferenceService;
  target: Omit<AddressedRequest, 'kind'>;
  client: AbortController;
  /** Makes requests of one HTTP request tell apart in the log. */
  withOwnIds: <R extends AddressedRequest>(requests: readonly R[]) => R[];
}

/** @throws ServingError BAD_REQUEST: it is no classifier */
export function labelsOf(status: ModelStatus | undefined, name: string): TextLabels {
  if (status?.labels) return status.labels;
  const why = status?.task === 'text-embedding' ? 'an embedding model' : 'no classifier';
  throw new ServingError('BAD_REQUEST', `Model ${name} is ${why}: it has no labels`);
}

/** One each, with what the run says of texts that are too long. */
function requestsOf(
  { maxTokens, target, truncate, truncateDefault, withOwnIds }: ScoreRun,
  asked: readonly Pick<EmbedRequest, 'prompt' | 'pair' | 'scores'>[],
): EmbedRequest[] {
  const options = { truncate, truncateDefault, maxTokens, dimensions: null };
  return withOwnIds(asked.map((one): EmbedRequest => ({ ...target, kind: 'embed', ...one, ...options })));
}

const textPrompt = (text: string) => ({ kind: 'text', text }) as const;

/** Raw scores of each text, or of its tokens in turn. */
export function scoreTexts(
  run: ScoreRun,
  texts: readonly Exclude<Prompt, { kind: 'chat' }>[],
): Promise<() => Promise<Embedded<readonly number[]>>> {
  const asked = texts.map((prompt) => ({ prompt, scores: true }));
  return embedAll(run.service, requestsOf(run, asked), run.client, (vector) => vector);
}

/** How well both texts of each pair go together. @throws ServingError */
export async function scorePairs(
  run: ScoreRun,
  status: ModelStatus | undefined,
  pairs: readonly (readonly [string, string])[],
): Promise<() => Promise<Embedded<number>>> {
  const labels = status?.labels ?? null;
  if (labels === null) return cosines(run, pairs);
  if (labels.perToken || labels.names.length !== 1) {
    const has = labels.perToken ? 'scores tokens' : `has ${labels.names.length} labels`;
    const sentence = `Model ${status?.name} ${has}: how two texts go together is told by a cross-encoder of one label, or by an embedding model`;
    throw new ServingError('BAD_REQUEST', sentence);
  }
  const asked = pairs.map(([text, pair]) => ({ prompt: textPrompt(text), pair, scores: true }));
  return embedAll(
    run.service,
    requestsOf(run, asked),
    run.client,
    (vector) => activated(vector, labels.pairActivation)[0] ?? Number.NaN,
  );
}

async function cosines(
  run: ScoreRun,
  pairs: readonly (readonly [string, string])[],
): Promise<() => Promise<Embedded<number>>> {
  const texts = [...new Set(pairs.flat())];
  const asked = texts.map((text) => ({ prompt: textPrompt(text) }));
  const collect = await embedAll(run.service, requestsOf(run, asked), run.client, (vector) => vector);
  return async () => {
    const { promptTokens, vectors } = await collect();
    const byText = new Map(texts.map((text, index) => [text, vectors[index] ?? []]));
    const score = ([first, second]: readonly [string, string]): number =>
      cosine(byText.get(first) ?? [], byText.get(second) ?? []);
    return { promptTokens, vectors: pairs.map(score) };
  };
}

function cosine(a: readonly number[], b: readonly number[]): number {
  const product = a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
  const lengths = Math.hypot(...a) * Math.hypot(...b);
  return lengths > 0 ? product / lengths : 0;
}
