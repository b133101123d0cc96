/**
 * Which sampling a request gets: what it asks for wins over generation_config.json, which wins over its dialect's default.
 *
 * In      the request; the model's vocabulary size and generation defaults (manifest)
 * Out     the Sampling that goes to the workers, and the seed as told to the client
 * Errors  BAD_REQUEST: a logit bias for a token that is not in the vocabulary; more minimum than maximum new tokens
 * Pure    the random seed is an argument
 *
 * Greedy: `doSample` false, or a temperature below MIN_TEMPERATURE, wherever they come from. A request that names a temperature above 0 and says
 * nothing of do_sample wants to sample (DJLServing since 0.32). Where nothing at all is said, greedy.
 */
import type { Sampling } from '../../../proto/control.js';
import { ServingError } from '../../../proto/errors.js';
import type { ModelInfo } from '../../../proto/manifest.js';
import type { GenerateRequest, RequestSampling } from '../../requests/generate-request.js';

export interface ResolvedSampling {
  sampling: Sampling;
  /** 0 … 2^53 − 1 */
  seed: number;
}

/**
 * Below it logit / temperature leaves the range of numbers where a bias or penalty is added, and no token can be chosen; long before
 * that the best token has all of the probability.
 */
const MIN_TEMPERATURE = 1e-5;

type SamplingModel = Pick<ModelInfo, 'vocabSize' | 'generationDefaults'>;

/**
 * @param maxNewTokens of the job, resolved
 * @param randomSeed gives 0 … 2^53 − 1
 */
export function resolveSampling(
  request: GenerateRequest,
  model: SamplingModel,
  maxNewTokens: number,
  randomSeed: () => number,
): ResolvedSampling {
  const asked = request.sampling;
  const pick = layered(asked, fromGenerationConfig(model.generationDefaults), request.samplingDefaults);
  const temperature = pick('temperature') ?? 1;
  const impliedSample = asked.temperature !== undefined && asked.temperature > 0 ? true : undefined;
  const doSample = asked.doSample ?? impliedSample ?? pick('doSample') ?? false;
  const greedy = !doSample || temperature < MIN_TEMPERATURE;
  const seed = asked.seed ?? randomSeed();
  return {
    seed,
    sampling: {
      greedy,
      temperature: greedy ? 1 : temperature,
      topK: pick('topK') ?? 0,
      topP: pick('topP') ?? 1,
      minP: pick('minP') ?? 0,
      typicalP: pick('typicalP') ?? 1,
      repetitionPenalty: pick('repetitionPenalty') ?? 1,
      presencePenalty: pick('presencePenalty') ?? 0,
      frequencyPenalty: pick('frequencyPenalty') ?? 0,
      minNewTokens: minNewTokens(asked, pick('minNewTokens') ?? 0, maxNewTokens),
      seedLow: seed % 2 ** 32,
      seedHigh: Math.floor(seed / 2 ** 32),
      logitBias: checkedBias(asked.logitBias ?? {}, model.vocabSize),
      allowedIds: allowedIds(asked.allowedTokenIds ?? [], model.vocabSize),
      badWords: [],
      logprob: request.logprob || request.topLogprobs > 0,
      topLogprobs: request.topLogprobs,
    },
  };
}

/** The first layer that has the field. */
function layered(...layers: RequestSampling[]) {
  return <K extends keyof RequestSampling>(field: K): RequestSampling[K] | undefined =>
    layers.find((layer) => layer[field] !== undefined)?.[field];
}

/** Key of generation_config.json → field. Their ranges were checked when the model was split. */
const GENERATION_FIELDS: readonly (readonly [
  string,
  Exclude<keyof RequestSampling, 'doSample' | 'logitBias' | 'allowedTokenIds' | 'badWords'>,
])[] = [
  ['temperature', 'temperature'],
  ['top_k', 'topK'],
  ['top_p', 'topP'],
  ['min_p', 'minP'],
  ['typical_p', 'typicalP'],
  ['repetition_penalty', 'repetitionPenalty'],
  ['presence_penalty', 'presencePenalty'],
  ['frequency_penalty', 'frequencyPenalty'],
  ['min_new_tokens', 'minNewTokens'],
];

function fromGenerationConfig(defaults: ModelInfo['generationDefaults']): RequestSampling {
  const result: RequestSampling = {};
  for (const [key, field] of GENERATION_FIELDS) {
    const value = defaults[key];
    // −1 and 0 both mean off.
    if (typeof value === 'number') result[field] = field === 'topK' ? Math.max(0, value) : value;
  }
  if (typeof defaults.do_sample === 'boolean') result.doSample = defaults.do_sample;
  return result;
}

/** A default that is above the request's maximum gives way; a request that contradicts itself does not. */
function minNewTokens(asked: RequestSampling, wanted: number, maxNewTokens: number): number {
  if (asked.minNewTokens !== undefined && asked.minNewTokens > maxNewTokens) {
    throw new ServingError(
      'BAD_REQUEST',
      `min_new_tokens is ${asked.minNewTokens}, but the request can have at most ${maxNewTokens} new tokens`,
    );
  }
  return Math.min(wanted, maxNewTokens);
}

function checkedBias(bias: Record<number, number>, vocabSize: number): Record<number, number> {
  for (const id of Object.keys(bias)) checkTokenId(Number(id), vocabSize, 'logit_bias');
  return bias;
}

function allowedIds(ids: readonly number[], vocabSize: number): number[] {
  for (const id of ids) checkTokenId(id, vocabSize, 'allowed_token_ids');
  return [...new Set(ids)].sort((a, b) => a - b);
}

/** @throws ServingError BAD_REQUEST */
export function checkTokenId(id: number, vocabSize: number, field: string): void {
  if (Number.isInteger(id) && id >= 0 && id < vocabSize) return;
  throw new ServingError('BAD_REQUEST', `${field}: token id ${id} is not within 0 … ${vocabSize - 1}`);
}
