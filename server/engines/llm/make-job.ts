/**
 * A request that fits its model → a job.
 *
 * In      the request, its prompt as ids, the model's limits
 * Out     a Job with everything resolved and checked
 * Errors  BAD_REQUEST, PROMPT_TOO_LONG
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { GREEDY_SAMPLING } from '../../../proto/control.js';
import { ServingError } from '../../../proto/errors.js';
import type { Manifest } from '../../../proto/manifest.js';
import {
  GenerationJob,
  type GenerationJobOptions,
  type TokenConstraint,
  type VectorShape,
} from '../../jobs/generation-job.js';
import type { EmbedRequest } from '../../requests/embed-request.js';
import type { GenerateRequest } from '../../requests/generate-request.js';
import { type AdmissionLimits, admitNewTokens, admitText } from './admission.js';
import { checkTokenId, resolveSampling } from './sampling.js';

export interface JobParts {
  id: number;
  request: GenerateRequest | EmbedRequest;
  promptIds: readonly number[];
  /** Where the second of two texts begins; null or absent: there is none. */
  secondTextAt?: number | null;
  info: Manifest['model'];
  /** Vectors have length 1 whatever the model says. */
  normalise: boolean;
  limits: AdmissionLimits;
  /** When the request came, before its prompt was tokenised: its deadline counts from there. */
  receivedAtMs: number;
  queuedAtMs: number;
  /** Absent: the answer is free. */
  constraint?: TokenConstraint | null;
  /** Ids of the texts that must not be written. */
  badWords?: readonly (readonly number[])[];
  /** Also to clients without a salt, who share rows with anybody. */
  reportCachedTokens?: boolean;
}

/** @throws ServingError */
export function makeJob(parts: JobParts): GenerationJob {
  const { badWords = [], constraint, id, info, limits, promptIds, queuedAtMs, receivedAtMs, request } = parts;
  return new GenerationJob({
    ...{ id, request, promptIds, queuedAtMs, receivedAtMs },
    tellsCached:
      parts.reportCachedTokens === true || (request.kind === 'generate' && request.cacheSalt !== undefined),
    ...(request.kind === 'embed'
      ? vectorPart(request, promptIds, info, limits, parts.normalise)
      : generationPart(request, promptIds, info, limits, badWords)),
    ...(constraint && { constraint }),
    ...(parts.secondTextAt != null && { secondTextAt: parts.secondTextAt }),
  });
}

type TaskPart = Pick<
  GenerationJobOptions,
  'maxNewTokens' | 'endIds' | 'sampling' | 'seed' | 'vectorShape' | 'toldPrompt'
> &
  Partial<Pick<GenerationJobOptions, 'promptIds'>>;

function generationPart(
  request: GenerateRequest,
  promptIds: readonly number[],
  info: Manifest['model'],
  limits: AdmissionLimits,
  badWords: readonly (readonly number[])[],
): TaskPart {
  const { max_new_tokens: usual } = info.generationDefaults;
  const maxNewTokens = admitNewTokens(
    promptIds.length,
    request.maxNewTokens,
    limits,
    request.usualNewTokens ?? (typeof usual === 'number' ? usual : undefined),
  );
  for (const stopId of request.stopTokenIds) checkTokenId(stopId, info.vocabSize, 'stop_token_ids');
  const { sampling, seed } = resolveSampling(request, info, maxNewTokens, random53Bits);
  const modelEnds = request.ignoreEndIds ? [] : info.endIds;
  const endIds = [...new Set([...modelEnds, ...request.stopTokenIds])];
  sampling.badWords = badWords.map((ids) => ({ ids: [...ids] }));
  const { promptLogprobs } = request;
  if (promptLogprobs === undefined) return { maxNewTokens, endIds, sampling, seed };
  if (promptIds.length === 1 && maxNewTokens === 0) {
    throw new ServingError(
      'BAD_REQUEST',
      'Of a prompt of one token nothing is told without a new token: max_tokens must be at least 1',
    );
  }
  sampling.logprob = true;
  sampling.topLogprobs = Math.max(sampling.topLogprobs, promptLogprobs);
  const toldPrompt = promptIds.slice(1);
  return {
    ...{ promptIds: promptIds.slice(0, 1), toldPrompt, maxNewTokens: maxNewTokens + toldPrompt.length },
    ...{ endIds, sampling, seed },
  };
}

function vectorPart(
  request: EmbedRequest,
  promptIds: readonly number[],
  info: Manifest['model'],
  limits: AdmissionLimits,
  normalise: boolean,
): TaskPart {
  admitText(promptIds.length, limits);
  const vectorShape = {
    ...vectorShapeOf(request.dimensions, info),
    normalise: normalise && info.embedding?.labels === undefined,
  };
  return { maxNewTokens: 0, endIds: [], sampling: GREEDY_SAMPLING, seed: 0, vectorShape };
}

function vectorShapeOf(
  asked: number | null,
  { embedding }: Manifest['model'],
): Omit<VectorShape, 'normalise'> {
  assert(embedding, 'the pool has looked at the task');
  const { dimensions, labels, normalised, shorterDimensions } = embedding;
  if (labels !== undefined) return { dimensions: null, normalised };
  if (asked === null || asked === dimensions) return { dimensions, normalised };
  const isTrained =
    shorterDimensions !== undefined &&
    asked < dimensions &&
    (shorterDimensions.length === 0 || shorterDimensions.includes(asked));
  if (isTrained) return { dimensions: asked, normalised };
  const others =
    shorterDimensions === undefined
      ? `${dimensions}: the model was not trained for shorter ones (matryoshka_dimensions of its config.json)`
      : shorterDimensions.length === 0
        ? `at most ${dimensions}`
        : `${dimensions} or one of ${shorterDimensions.join(', ')}`;
  throw new ServingError('BAD_REQUEST', `dimensions is ${asked}; vectors of this model have ${others}`);
}

/** A seed that JSON and JavaScript hold exactly. */
const random53Bits = (): number => Number(randomBytes(8).readBigUInt64LE() >> 11n);
