/**
 * A request that fits its model → a job.
 *
 * In      the request, its prompt as ids, the model's limits
 * Out     a Job with everything resolved and checked
 * Errors  BAD_REQUEST, PROMPT_TOO_LONG
 */
import { randomBytes } from 'node:crypto';
import type { Manifest } from '../../proto/manifest.js';
import { DEFAULT_PRIORITY, type GenerateRequest } from '../jobs/generate-request.js';
import { Job } from '../jobs/job.js';
import { type AdmissionLimits, admitNewTokens } from './admission.js';
import { checkTokenId, resolveSampling } from './sampling.js';

export interface JobParts {
  id: number;
  request: GenerateRequest;
  promptIds: readonly number[];
  info: Manifest['model'];
  limits: AdmissionLimits;
  /** When the request came, before its prompt was tokenised: its deadline counts from there. */
  receivedAtMs: number;
  queuedAtMs: number;
}

/** @throws ServingError */
export function makeJob({ id, info, limits, promptIds, queuedAtMs, receivedAtMs, request }: JobParts): Job {
  const maxNewTokens = admitNewTokens(promptIds.length, request.maxNewTokens, limits);
  for (const stopId of request.stopTokenIds) checkTokenId(stopId, info.vocabSize, 'stop_token_ids');
  const { sampling, seed } = resolveSampling(request, info, maxNewTokens, random53Bits);
  const modelEnds = request.ignoreEndIds ? [] : info.endIds;
  const { priority = DEFAULT_PRIORITY, timeoutMs = null } = request;
  const job = new Job({
    id,
    request,
    promptIds,
    maxNewTokens,
    endIds: [...new Set([...modelEnds, ...request.stopTokenIds])],
    sampling,
    seed,
    queuedAtMs,
    priority,
    deadlineMs: timeoutMs === null ? null : receivedAtMs + timeoutMs,
  });
  job.receivedAtMs = receivedAtMs;
  return job;
}

/** A seed that JSON and JavaScript hold exactly. */
const random53Bits = (): number => Number(randomBytes(8).readBigUInt64LE() >> 11n);
